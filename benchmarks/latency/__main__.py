"""How long an answer takes while the sale is on: `python -m benchmarks.latency`.

One `flashcast worker` with its usual settings, forecasts, decisions, a catalog and stock of all
SKUs, exactly once on Apache Kafka (which the launcher named by FLASHCAST_TEST_KAFKA starts); beside
it a shop that publishes clicks, carts and orders as they happen, `--rate` events a second in
batches of 20 ms (load.py), and a `read_committed` subscriber (subscriber.py). All answers are
checked: each window and forecast there, once, and right.

- Latency of a window: from the moment when its bucket could close until the subscriber has it. A
  bucket of partition p can close once clicks p, carts p and orders p each hold an event at least
  `allowed_lateness_ms` behind its end; the moment is when the broker appended the last of the three
  (its own stamp, before it acknowledges). No topic is silent, so nothing is closed by idleness.
- Latency of a forecast, restock or price: the same for the bucket that ends at its origin.
- From event to window: `flashcast_apply_delay_seconds` of the worker, from the broker's stamp of
  the oldest record of a slice until the slice is in its windows. Upper bounds, by the buckets of
  the histogram.

The first `--warm-up` seconds are left out. Everything shares the machine's cores, and the clock.
Prints a table, and writes results/latency.json when nothing is changed but the rate.
"""

import asyncio
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import typer
from kafka.admin import KafkaAdminClient, NewTopic
from rich.console import Console
from rich.table import Table

from benchmarks.drills.brokers import LAUNCHER, Cluster
from benchmarks.drills.fleet import ROOT, Worker
from benchmarks.latency import figures
from benchmarks.latency.figures import ANSWERS, NOT_YET, Answers, Rhythm
from benchmarks.latency.sale import Sale
from benchmarks.latency.subscriber import Subscriber
from benchmarks.throughput.processes import Usage
from benchmarks.throughput.topics import load_references
from benchmarks.throughput.workload import PARTITIONS, TOPICS, Int64s
from streams import topic_admin
from streams.settings import Settings, load
from streams.topics import DEMAND_WINDOWS

RESULTS = Path(__file__).parents[1] / "results" / "latency.json"
RATE, SECONDS, SKUS, WARM_UP_S = 30_000, 240, 10_000, 60
APPLY_DELAY = "flashcast_apply_delay_seconds"
CHECKPOINT = "flashcast_checkpoint_duration_seconds"
READY_TIMEOUT_S = 180.0
LAST_ANSWERS_S = 3.0
STAMPED = {"message.timestamp.type": "LogAppendTime"}

Row = dict[str, Any]


