"""The units of the last closed buckets of every row, those with content only: a ring of compact
arrays.

Held for the stock position, when the shop says what was on hand some time ago; it is no state of
its own, since `demand-windows` says all of it again after a restore.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.history_kernel import (
    HEAD_FIELDS,
    NO_BUCKET,
    HistoryArrays,
    order_history,
    push_history,
    sum_units,
)
from streams.past_windows import readable_windows

Int64s = NDArray[np.int64]


class Buckets(NamedTuple):
    """The ring of some rows, oldest bucket first and empty places in front. int64 [n, length]."""

    bucket_start_ms: Int64s  # 0: an empty place
    units: Int64s


def decode_windows(values: Iterable[bytes]) -> tuple[list[bytes], Int64s, Int64s]:
    """Records of `demand-windows` as `History.push` takes them: SKUs, starts of buckets int64 [n],
    units int64 [n]. What is no window is passed over.
    """
    windows = readable_windows(values)
    skus = [window.sku.encode() for window in windows]
    starts_ms = np.array([window.bucket_start_ms for window in windows], np.int64)
    return skus, starts_ms, np.array([window.units for window in windows], np.int64)


class History:
    """Rings of `length` buckets, uint32 (more units stay at the top): 8 bytes a bucket."""

    def __init__(self, length: int, bucket_ms: int) -> None:
        self.length = length
        self._bucket_ms = bucket_ms
        self._arrays = _arrays(0, length)

    def grow(self, capacity: int) -> None:
        """Room for `capacity` rows. One array at a time, so that two are never whole together."""
        old = len(self._arrays.head)
        if capacity <= old:
            return
        fresh = _arrays(capacity, self.length)
        for field in HistoryArrays._fields:
            getattr(fresh, field)[:old] = getattr(self._arrays, field)
            self._arrays = self._arrays._replace(**{field: getattr(fresh, field)})

    def push(self, rows: Int64s, bucket_start_ms: Int64s, units: Int64s) -> None:
        """Enter closed buckets, int64 [n] each; what a row has already, or older, is skipped."""
        # a column with gaps would have the kernel compiled once more, in the path of events
        units = np.ascontiguousarray(units)
        push_history(rows, bucket_start_ms // self._bucket_ms, units, self._arrays)

    def units_between(self, rows: Int64s, from_ms: int) -> Int64s:
        """Units ordered from `from_ms` on, int64 [n], as far as the rings reach back.

        In closed buckets, each counted whole if its middle is not before `from_ms`.
        """
        first_bucket = -((self._bucket_ms // 2 - from_ms) // self._bucket_ms)
        return sum_units(rows, first_bucket, self._arrays)

    def of(self, rows: Int64s) -> Buckets:
        """The rings of `rows`, in order of time."""
        shape = (len(rows), self.length)
        bucket, units = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        order_history(rows, self._arrays, bucket, units)
        return Buckets(bucket * self._bucket_ms, units)

    def reset(self, rows: Int64s) -> None:
        """Forget the rows' buckets."""
        self._arrays.head[rows] = (0, NO_BUCKET)


def _arrays(capacity: int, length: int) -> HistoryArrays:
    head = np.zeros((capacity, HEAD_FIELDS), np.int64)
    head[:, 1] = NO_BUCKET
    shape = (capacity, length)
    return HistoryArrays(head, np.zeros(shape, np.uint32), np.zeros(shape, np.uint32))
