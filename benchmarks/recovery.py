"""How fast state comes back: `python -m benchmarks.recovery`, on Apache Kafka.

A million SKUs in four partitions (`--skus`, `--partitions`), each with an event at least, written
by the pipeline and the emitter of a worker: events, changelog, `demand-windows`, local copy.
Then each partition is opened as a worker opens it (`Opening.open`: rows, history, event ids), one
after the other: from the changelog, from the local copy, and from a local copy that the page cache
has lost. Beside each: how long the mere bytes take, read from the broker without looking into them,
and from the disk file by file. Interleaved rounds, medians.

What was opened must be what was written: every row, the marker, the units in the history.

`KAFKA_BOOTSTRAP_SERVERS`, or a broker that the launcher named by `FLASHCAST_TEST_KAFKA` starts.
Writes benchmarks/results/recovery.json; `--quick`: 4,000 SKUs, one round, nothing written.
"""

import argparse
import asyncio
import hashlib
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from aiokafka import AIOKafkaProducer
from kafka.admin import KafkaAdminClient, NewTopic

from benchmarks.pipeline import EVENTS_PER_S, event_batches, spread_ms, zipf
from benchmarks.takeover import broker, parts
from streams import topics
from streams.batcher import Batcher
from streams.cluster import Cluster
from streams.codec.decode import Fetch
from streams.fetch_seam import seam_problem
from streams.opening import Opening, load_forecaster
from streams.owned import Owned
from streams.pipeline import Pipeline
from streams.settings import Settings, load
from streams.state.marker import Marker
from streams.state.partition_reader import PartitionReader
from streams.state.places import copy_folder
from streams.topics import CHANGELOG, DEMAND_WINDOWS, EVENT_TOPICS

RESULTS = Path(__file__).with_name("results") / "recovery.json"
SEED = 7
KINDS = ("changelog", "local copy", "local copy, cold")
TAKE_BYTES = QUEUED_BYTES = 2**20  # outputs in a checkpoint, about; of one topic in the queue

Row = dict[str, Any]


@dataclass(frozen=True)
class Written:
    """One partition as it was left: `answer` is what a restore must give."""

    answer: str
    marker: Marker


def answer(pipeline: Pipeline) -> str:
    """A digest of every row, the marker, and the units in the history; uses the pipeline up."""
    windows = pipeline.windows
    rows = pipeline.skus.used(0, pipeline.skus.size)
    windows.dirty[rows] = True
    units = windows.units_between(rows, windows.history_start_ms)
    checkpoint = pipeline.take()
    order = sorted(range(len(rows)), key=checkpoint.names.__getitem__)
    digest = hashlib.sha256(checkpoint.rows[order].tobytes())
    digest.update(units[order].tobytes())
    digest.update(b"\n".join(checkpoint.names[at] for at in order))
    core = checkpoint.marker.core
    counts = [[key, count] for key, count in core["counts"] if count]
    told = [checkpoint.marker.offsets, core["windows"], counts, core["decider"]["memory"]]
    digest.update(json.dumps(told).encode())
    return digest.hexdigest()


async def publish(settings: Settings, partition: int, skus: int, start_ms: int) -> None:
    """Every SKU once, and a quarter as many events again, of popular ones."""
    random = np.random.default_rng(SEED + partition)
    popular = random.choice(skus, skus // 4, p=zipf(skus))
    sku = random.permutation(np.concatenate([np.arange(skus), popular]))
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.bootstrap_servers, enable_idempotence=True
    )
    await producer.start()
    at_ms = spread_ms(len(sku), start_ms, EVENTS_PER_S)
    timestamp_ms = int(at_ms[-1]) + 2_000
    for topic, batches in event_batches(sku, at_ms, random).items():
        for batch in batches:
            builder = batch.builder(timestamp_ms, transactional=False)
            await producer.send_batch(builder, settings.topic(topic), partition=partition)
    await producer.stop()


