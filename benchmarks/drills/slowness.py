"""Consumers that cannot keep up: a worker that gets a fiftieth of its time, and a subscriber."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterable

from kafka import KafkaConsumer, TopicPartition

from benchmarks.drills.drill import Drill, Row
from benchmarks.drills.stage import Moment, Stage
from benchmarks.drills.waiting import until
from benchmarks.drills.workload import Workload

SLOW_S, SLOW_QUICK_S = 40.0, 5.0
STOPPED_S, RUNNING_S = 1.0, 0.02
GROWTH_MB_MAX = 160  # queues of 4 MiB a topic partition, and what a fetch holds, twice
WATCHED = ("demand-windows", "demand-forecasts", "restock-events", "dead-letters")
BATCH, EVERY_S = 10, 0.1
CAUGHT_UP_TIMEOUT_S = 60.0


def slow_worker(stage: Stage) -> None:
    """The only worker is stopped nearly all of the time while events flood in, then set free."""
    stage.begin(1)
    worker = stage.fleet.at[0]
    stage.pause(3.0, 3.0)
    stage.note(rss_steady_mb=round(worker.rss_peak_mb()))
    ends = time.monotonic() + (SLOW_QUICK_S if stage.quick else SLOW_S)
    while time.monotonic() < ends:
        worker.stop()
        time.sleep(STOPPED_S)
        worker.go_on()
        time.sleep(RUNNING_S)
    lag = worker.metric("flashcast_consumer_lag_records")
    each = stage.workload.padding_bytes + 150
    stage.note(backlog_mb=round(lag * each / 2**20), rss_slow_mb=round(worker.rss_peak_mb()))
    stage.resume(Moment())


def _bounded(stage: Stage, row: Row) -> Iterable[str]:
    grown = row["rss_peak_mb"] - row["rss_steady_mb"]
    if grown > GROWTH_MB_MAX:
        yield f"memory grew by {grown} MB"


def slow_subscriber(stage: Stage) -> None:
    """Someone reads the outputs at a hundred records a second, below the pace at which they come,
    while workers are killed; at last all of it.
    """
    subscriber = _Subscriber(stage)
    stage.begin(2)
    for place in range(1 if stage.quick else 2):
        stage.pause(5.0, 8.0)
        fault = Moment()
        stage.fleet.at[place].kill()
        stage.fleet.start(place)
        stage.note(kills=1)
        stage.resume(fault)
    stage.note(read_while_slow=sum(subscriber.read.values()))
    stage.afterwards(subscriber.close)
    _subscribers[stage.settings.topic_prefix] = subscriber


def _saw_all_once(stage: Stage, row: Row) -> Iterable[str]:
    subscriber = _subscribers.pop(stage.settings.topic_prefix)
    subscriber.hurry()
    until(subscriber.is_at_the_end, CAUGHT_UP_TIMEOUT_S, "the slow subscriber reads to the end")
    subscriber.close()
    row["subscriber_read"] = dict(subscriber.read)
    if subscriber.repeated:
        yield f"the subscriber saw {subscriber.repeated} records twice"
    found = row["decisions"] | {"demand-windows": row["windows"]}
    for topic in WATCHED[:3]:
        if subscriber.read[topic] != found[topic]:
            yield f"the subscriber read {subscriber.read[topic]} of {found[topic]} {topic}"


class _Subscriber:
    """Reads in a thread of its own, `read_committed`."""

    def __init__(self, stage: Stage) -> None:
        self._consumer = KafkaConsumer(
            bootstrap_servers=stage.settings.bootstrap_servers.split(","),
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_poll_records=BATCH,
            max_partition_fetch_bytes=16_384,
        )
        topic = stage.settings.topic
        self._names = {
            TopicPartition(topic(name), number): name
            for name in WATCHED
            for number in range(stage.settings.partitions)
        }
        self._consumer.assign(list(self._names))
        self._seen: set[tuple[str, bytes]] = set()
        self._hurry, self._stop, self._end = (threading.Event() for _ in range(3))
        self.read: Counter[str] = Counter()
        self.repeated = 0
        self._thread = threading.Thread(target=self._run, name="subscriber", daemon=True)
        self._thread.start()

    def hurry(self) -> None:
        self._hurry.set()

    def is_at_the_end(self) -> bool:
        return self._end.is_set()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(30)

    def _run(self) -> None:
        while not self._stop.is_set():
            got = self._consumer.poll(timeout_ms=100, max_records=BATCH)
            for tp, records in got.items():
                for record in records:
                    identity = dict(record.headers).get("ce_id") or _window_of(record.value)
                    self.repeated += (self._names[tp], identity) in self._seen
                    self._seen.add((self._names[tp], identity))
                    self.read[self._names[tp]] += 1
            if not self._hurry.wait(EVERY_S) or got:
                continue
            ends = self._consumer.end_offsets(list(self._names))
            if all(self._consumer.position(tp) >= end for tp, end in ends.items()):
                self._end.set()
                break
        self._consumer.close()


def _window_of(value: bytes) -> bytes:
    window = json.loads(value)
    return f"{window['sku']}@{window['bucket_start_ms']}".encode()


_subscribers: dict[str, _Subscriber] = {}

SLOW_WORKER = Drill(
    "slow-worker",
    "the only worker stopped 98 % of the time under a flood: memory, if a backlog forms",
    slow_worker,
    workload=Workload(events_per_s=3_000, padding_bytes=1_000),
    also=_bounded,
)
SLOW_SUBSCRIBER = Drill(
    "slow-subscriber",
    "a subscriber slower than the outputs, workers killed meanwhile: each record once",
    slow_subscriber,
    also=_saw_all_once,
)
