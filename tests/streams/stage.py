"""A stand-in for a partition's pipeline: logs in, slices as asked, closed buckets out, and crashes.

No codec and no broker: events become columns here, their hashes by rules of their own.
"""

from collections.abc import Sequence

import numpy as np

from streams.codec.columns import Columns
from streams.codec.siphash import hash64
from streams.sku_table import SkuTable
from streams.windows import Verdict, Windows, WindowsConfig
from tests.streams.oracle import Event

KEY = (7, 11)
T0 = 1_700_000_000_000
Summary = tuple[int, int, int, int, int, int]


def columns_of(events: Sequence[Event], capacity: int = 64) -> tuple[Columns, np.ndarray]:
    """Columns filled with `events`, and the bytes that they point into."""
    columns = Columns.of(max(capacity, len(events)))
    columns.n = len(events)
    data = b""
    for at, event in enumerate(events):
        name = event.sku.encode()
        columns.offset[at] = event.offset
        columns.timestamp_ms[at] = event.timestamp_ms
        columns.event_time_ms[at] = event.event_time_ms
        columns.price_cents[at] = event.price_cents
        columns.quantity[at] = event.quantity
        columns.sku_at[at], columns.sku_length[at] = len(data), len(name)
        columns.sku_hash[at] = hash64(KEY, name)
        columns.event_hash_low[at] = hash64(KEY, b"low%d" % event.event_id)
        columns.event_hash_high[at] = hash64(KEY, b"high%d" % event.event_id)
        columns.ok[at] = not event.refused
        data += name
    return columns, np.frombuffer(data, np.uint8)


class Stage:
    """Windows over three logs. `outputs` are (SKU, bucket start, summary) in order of closing."""

    def __init__(self, config: WindowsConfig, logs: Sequence[Sequence[Event]]) -> None:
        self.config = config
        self.logs = logs
        self.skus = SkuTable(0, 1, "none", KEY)
        self.windows = Windows(config, self.skus)
        self.outputs: list[tuple[str, int, Summary]] = []
        self.verdicts: list[dict[int, Verdict]] = [{}, {}, {}]
        self._read = [0, 0, 0]  # index in the log of the first event not in a slice yet
        self._slices: list[tuple[Columns, int] | None] = [None, None, None]

    def step(self, kind: int, count: int) -> bool:
        """Apply what waits of a topic, or else its next `count` events. False: no progress."""
        loaded = False
        if self._slices[kind] is None:
            events = self.logs[kind][self._read[kind] : self._read[kind] + count]
            if not events:
                return False
            self._read[kind] += len(events)
            columns, data = columns_of(events)
            assert self.skus.rows(data, columns) == []
            self._slices[kind] = columns, 0
            loaded = True
        columns, begin = self._slices[kind]
        end = self.windows.apply(kind, columns, begin)
        for at in range(begin, end):
            self.verdicts[kind][int(columns.offset[at])] = Verdict(int(columns.verdict[at]))
        self._slices[kind] = None if end == columns.n else (columns, end)
        return loaded or end > begin

    def close(self) -> bool:
        """Close one bucket, if one is over."""
        closed = self.windows.close()
        if closed is None:
            return False
        columns = (
            closed.clicks,
            closed.carts,
            closed.orders,
            closed.units,
            closed.revenue_cents,
            closed.price_cents,
        )
        for at, row in enumerate(closed.rows):
            summary = tuple(int(column[at]) for column in columns)
            self.outputs.append(
                (self.skus.name(int(row)).decode(), closed.bucket_start_ms, summary)
            )
        return True

    def run(self) -> None:
        """Read all that the logs hold, and close all that is over."""
        progress = True
        while progress:
            progress = False
            for kind in range(3):
                progress |= self.step(kind, 50)
            while self.close():
                progress = True

    def exhausted(self, kind: int) -> bool:
        """Whether everything of the log is judged."""
        return self._slices[kind] is None and self._read[kind] == len(self.logs[kind])

    def end_offset(self, kind: int) -> int:
        """One past the last offset of the log."""
        return self.logs[kind][-1].offset + 1 if self.logs[kind] else 0

    def position(self, kind: int) -> int:
        """The offset to go on from: of the first event not judged."""
        waiting = self._slices[kind]
        if waiting is not None:
            return int(waiting[0].offset[waiting[1]])
        at = self._read[kind]
        return self.logs[kind][at].offset if at < len(self.logs[kind]) else self.end_offset(kind)

    def seek(self, kind: int, position: int) -> None:
        """Go on from `position` after a restore, with the fingerprints of what lies before it."""
        log = self.logs[kind]
        first = self.windows.remember_from(kind)
        columns, data = columns_of([one for one in log if first <= one.offset < position])
        self.windows.remember(kind, columns, data)
        self._read[kind] = sum(one.offset < position for one in log)