async def write(settings: Settings, opening: Opening, partition: int) -> Written:
    """Processes what was published, checkpoint by checkpoint, as a worker does."""
    owned = await opening.open(partition)
    pipeline, batcher = owned.pipeline, Batcher(load_forecaster(settings))
    async with Cluster(settings).reader(partition) as reader:
        waiting = {name: [one async for one in _whole(reader, name)] for name in EVENT_TOPICS}
    while any(waiting.values()):
        for topic, several in waiting.items():
            if several and pipeline.queued_bytes(topic) < QUEUED_BYTES:
                pipeline.offer(several.pop(0))
        while pipeline.work(0, 0) or batcher.tick([pipeline], time.time_ns() // 1_000_000):
            if pipeline.outputs_bytes > TAKE_BYTES:
                await _commit(owned)
    marker = await _commit(owned)
    await owned.emitter.stop()
    return Written(answer(pipeline), marker)


async def _whole(reader: PartitionReader, topic: str) -> AsyncIterator[Fetch]:
    bounds = await reader.bounds([topic])
    async for fetch in reader.read(topic, *bounds[topic]):
        yield fetch


async def _commit(owned: Owned) -> Marker:
    checkpoint = owned.pipeline.take()
    result = await owned.emitter.commit(checkpoint)
    first = result.first_offsets.get(DEMAND_WINDOWS)
    owned.emitter.forget(owned.pipeline.committed(first))
    return checkpoint.marker


async def opened(settings: Settings, opening: Opening, partition: int, kind: str) -> Row:
    """One partition by one kind of restore, and what was found."""
    folder = copy_folder(settings, partition)
    if kind == "changelog":
        shutil.rmtree(folder)
    elif kind == "local copy, cold":
        forget_pages(folder)
    began = time.perf_counter()
    owned = await opening.open(partition)
    seconds = time.perf_counter() - began
    await owned.emitter.stop()
    return {"seconds": seconds, "rows": len(owned.pipeline.skus), "answer": answer(owned.pipeline)}


def forget_pages(folder: Path) -> None:
    """Lets the page cache go of the files there."""
    for file in _files(folder):
        with file.open("rb") as opened_file:
            os.fdatasync(opened_file.fileno())
            os.posix_fadvise(opened_file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


def read_files(folder: Path) -> Row:
    """The files there, one after the other."""
    began, size = time.perf_counter(), 0
    for file in _files(folder):
        with file.open("rb", buffering=0) as opened_file:
            while chunk := opened_file.read(2**20):
                size += len(chunk)
    return {"seconds": time.perf_counter() - began, "bytes": size}


async def read_log(settings: Settings, partition: int, marker: Marker, *, rows: bool) -> Row:
    """The bytes that a restore reads of the broker, unread: batches checked, no record looked at.
    Without `rows` the changelog is left out.
    """
    began, size = time.perf_counter(), 0
    async with Cluster(settings).reader(partition) as reader:
        bounds = await reader.bounds([CHANGELOG, DEMAND_WINDOWS, *EVENT_TOPICS])
        ranges = {topic: (bounds[topic].start, marker.offsets[topic]) for topic in EVENT_TOPICS}
        ranges[DEMAND_WINDOWS] = (marker.history_offset, bounds[DEMAND_WINDOWS].end)
        if rows:
            ranges[CHANGELOG] = bounds[CHANGELOG]
        for topic, (begin, end) in ranges.items():
            async for fetch in reader.read(topic, begin, end):
                size += len(fetch.data)
    return {"seconds": time.perf_counter() - began, "bytes": size}


async def measure(settings: Settings, skus: int, rounds: int) -> Row:
    """Everything, on topics of its own: all partitions one after the other in each figure."""
    numbers = range(settings.partitions)
    start_ms = time.time_ns() // 1_000_000 - topics.DAY_MS
    found: dict[str, list[Row]] = {}
    async with parts(settings, settings.partitions) as (opening, _, _):
        written = []
        for number in numbers:
            await publish(settings, number, skus // settings.partitions, start_ms)
            written.append(await write(settings, opening, number))
            print(f"partition {number} is written")
        for _ in range(rounds):
            for kind in KINDS:
                several = [await opened(settings, opening, number, kind) for number in numbers]
                assert [one["answer"] for one in several] == [one.answer for one in written], kind
                found.setdefault(kind, []).append(_summed(several))
            for name, rows in (("all it reads", True), ("without rows", False)):
                several = [
                    await read_log(settings, number, one.marker, rows=rows)
                    for number, one in enumerate(written)
                ]
                found.setdefault(f"broker, {name}", []).append(_summed(several))
            folder = settings.data_dir / "state"
            found.setdefault("disk, cached", []).append(read_files(folder))
            forget_pages(folder)
            found.setdefault("disk, cold", []).append(read_files(folder))
    return {name: _figures(several) for name, several in found.items()}


def _summed(several: list[Row]) -> Row:
    return {key: sum(one[key] for one in several) for key in several[0] if key != "answer"}


def _figures(rounds: list[Row]) -> Row:
    """Medians, with the extremes of the seconds."""
    seconds = [one["seconds"] for one in rounds]
    median = statistics.median(seconds)
    row: Row = {
        "seconds": round(median, 3),
        "seconds_min": round(min(seconds), 3),
        "seconds_max": round(max(seconds), 3),
    }
    if "rows" in rounds[0]:
        row["rows_per_s"] = round(rounds[0]["rows"] / median)
    if "bytes" in rounds[0]:
        row["mb"] = round(rounds[0]["bytes"] / 1e6, 1)
        row["mb_per_s"] = round(rounds[0]["bytes"] / 1e6 / median)
    return row


def table(result: Row) -> Iterator[str]:
    yield f"{result['skus']:,} SKUs in {result['partitions']} partitions, load {result['load']}"
    for name, one in result["figures"].items():
        rate = f"{one['rows_per_s']:10,d} rows/s" if "rows_per_s" in one else ""
        rate = rate or f"{one['mb_per_s']:10,d} MB/s of {one['mb']:,.0f} MB"
        yield (
            f"{name:22s} {one['seconds']:7.2f} s "
            f"({one['seconds_min']:.2f} to {one['seconds_max']:.2f}) {rate}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--skus", type=int, default=1_000_000, help="to restore (1000000)")
    parser.add_argument("--partitions", type=int, default=4, help="they lie in (4)")
    parser.add_argument("--rounds", type=int, default=3, help="of each restore (3)")
    parser.add_argument("--quick", action="store_true", help="4000 SKUs once, nothing written")
    chosen = parser.parse_args()
    if not {"KAFKA_BOOTSTRAP_SERVERS", "FLASHCAST_TEST_KAFKA"} & os.environ.keys():
        print("left out: neither KAFKA_BOOTSTRAP_SERVERS nor FLASHCAST_TEST_KAFKA is set")
        return
    if problem := seam_problem():
        print(f"raw answers cannot be had, restores are slower: {problem}")
    skus, rounds = (4_000, 1) if chosen.quick else (chosen.skus, chosen.rounds)
    with tempfile.TemporaryDirectory() as name, broker(Path(name)) as address:
        settings = load(
            bootstrap_servers=address,
            topic_prefix=f"bench-{os.getpid()}-",
            partitions=chosen.partitions,
            partitioner="none",
            data_dir=Path(name),
            skus_max=max(100, 5 * skus // chosen.partitions),  # without a catalog: a quarter of it
        )
        result = run(settings, skus, rounds)
    print("\n".join(table(result)))
    if not chosen.quick:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(result, indent=2) + "\n")


def run(settings: Settings, skus: int, rounds: int) -> Row:
    """On topics that are made for it and deleted again."""
    admin = KafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
    plans = topics.plans(settings.topic_prefix)
    count = settings.partitions
    admin.create_topics(
        [NewTopic(one.name, one.partitions or count, 1, topic_configs=one.config) for one in plans]
    )
    try:
        load_before = round(os.getloadavg()[0], 2)
        figures = asyncio.run(measure(settings, skus, rounds))
    finally:
        admin.delete_topics([one.name for one in plans])
        admin.close()
    return {"skus": skus, "partitions": count, "load": load_before, "figures": figures}


if __name__ == "__main__":
    main()
