"""Watches every partition's checkpoints as a `read_committed` subscriber sees them."""

import json
import threading
import time
from collections.abc import Iterable
from typing import NamedTuple

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

MARKER_KEY = b"\x00marker"
POLL_MS = 50


class Seen(NamedTuple):
    """One checkpoint: made at `made_ms` (wall), seen at `seen_s` (monotonic)."""

    made_ms: int
    seen_s: float
    events: int  # processed so far, of all event topics


class Observer:
    """A thread; `start` and `stop`."""

    def __init__(
        self, bootstrap_servers: str, changelog: str, partitions: int, exact: bool
    ) -> None:
        self._consumer = KafkaConsumer(
            bootstrap_servers=bootstrap_servers.split(","),
            isolation_level="read_committed" if exact else "read_uncommitted",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=POLL_MS,
            request_timeout_ms=10_000,
            reconnect_backoff_max_ms=500,
        )
        self._consumer.assign([TopicPartition(changelog, number) for number in range(partitions)])
        self._seen: dict[int, list[Seen]] = {number: [] for number in range(partitions)}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="observer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(30)
        if not self._thread.is_alive():
            self._consumer.close()

    def checkpoints(self) -> int:
        """How many were seen, of all partitions."""
        return sum(map(len, self._seen.values()))

    def resumed(self, made_from_ms: int, partitions: Iterable[int] | None = None) -> float | None:
        """When (monotonic) each of the partitions had a checkpoint made since `made_from_ms`; None
        while one has none.
        """
        firsts = []
        for number in self._seen if partitions is None else partitions:
            later = (one.seen_s for one in self._seen[number] if one.made_ms >= made_from_ms)
            first = next(later, None)
            if first is None:
                return None
            firsts.append(first)
        return max(firsts)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                got = self._consumer.poll(timeout_ms=POLL_MS)
            except KafkaError:
                self._stop.wait(POLL_MS / 1_000)
                continue
            now = time.monotonic()
            for tp, records in got.items():
                for record in records:
                    if record.key == MARKER_KEY:
                        offsets = json.loads(record.value)["offsets"]
                        events = sum(offsets[name] for name in ("clicks", "carts", "orders"))
                        self._seen[tp.partition].append(Seen(record.timestamp, now, events))