def main(
    rate: Annotated[int, typer.Option(help="Events a second.")] = RATE,
    seconds: Annotated[int, typer.Option(help="Of the sale, warm-up included.")] = SECONDS,
    skus: int = SKUS,
    warm_up: Annotated[int, typer.Option(help="Seconds that are left out.")] = WARM_UP_S,
    results: Annotated[Path | None, typer.Option(help="Where the figures go.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The figures on stdout.")] = False,
    keep: Annotated[bool, typer.Option(help="Keep logs and state.")] = False,
) -> None:
    """Latency of every answer under a steady load."""
    console = Console(stderr=as_json)
    if not LAUNCHER:
        console.print("left out: FLASHCAST_TEST_KAFKA names no launcher of Apache Kafka")
        return
    folder = Path(tempfile.mkdtemp(prefix="flashcast-latency-"))
    cluster = Cluster(folder / "kafka", heap="1g")
    try:
        cluster.start()
        settings = load(bootstrap_servers=cluster.bootstrap_servers, data_dir=folder / "data")
        row = asyncio.run(measured(settings, folder, rate, seconds, skus, 1_000 * warm_up))
    finally:
        cluster.stop(kill=True)
        if keep:
            console.print(f"logs and state: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    console.print(table(row))
    if results or (seconds, skus, warm_up) == (SECONDS, SKUS, WARM_UP_S):
        (results or RESULTS).write_text(json.dumps(row, indent=2) + "\n")
    if as_json:
        print(json.dumps(row, indent=2))
    raise typer.Exit(1 if row["problems"] else 0)


async def measured(
    settings: Settings, folder: Path, rate: int, seconds: int, skus: int, warm_up_ms: int
) -> Row:
    """One sale, from creating the topics to the figures."""
    create_topics(settings)
    await asyncio.to_thread(load_references, settings, skus, round(1_000 * time.time()))
    worker = Worker(settings, folder / "worker.log", {})
    usage = Usage(worker.process.pid)
    subscriber = Subscriber()
    following = asyncio.create_task(subscriber.follow(settings))
    try:
        await ready(worker)
        bucket_ms = settings.bucket_ms
        start_ms = (round(1_000 * time.time()) // bucket_ms + 1) * bucket_ms
        sale = Sale(start_ms, seconds, rate, skus)
        batches, looks = await published(sale, settings, folder, worker, warm_up_ms)
        await asyncio.sleep(LAST_ANSWERS_S)
        assert not following.done(), "the subscriber has failed"
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        usage.stop()
        if worker.running:
            worker.terminate()
    begin_s, end_s = (start_ms + warm_up_ms) / 1_000, sale.end_ms / 1_000
    row: Row = {"rate_per_s": rate, "seconds": seconds, "skus": skus}
    row["cpus"], row["load"] = os.cpu_count(), round(os.getloadavg()[0], 2)
    row["worker_cores"] = round(usage.cpu_s(begin_s, end_s) / (end_s - begin_s), 3)
    row["behind_ms"] = figures.summary(batches[:, 4].astype(np.float64))
    row["apply"], row["checkpoint"] = (
        figures.histogram_summary(*(figures.histogram(look, name) for look in looks))
        for name in (APPLY_DELAY, CHECKPOINT)
    )
    return row | judged(subscriber.answers(), batches, sale, settings, warm_up_ms)


def create_topics(settings: Settings) -> None:
    """The events' own with the broker's stamps; the rest as `flashcast topics create` does."""
    admin = KafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
    names = [settings.topic(name) for name in TOPICS]
    admin.create_topics([NewTopic(name, PARTITIONS, 1, topic_configs=STAMPED) for name in names])
    admin.close()
    topic_admin.create(settings)


async def ready(worker: Worker) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while await asyncio.to_thread(worker.probe, "/readyz") != 200:
        assert worker.running and time.monotonic() < deadline, worker.said()
        await asyncio.sleep(0.2)


async def metrics(worker: Worker) -> list[str]:
    """A busy worker may not answer at once."""
    while not (lines := await asyncio.to_thread(worker.metrics)):
        assert worker.running, worker.said()
    return lines


async def published(
    sale: Sale, settings: Settings, folder: Path, worker: Worker, warm_up_ms: int
) -> tuple[Int64s, list[list[str]]]:
    """The shop's batches, and what the worker's metrics said after the warm-up and at the end."""
    out = folder / "batches.npy"
    told = msgspec.json.encode(sale).decode()
    arguments = [told, settings.bootstrap_servers, settings.topic_prefix, str(out)]
    command = [sys.executable, "-m", "benchmarks.latency.load", *arguments]
    shop = await asyncio.create_subprocess_exec(*command, cwd=ROOT)
    try:
        await asyncio.sleep((sale.start_ms + warm_up_ms) / 1_000 - time.time())
        looks = [await metrics(worker)]
        ended = await shop.wait()
        assert ended == 0, f"the shop ended with {ended}"
        looks.append(await metrics(worker))
    finally:
        if shop.returncode is None:
            shop.kill()
            await shop.wait()
    return np.load(out), looks


def judged(
    answers: dict[str, Answers], batches: Int64s, sale: Sale, settings: Settings, warm_up_ms: int
) -> Row:
    """Latencies by kind of answer, and what is wrong with the answers."""
    rhythm = Rhythm(settings.bucket_ms, settings.allowed_lateness_ms, settings.forecast_interval_ms)
    right = figures.counted(sale, rhythm.bucket_ms)
    ends_ms = sale.start_ms + (np.arange(len(right)) + 1) * rhythm.bucket_ms
    closable_ms = figures.closable_ms(batches, ends_ms, rhythm.allowed_lateness_ms)
    buckets = int((closable_ms != NOT_YET).all(axis=0).sum())
    row: Row = {"answers": {}}
    for name in ANSWERS:
        one = answers[name]
        end_ms = one.moment_ms + (rhythm.bucket_ms if name == DEMAND_WINDOWS else 0)
        bucket = (end_ms - sale.start_ms) // rhythm.bucket_ms - 1
        chosen = (bucket < buckets) & (end_ms > sale.start_ms + warm_up_ms)
        could_ms = closable_ms[one.partition[chosen], bucket[chosen]]
        row["answers"][name] = figures.summary(one.readable_ms[chosen] - could_ms) | {
            "sent": figures.summary((one.sent_ms[chosen] - could_ms).astype(np.float64))
        }
    row["problems"] = list(figures.problems(answers, right, sale, rhythm, buckets))
    return row


def table(row: Row) -> Table:
    """Milliseconds; `sent` is when the worker's transaction had begun."""
    title = f"{row['rate_per_s']:,} events/s, {row['skus']:,} SKUs, load {row['load']}"
    caption = "; ".join(row["problems"]) or "every answer there, once, and right"
    shown = Table(title=title, caption=f"{caption}; worker {row['worker_cores']} cores")
    for column in ("", "n", "p50", "p99", "p99.9", "max"):
        shown.add_column(column, justify="right" if column else "left")
    lines = [(name, one) for name, one in row["answers"].items()]
    lines += [(f"  {name}, sent", one["sent"]) for name, one in row["answers"].items()]
    lines += [("event to window, up to", row["apply"]), ("checkpoint, up to", row["checkpoint"])]
    for name, one in [*lines, ("the shop behind its time", row["behind_ms"])]:
        values = (one[key] for key in ("p50_ms", "p99_ms", "p999_ms", "max_ms"))
        shown.add_row(name, f"{one['n']:,}", *("-" if v is None else f"{v:,.1f}" for v in values))
    return shown


if __name__ == "__main__":
    typer.run(main)
