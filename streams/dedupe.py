"""Duplicates: the event ids of the last stretch of one topic partition, as keyed fingerprints.

An event is a duplicate when the same id lies at a smaller offset of its topic partition, in the
same or the previous generation. Generation = offset // horizon_records, so that the verdict follows
from the log alone. Two tables, one a generation; the older is dropped whole.

    offset   0 ......... H ......... 2H ......... 3H
                         |--previous--|--current--|
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from streams.codec.columns import Columns
from streams.sku_table import MISPLACED, SkuTable
from streams.windows_kernel import Fingerprints, copy_fingerprints, remember_events

SLOTS_FIRST: Final = 4_096
NEVER: Final = np.iinfo(np.int64).max


class Duplicates:
    """Fingerprints of 128 bits. The kernels look them up in `previous` and enter in `current`."""

    def __init__(self, horizon_records: int) -> None:
        self.horizon_records = horizon_records
        self.generation = 0
        self.previous = _table(1)
        self.current = _table(SLOTS_FIRST)
        self.entered = np.zeros(1, np.int64)  # how many `current` holds

    @staticmethod
    def first_offset(position: int, horizon_records: int) -> int:
        """Where to read from after a restore so that events at `position` find their duplicates."""
        return max(0, position // horizon_records - 1) * horizon_records

    def prepare(self, offset: int, count: int) -> int:
        """Make the tables those of `offset`, with room for `count` more events.

        Returns the first offset of the next generation, for which to prepare anew.
        """
        generation = offset // self.horizon_records
        if generation != self.generation:
            slots = len(self.current) if generation == self.generation + 1 else SLOTS_FIRST
            self.previous = self.current if generation == self.generation + 1 else _table(1)
            self.current = _table(slots)
            self.entered[0] = 0
            self.generation = generation
        next_offset = (generation + 1) * self.horizon_records
        needed = (int(self.entered[0]) + min(count, next_offset - offset)) * 3 // 2 + 1
        if needed > len(self.current):
            largest = self.horizon_records * 3 // 2 + 1
            wider = _table(min(max(2 * len(self.current), needed), max(largest, needed)))
            copy_fingerprints(self.current, wider)
            self.current = wider
        return next_offset

    def remember(
        self, offset: NDArray[np.int64], low: NDArray[np.uint64], high: NDArray[np.uint64]
    ) -> None:
        """Enter events as seen: offsets ascending, with the halves of their ids' hashes."""
        at = 0
        while at < len(offset):
            next_offset = self.prepare(int(offset[at]), len(offset) - at)
            stop = int(np.searchsorted(offset, next_offset))
            remember_events(low[at:stop], high[at:stop], self.current, self.entered)
            at = stop


def remember_slice(
    duplicates: Duplicates, skus: SkuTable, columns: Columns, data: NDArray[np.uint8]
) -> None:
    """Enter decoded events, judged before, as seen. `data` is what the columns point into."""
    skus.rows(data, columns, room=0)
    seen = columns.ok[: columns.n] & (columns.row[: columns.n] != MISPLACED)
    duplicates.remember(
        columns.offset[: columns.n][seen],
        columns.event_hash_low[: columns.n][seen],
        columns.event_hash_high[: columns.n][seen],
    )


def _table(slots: int) -> Fingerprints:
    return np.zeros((slots, 2), np.uint64)
