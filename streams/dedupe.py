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
GROWTH: Final = 4
# Memory that nobody has written to costs more than what is entered there (2 MB take 2 to 4 ms), and
# hashes fall everywhere: so the next table is written to piece by piece, before it is needed.
READIED_AN_EVENT: Final = 24
READIED_MIN: Final = 131_072  # slots, of 16 bytes
NEVER: Final = np.iinfo(np.int64).max


class Duplicates:
    """Fingerprints of 128 bits. The kernels look them up in `previous` and enter in `current`."""

    def __init__(self, horizon_records: int) -> None:
        self.horizon_records = horizon_records
        self.generation = 0
        self.previous = _table(1)
        self.current = _table(SLOTS_FIRST)
        self.entered = np.zeros(1, np.int64)  # how many `current` holds
        self._wider = _table(0)  # what follows `current`, readied once that is a third full
        self._readied = 0  # slots of it

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
            self._begin(generation)
        next_offset = (generation + 1) * self.horizon_records
        count = min(count, next_offset - offset)
        needed = (int(self.entered[0]) + count) * 3 // 2 + 1
        if 2 * needed > len(self.current):
            self._ready(needed, count)
        if needed > len(self.current):
            copy_fingerprints(self.current, self._wider)
            self.current, self._wider, self._readied = self._wider, _table(0), 0
        return next_offset

    def _begin(self, generation: int) -> None:
        """The memory of what is forgotten is used again."""
        dropped = self.previous
        self.previous = self.current if generation == self.generation + 1 else _table(1)
        if len(dropped) < SLOTS_FIRST:
            dropped = _table(SLOTS_FIRST)
        dropped.fill(0)
        self.current, self._wider, self._readied = dropped, _table(0), 0
        self.entered[0] = 0
        self.generation = generation

    def _ready(self, needed: int, count: int) -> None:
        """Some more of a table that has room for `needed`: GROWTH times as wide, or at once all
        that is ever used where that is not twice as far.
        """
        if len(self._wider) < needed:
            largest = self.horizon_records * 3 // 2 + 1
            if max(largest, needed) <= len(self.current):
                return
            slots = GROWTH * len(self.current)
            self._wider = _table(max(largest if 2 * slots > largest else slots, needed))
            self._readied = 0
        stop = self._readied + max(READIED_MIN, READIED_AN_EVENT * count)
        self._wider[self._readied : stop] = 0
        self._readied = min(stop, len(self._wider))

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
