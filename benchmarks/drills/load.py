"""Publishes a workload at its pace, in a thread, through whatever happens to the brokers."""

import contextlib
import itertools
import threading
import time
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError

from benchmarks.drills.errors import DrillError
from benchmarks.drills.workload import Event, Workload

DELIVERY_TIMEOUT_MS = 240_000  # the longest outage of a drill, and as much again
REQUEST_TIMEOUT_MS = 20_000
SLICE_S = 0.05
ANSWER_TIMEOUT_S = 10.0  # after a flush a future may still lack a moment
EVENTS_MIN = 6_000  # however short the drill, on a quick machine too
EVENTS_MAX = 1_000_000

Place = tuple[str, int, int]


class Load:
    """Idempotent, so that what is acknowledged is there once, in the order of each partition.

    `truth` maps where each record lies to what must become of it.
    """

    def __init__(self, bootstrap_servers: str, prefix: str, workload: Workload, seed: int) -> None:
        self._workload = workload
        self._prefix = prefix
        self._seed = seed
        self._producer = KafkaProducer(
            bootstrap_servers=bootstrap_servers.split(","),
            enable_idempotence=True,
            acks="all",
            linger_ms=20,
            batch_size=128 * 1024,
            delivery_timeout_ms=DELIVERY_TIMEOUT_MS,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            max_block_ms=DELIVERY_TIMEOUT_MS,
            reconnect_backoff_max_ms=500,
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)
        self._failure: Exception | None = None
        self._sent: list[tuple[Event, Any]] = []
        self.truth: dict[Place, str] = {}
        self.sent = 0

    def publish_references(self) -> None:
        """Before the first event, so that every worker knows the assortment."""
        for topic, event in self._workload.references(self._seed):
            self._producer.send(
                self._prefix + topic, event.value, event.key, partition=event.partition
            )
        self._producer.flush(timeout=60)

    def start(self) -> None:
        self._thread.start()

    def backlog(self, count: int) -> None:
        """Events at once, before `start` or instead of it."""
        for event in itertools.islice(self._workload.events(self._seed), count):
            self._send(event)
        self._end()

    def finish(self) -> None:
        """Stop, once there were `EVENTS_MIN`; returns when all is acknowledged. Raises DrillError
        when something is not.
        """
        while self._thread.is_alive() and self.sent < EVENTS_MIN:
            time.sleep(SLICE_S)
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(DELIVERY_TIMEOUT_MS / 1_000)
        if self._failure is not None or self._thread.is_alive():
            raise DrillError(f"the load could not be published: {self._failure!r}")
        for event, future in self._sent:
            try:
                placed = future.get(timeout=ANSWER_TIMEOUT_S)
            except KafkaError as error:
                raise DrillError(f"an event was not acknowledged: {error!r}") from error
            self.truth[event.topic, placed.partition, placed.offset] = event.truth
        self._sent.clear()

    def close(self) -> None:
        """Without waiting for anything."""
        self._stop.set()
        with contextlib.suppress(KafkaError):  # or it would hide why the drill has ended
            self._producer.close(timeout=0)

    def _run(self) -> None:
        try:
            events = self._workload.events(self._seed)
            began, slices = time.monotonic(), 0
            in_slice = max(1, round(self._workload.events_per_s * SLICE_S))
            while not self._stop.is_set() and self.sent < EVENTS_MAX:
                for event in itertools.islice(events, in_slice):
                    self._send(event)
                slices += 1
                # after an outage the pace goes on; what was missed is not made up for
                behind = time.monotonic() - began - slices * SLICE_S
                if behind > 1.0:
                    began += behind
                self._stop.wait(max(0.0, -behind))
            self._end()
        except Exception as error:
            self._failure = error

    def _send(self, event: Event) -> None:
        future = self._producer.send(
            self._prefix + event.topic, event.value, event.key, partition=event.partition
        )
        self._sent.append((event, future))
        self.sent += 1

    def _end(self) -> None:
        for event in self._workload.last_events(self.sent):
            self._send(event)
        self._producer.flush(timeout=DELIVERY_TIMEOUT_MS / 1_000)
