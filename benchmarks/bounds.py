"""How much memory one worker takes when things go wrong, against its steady state.

    FLASHCAST_TEST_KAFKA=.../kafka python -m benchmarks.bounds [--flood 1000000] [--json]

A real worker process on Apache Kafka, default settings, 4 partitions, forecasts and decisions on:
at ease; catching up; with a broker that answers a quarter of the time; with a model that is asked
sixty times as often, for ten times as many SKUs; and under a flood of SKUs that nobody has ever
seen, admitted up to the limit or by the catalog alone. Each gets a worker of its own; its resident
set is sampled from /proc. Checks that queues, outputs and rows kept their bounds and that no event
of a catalogued SKU was refused. Writes benchmarks/results/bounds.json.
"""

import argparse
import asyncio
import json
import logging
import random
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec
from kafka.admin import KafkaAdminClient, NewTopic

from benchmarks.drills.brokers import LAUNCHER, Cluster
from benchmarks.drills.fleet import Worker
from benchmarks.drills.waiting import until
from streams import topics
from streams.admission import UNCATALOGUED_SHARE
from streams.publish import Publisher
from streams.records import CatalogEntry, StockLevel
from streams.settings import Settings, load

RESULTS = Path(__file__).parent / "results" / "bounds.json"
PARTITIONS = 4
EVENTS_PER_S = 2_000  # of event time
CHUNK = 10_000
SAMPLE_S = 0.2
WATCHED_S = 25.0
FLOOD_S = 75.0
QUEUE_BYTES_MAX = len(topics.INPUT_TOPICS) * PARTITIONS * 8 * 2**20
SLACK = 1.5  # of one bucket's or origin's outputs over the bound

Keyed = tuple[bytes, bytes]


@dataclass
class Row:
    """One case. Memory in MB, queues and outputs at their greatest; `lag` is what was not fetched
    at the end.
    """

    name: str
    seconds: float = 0.0
    events_per_s: int = 0
    lag: int = 0
    rss_ready_mb: int = 0
    rss_peak_mb: int = 0
    to_steady: float = 0.0
    queue_mb: float = 0.0
    outputs_mb: float = 0.0
    skus: int = 0
    applied: int = 0
    dead_letters: int = 0


def sale(events: int, skus: int, start_ms: int, seed: int) -> Iterator[tuple[str, Keyed]]:
    """Events of catalogued SKUs, in order of event time."""
    chance = random.Random(seed)
    for number in range(events):
        topic = chance.choices(topics.EVENT_TOPICS, (80, 15, 5))[0]
        name = f"SKU-{int(skus * chance.random() ** 2):06d}"
        at_ms = start_ms + number * 1_000 // EVENTS_PER_S
        units = b"" if topic == topics.CLICKS else b'"quantity":1,'
        yield (
            topic,
            (
                name.encode(),
                b'{"event_id":"e%d","sku":"%s","user_id":"u%d",%s"event_time_ms":%d,"price_cents":900}'
                % (number, name.encode(), number % 5_000, units, at_ms),
            ),
        )


def flood(count: int, start_ms: int) -> Iterator[tuple[str, Keyed]]:
    """As many clicks, each of a SKU of its own, within a minute."""
    for number in range(count):
        sku = b"FLOOD-%08d" % number
        at_ms = start_ms + number * 60_000 // count
        yield (
            topics.CLICKS,
            (
                sku,
                b'{"event_id":"f%d","sku":"%s","user_id":"u","event_time_ms":%d,"price_cents":1}'
                % (number, sku, at_ms),
            ),
        )


