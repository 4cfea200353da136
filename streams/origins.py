"""When each SKU is forecast: once an interval, at the end of a bucket of its own.

All SKUs at one moment would be many times the work of a bucket, and events, windows and decisions
would wait behind each other. So an interval of six buckets has six slots, a SKU's slot follows from
its name, and at the end of a bucket those of one slot are forecast that were active since they last
were.
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.read_back import TIME_MS_MAX, bounded
from streams.codec.columns import NameArrays

Int = NDArray[np.int64]
UNKNOWN = -1


@dataclass(frozen=True, slots=True)
class Origin:
    """A moment to forecast at, the slot whose turn it is, and its active rows."""

    at_ms: int
    slot: int
    rows: Int


def slot_of(sku: bytes, slots: int) -> int:
    """The slot of a SKU: CRC-32 (ISO 3309) of its UTF-8 bytes, modulo the slots of an interval."""
    return zlib.crc32(sku) % slots


class Origins:
    """Of one partition."""

    def __init__(self, bucket_ms: int, interval_ms: int) -> None:
        self._bucket_ms = bucket_ms
        self.slots = interval_ms // bucket_ms
        self._active = np.zeros(0, np.bool_)  # since the SKU's last origin
        self._slot = np.zeros(0, np.int32)
        self._next_ms = 0  # 0: no bucket has closed since all were forecast
        self._last_ms = 0  # then every slot has had its turn

    def grow(self, capacity: int) -> None:
        """Room for `capacity` rows."""
        extra = capacity - len(self._active)
        if extra > 0:
            self._active = np.concatenate([self._active, np.zeros(extra, np.bool_)])
            self._slot = np.concatenate([self._slot, np.full(extra, UNKNOWN, np.int32)])

    def reset(self, rows: Int) -> None:
        """Forget these rows: other SKUs move in."""
        self._active[rows] = False
        self._slot[rows] = UNKNOWN

    def note(self, rows: Int, end_ms: int) -> None:
        """These rows were active in the bucket that ended at `end_ms`."""
        self._active[rows] = True
        self._next_ms = self._next_ms or end_ms
        self._last_ms = end_ms + (self.slots - 1) * self._bucket_ms

    def awaited(self, rows: Int) -> NDArray[np.bool_]:
        """Whether each row has an origin ahead, bool [n]."""
        return self._active[rows] & (self._next_ms != 0)

    def waits(self, through_ms: int) -> bool:
        """Whether an origin is due, all before it, up to `through_ms`, being closed."""
        return 0 < self._next_ms <= through_ms

    def due(self, through_ms: int, names: NameArrays) -> Origin | None:
        """The next origin, once it is due; it may be that of no row."""
        if not self.waits(through_ms):
            return None
        at_ms = self._next_ms
        self._next_ms = at_ms + self._bucket_ms if at_ms < self._last_ms else 0
        slot = at_ms // self._bucket_ms % self.slots
        active = np.flatnonzero(self._active)
        rows = active[self._slots_of(active, names) == slot]
        self._active[rows] = False
        return Origin(at_ms, slot, rows)

    def _slots_of(self, rows: Int, names: NameArrays) -> NDArray[np.int32]:
        new = rows[self._slot[rows] == UNKNOWN]
        if len(new):
            self._slot[new] = [slot_of(name, self.slots) for name in names.several(new)]
        return self._slot[rows]

    # -- snapshots

    def gather(self, rows: Int) -> dict[str, NDArray[Any]]:
        """State [n] of `rows` for the snapshot."""
        return {"active": self._active[rows]}

    def scatter(self, rows: Int, state: Mapping[str, NDArray[Any]]) -> None:
        """Put back what `gather` gave."""
        self._active[rows] = state["active"]

    def meta(self) -> dict[str, int]:
        """What belongs to the partition as a whole, JSON-able."""
        return {"next_ms": self._next_ms, "last_ms": self._last_ms}

    def restore_meta(self, meta: Mapping[str, Any]) -> None:
        """The opposite of `meta`. Raises LookupError, TypeError or ValueError for what no `meta`
        can have said.
        """
        self._next_ms = bounded(meta["next_ms"], 0, TIME_MS_MAX, "next_ms of the origins")
        last_ms = bounded(meta["last_ms"], 0, 2 * TIME_MS_MAX, "last_ms of the origins")
        self._last_ms = min(last_ms, self._next_ms + (self.slots - 1) * self._bucket_ms)
