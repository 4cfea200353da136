"""Records that a drill itself publishes beside the load, and of which it knows what must become."""

import contextlib
from collections.abc import Callable
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError

from benchmarks.drills.load import DELIVERY_TIMEOUT_MS, REQUEST_TIMEOUT_MS
from benchmarks.drills.stage import Stage
from benchmarks.drills.workload import TOPICS, Event

ANSWER_TIMEOUT_S = 120.0


class Aside:
    """`with Aside(stage) as aside:`; leaving it waits until all is acknowledged."""

    def __init__(self, stage: Stage, **options: Any) -> None:
        self._stage = stage
        self._sent: list[tuple[Event, Any]] = []
        self._producer = KafkaProducer(
            bootstrap_servers=stage.settings.bootstrap_servers.split(","),
            acks="all",
            enable_idempotence=True,
            delivery_timeout_ms=DELIVERY_TIMEOUT_MS,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            reconnect_backoff_max_ms=500,
            **options,
        )
        for topic in TOPICS:  # asked now, it need not be asked while the broker is away
            self._producer.partitions_for(stage.settings.topic(topic))

    def __enter__(self) -> "Aside":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            for event, future in self._sent:
                placed = future.get(timeout=ANSWER_TIMEOUT_S)
                place = event.topic, placed.partition, placed.offset
                self._stage.load.truth[place] = event.truth
        with contextlib.suppress(KafkaError):
            self._producer.close(timeout=0 if kind else 10)

    def event(self, event: Event, timestamp_ms: int | None = None) -> None:
        """Queued; `timestamp_ms` is the record's own, now when None."""
        future = self._producer.send(
            self._stage.settings.topic(event.topic),
            event.value,
            event.key,
            partition=event.partition,
            timestamp_ms=timestamp_ms,
        )
        self._sent.append((event, future))

    def put(self, topic: str, partition: int, key: bytes, value: bytes | None) -> None:
        """A record of a topic of flashcast's own, there when this returns."""
        name = self._stage.settings.topic(topic)
        self._producer.send(name, value, key, partition=partition).get(timeout=ANSWER_TIMEOUT_S)


def said(stage: Stage, place: int, words: str) -> Callable[[], bool]:
    """Whether the worker in that place says these words, after now."""
    worker = stage.fleet.at[place]
    before = worker.said().count(words)
    return lambda: worker.said().count(words) > before
