"""One partition's core without a broker; what it makes durable is kept as a broker would."""

from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import numpy as np

from models.forecaster import Forecaster
from streams import topics
from streams.batcher import Batcher
from streams.checkpoint import Checkpoint, Restored, RestoreStats
from streams.codec.batches import iter_records
from streams.codec.decode import Fetch
from streams.codec.write import encode_records
from streams.pipeline import Pipeline
from streams.settings import Settings
from streams.state import marker as markers

NOW_MS = 1_795_000_000_000
HASH_KEY = (11, 13)


def event(
    number: int, sku: str, at_ms: int, *, quantity: int = 0, price_cents: int = 1_000, **more: Any
) -> tuple[bytes, bytes]:
    """(key, value) of a click, or with a quantity of a cart or order."""
    value = {
        "event_id": f"e{number}",
        "sku": sku,
        "user_id": "u1",
        "event_time_ms": at_ms,
        "price_cents": price_cents,
        **({"quantity": quantity} if quantity else {}),
        **more,
    }
    return sku.encode(), msgspec.json.encode(value)


@dataclass
class Log:
    """Topics as lists of (key, value); offsets are indexes."""

    records: dict[str, list[tuple[bytes | None, bytes | None]]] = field(
        default_factory=lambda: defaultdict(list)
    )

    def add(self, topic: str, *records: tuple[bytes | None, bytes | None]) -> None:
        self.records[topic] += records

    def fetch(self, topic: str, begin: int, end: int | None = None) -> Fetch:
        """Records [begin, end) as one fetch; the timestamp is far after every event."""
        chosen = self.records[topic][begin:end]
        data, offset = b"", begin
        for batch in encode_records([(key, value, []) for key, value in chosen]):
            data += batch.whole(offset, NOW_MS + 86_400_000)
            offset += batch.count
        return Fetch(topic, 0, begin, begin + len(chosen), data)


def nothing_restored() -> Restored:
    return Restored(None, [], np.zeros((0, 0), np.uint8), [], [], RestoreStats())


class Core:
    """A pipeline, its batcher, and everything that its checkpoints made durable."""

    def __init__(self, settings: Settings, log: Log, forecaster: Forecaster | None = None) -> None:
        self.settings = settings
        self.log = log
        self.forecaster = forecaster
        self.batcher = Batcher(forecaster)
        self.outputs: dict[str, list[Any]] = defaultdict(list)
        self.rows: dict[bytes, np.ndarray] = {}
        self.cuts: dict[bytes, bytes] = {}
        self.forgotten: list[bytes] = []  # to be removed by the next checkpoint
        self.marker: markers.Marker | None = None
        self.fed: dict[str, int] = defaultdict(int)
        self.pipeline = self._open(nothing_restored())

    def _open(self, restored: Restored) -> Pipeline:
        return Pipeline(self.settings, 0, 1, self.forecaster, restored, HASH_KEY)

    def feed(self, topic: str, count: int | None = None) -> None:
        """Offer the next `count` records of a topic; all that are left by default."""
        begin = self.fed[topic]
        end = len(self.log.records[topic]) if count is None else begin + count
        fetch = self.log.fetch(topic, begin, end)
        self.fed[topic] = fetch.next_offset
        if fetch.data:
            self.pipeline.offer(fetch)

    def run(self, now_ms: int = NOW_MS, monotonic_ms: int = 0) -> None:
        """Work and close until nothing is left to do."""
        busy = True
        while busy:
            busy = self.pipeline.work(monotonic_ms, now_ms)
            busy = self.batcher.tick([self.pipeline], now_ms) or busy

    def silence(self, *, upto_ms: int, step_ms: int = 250) -> None:
        """Fetches are answered, empty, for so long."""
        for at_ms in range(0, upto_ms, step_ms):
            for topic in topics.EVENT_TOPICS:
                self.pipeline.empty(topic, len(self.log.records[topic]), at_ms)
            self.run(monotonic_ms=at_ms)

    def checkpoint(self) -> Checkpoint:
        """Take one and make it durable."""
        taken = self.pipeline.take()
        first_window: int | None = None
        for output in taken.outputs:
            if output.topic == topics.DEMAND_WINDOWS and first_window is None:
                first_window = len(self.outputs[output.topic])
            for record in iter_records(output.batch.whole(0, NOW_MS)):
                self.outputs[output.topic].append(record)
        for name in self.forgotten:
            self.rows.pop(name, None)
        for name, row in zip(taken.names, taken.rows, strict=True):
            self.rows[name] = row
        self.cuts |= dict(taken.cuts)
        self.marker = markers.decode(markers.encode(taken.marker))
        self.forgotten = self.pipeline.committed(first_window)
        return taken

    def crash(self) -> None:
        """Forget what was in memory; come back as the last checkpoint left it."""
        self.forgotten = []
        if self.marker is None:
            self.pipeline = self._open(nothing_restored())
            self.fed.clear()
            return
        windows = self.outputs[topics.DEMAND_WINDOWS][self.marker.history_offset :]
        restored = replace(
            nothing_restored(),
            marker=self.marker,
            names=list(self.rows),
            rows=np.stack(list(self.rows.values())) if self.rows else np.zeros((0, 0), np.uint8),
            cuts=list(self.cuts.items()),
            history=[record.value for record in windows],
        )
        self.pipeline = self._open(restored)
        for topic in topics.REFERENCE_TOPICS:
            fetch = self.log.fetch(topic, 0)
            self.fed[topic] = fetch.next_offset
            self.pipeline.inform(fetch)
        for topic in topics.EVENT_TOPICS:
            position = self.marker.offsets[topic]
            self.fed[topic] = position
            if position:
                self.pipeline.remember(self.log.fetch(topic, 0, position))

    def decoded(self, topic: str) -> list[dict[str, Any]]:
        """The durable records of an output topic."""
        return [msgspec.json.decode(record.value) for record in self.outputs[topic]]