async def publish(
    settings: Settings, events: Iterator[tuple[str, Keyed]], per_s: float | None = None
) -> int:
    """All of them, at once or at a rate; how many."""
    began, count = time.monotonic(), 0
    size = CHUNK if per_s is None else int(per_s // 10)
    async with Publisher(settings) as publisher:
        several: dict[str, list[Keyed]] = {topic: [] for topic in topics.EVENT_TOPICS}
        for topic, record in events:
            several[topic].append(record)
            count += 1
            if count % size == 0:
                for name, records in several.items():
                    await publisher.publish(name, records)
                    records.clear()
                if per_s is not None:
                    await asyncio.sleep(max(0.0, began + count / per_s - time.monotonic()))
        for name, records in several.items():
            await publisher.publish(name, records)
        await publisher.flush()
    return count


async def publish_references(settings: Settings, skus: int, start_ms: int) -> None:
    end_ms = start_ms + 7_200_000
    async with Publisher(settings) as publisher:
        for first in range(0, skus, CHUNK):
            numbers = range(first, min(first + CHUNK, skus))
            names = [f"SKU-{number:06d}" for number in numbers]
            await publisher.publish_reference(
                CatalogEntry(
                    sku, "t", "c", 1_000, 400, 500, 1_500, 600_000, start_ms - 60_000, end_ms
                )
                for sku in names
            )
            await publisher.publish_reference(StockLevel(sku, 500, 0, start_ms) for sku in names)
        await publisher.flush()


class Watch:
    """A worker's memory and queues from when it is ready until the block ends."""

    def __init__(self, worker: Worker, row: Row) -> None:
        self._worker = worker
        self._row = row
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> "Watch":
        self._row.rss_ready_mb = self._rss_mb()
        self._began = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        row, worker = self._row, self._worker
        row.seconds = round(time.monotonic() - self._began, 1)
        self._stop.set()
        self._thread.join()
        row.lag = int(worker.metric("flashcast_consumer_lag_records"))
        row.skus = int(worker.metric("flashcast_skus_tracked"))
        row.dead_letters = int(worker.metric("flashcast_dead_letters_total"))
        row.applied = self.judged() - row.dead_letters
        row.events_per_s = round(self.judged() / row.seconds)

    def judged(self) -> int:
        """Events that were processed."""
        references = worker_references(self._worker)
        return int(self._worker.metric("flashcast_events_total")) - references

    def _rss_mb(self) -> int:
        for line in Path(f"/proc/{self._worker.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) // 1_024
        return 0

    def _sample(self) -> None:
        row, rounds = self._row, 0
        while not self._stop.wait(SAMPLE_S):
            row.rss_peak_mb = max(row.rss_peak_mb, self._rss_mb())
            rounds += 1
            if rounds % 5 == 0:
                queued = self._worker.metric("flashcast_queue_bytes") / 2**20
                waiting = self._worker.metric("flashcast_outputs_waiting_bytes") / 2**20
                row.queue_mb = round(max(row.queue_mb, queued), 1)
                row.outputs_mb = round(max(row.outputs_mb, waiting), 1)


def worker_references(worker: Worker) -> int:
    """Reference records among those that it counts as events."""
    lines = [line for line in worker.metrics() if line.startswith("flashcast_events_total{")]
    wanted = [f'topic="{topic}"' for topic in topics.REFERENCE_TOPICS]
    return sum(int(float(line.split()[-1])) for line in lines if any(w in line for w in wanted))


class Bench:
    """One broker; every case has topics, a worker and a disk of its own."""

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        self._folder = folder
        self._cluster = cluster
        self.rows: list[Row] = []

    def settings(self, name: str) -> Settings:
        made = load(
            bootstrap_servers=self._cluster.bootstrap_servers,
            topic_prefix=f"{name}-",
            data_dir=self._folder / name,
            partitions=PARTITIONS,
            clock="event",
        )
        admin = KafkaAdminClient(bootstrap_servers=made.bootstrap_servers)
        try:
            plans = topics.plans(made.topic_prefix, made.application)
            admin.create_topics(
                [
                    NewTopic(one.name, one.partitions or PARTITIONS, 1, topic_configs=one.config)
                    for one in plans
                ]
            )
        finally:
            admin.close()
        return made

    def case(
        self,
        settings: Settings,
        name: str,
        during: Callable[[Worker, Watch], None],
        **variables: str,
    ) -> Row:
        """Start a worker, let `during` happen to it, note what it took."""
        row = Row(name)
        worker = Worker(settings, self._folder / f"{name}.log", variables)
        try:
            until(lambda: worker.probe("/readyz") == 200, 120, f"{name}: ready")
            with Watch(worker, row) as watch:
                during(worker, watch)
            assert worker.running, worker.said()[-2_000:]
        finally:
            worker.kill()
        self.rows.append(row)
        row.to_steady = round(row.rss_peak_mb / self.rows[0].rss_peak_mb, 2)
        limit_mb = PARTITIONS * settings.outputs_bytes_max / 2**20
        assert row.queue_mb * 2**20 < QUEUE_BYTES_MAX, row
        assert row.outputs_mb < limit_mb * SLACK or name == "flood", row
        print(json.dumps(asdict(row)), flush=True)
        return row

    def steady(self, now_ms: int) -> None:
        settings = self.settings("steady")
        asyncio.run(publish_references(settings, 1_000, now_ms))
        count = int(WATCHED_S * EVENTS_PER_S)

        def live(worker: Worker, _: Watch) -> None:
            events = sale(count, 1_000, int(time.time() * 1_000), 1)
            asyncio.run(publish(settings, events, EVENTS_PER_S))

        self.case(settings, "steady", live)

    def catching_up(self, name: str, now_ms: int, events: int, frozen_s: float) -> None:
        settings = self.settings(name.replace(" ", "-"))
        start_ms = now_ms - events * 1_000 // EVENTS_PER_S
        asyncio.run(publish_references(settings, 1_000, start_ms))
        asyncio.run(publish(settings, sale(events, 1_000, start_ms, 2)))

        def watched(worker: Worker, watch: Watch) -> None:
            ends = time.monotonic() + WATCHED_S
            while time.monotonic() < ends and watch.judged() < events:
                if frozen_s:
                    self._cluster.freeze(0)
                    time.sleep(frozen_s)
                    self._cluster.thaw(0)
                time.sleep(frozen_s / 3 or SAMPLE_S)

        self.case(settings, name, watched)

    def slow_model(self, now_ms: int, events: int) -> None:
        settings = self.settings("slow-model")
        start_ms = now_ms - events * 1_000 // EVENTS_PER_S
        asyncio.run(publish_references(settings, 10_000, start_ms))
        asyncio.run(publish(settings, sale(events, 10_000, start_ms, 3)))
        often = {"FLASHCAST_BUCKET_MS": "1000", "FLASHCAST_FORECAST_INTERVAL_MS": "1000"}
        row = self.case(settings, "slow model", lambda *_: time.sleep(WATCHED_S), **often)
        assert row.applied < events, "the model was not slow enough to tell"

    def flood(self, now_ms: int, count: int) -> None:
        known = 20_000
        for name, admission in (("flood", "all"), ("flood, catalog only", "catalog")):
            settings = self.settings(f"flood-{admission}")
            asyncio.run(publish_references(settings, 1_000, now_ms))
            total = asyncio.run(publish(settings, sale(known, 1_000, now_ms, 4)))
            total += asyncio.run(publish(settings, flood(count, now_ms + 5_000)))

            def watched(worker: Worker, watch: Watch, total: int = total) -> None:
                ends = time.monotonic() + FLOOD_S
                while time.monotonic() < ends and watch.judged() < total:
                    time.sleep(1)

            row = self.case(settings, name, watched, FLASHCAST_ADMISSION=admission)
            uncatalogued = settings.skus_max // UNCATALOGUED_SHARE if admission == "all" else 0
            assert row.skus <= 1_000 + PARTITIONS * uncatalogued, row
            if row.lag == 0:
                kept = min(count, PARTITIONS * uncatalogued)
                assert row.applied >= known + 0.9 * kept, row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--flood", type=int, default=1_000_000)
    parser.add_argument("--backlog", type=int, default=400_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not LAUNCHER:
        print("left out: FLASHCAST_TEST_KAFKA does not name a launcher of Apache Kafka")
        return
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # topics are new: it retries
    folder = Path(tempfile.mkdtemp(prefix="flashcast-bounds-"))
    cluster = Cluster(folder / "kafka")
    try:
        cluster.start()
        bench, now_ms = Bench(folder, cluster), int(time.time() * 1_000)
        bench.steady(now_ms)
        bench.catching_up("catching up", now_ms, options.backlog, 0.0)
        bench.catching_up("slow broker", now_ms, options.backlog, 0.9)
        bench.slow_model(now_ms, 3 * options.backlog)
        bench.flood(now_ms - 120_000, options.flood)
    finally:
        cluster.stop(kill=True)
        shutil.rmtree(folder, ignore_errors=True)
    RESULTS.parent.mkdir(exist_ok=True)
    rows = [asdict(row) for row in bench.rows]
    RESULTS.write_bytes(msgspec.json.format(msgspec.json.encode(rows), indent=2) + b"\n")
    if options.json:
        print(json.dumps(rows))
        return
    print(f"{'':<22}{'peak MB':>8}{'x':>6}{'queue':>8}{'outputs':>9}{'SKUs':>9}{'events/s':>10}")
    for row in bench.rows:
        print(
            f"{row.name:<22}{row.rss_peak_mb:>8}{row.to_steady:>6}{row.queue_mb:>8}"
            f"{row.outputs_mb:>9}{row.skus:>9,}{row.events_per_s:>10,}"
        )


if __name__ == "__main__":
    main()
