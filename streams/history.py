"""The last closed buckets of every row, those with content only: a ring of compact arrays.

Held for the features and the stock position; it is no state of its own, since `demand-windows`
says all of it again after a restore.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

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
from streams.past_windows import RING_FIELDS, readable_windows

Int64s = NDArray[np.int64]
FIELDS: Final = ("bucket", "clicks", "carts", "orders", "units", "price_cents")


class Buckets(NamedTuple):
    """The ring of some rows, oldest bucket first and empty places in front. int64 [n, length]."""

    bucket_start_ms: Int64s  # 0: an empty place
    clicks: Int64s
    carts: Int64s
    orders: Int64s
    units: Int64s
    price_cents: Int64s


def decode_windows(values: Iterable[bytes]) -> tuple[list[bytes], tuple[Int64s, ...]]:
    """Records of `demand-windows` as `History.push` takes them: SKUs, and int64 [n] of each of
    RING_FIELDS. What is no window is passed over.
    """
    windows = readable_windows(values)
    columns = (
        np.array([getattr(window, field) for window in windows], np.int64) for field in RING_FIELDS
    )
    return [window.sku.encode() for window in windows], tuple(columns)


class History:
    """Rings of `length` buckets, uint32 (a larger count stays at the top): 24 bytes a bucket."""

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

    def push(
        self,
        rows: Int64s,
        bucket_start_ms: Int64s,
        clicks: Int64s,
        carts: Int64s,
        orders: Int64s,
        units: Int64s,
        price_cents: Int64s,
    ) -> None:
        """Enter closed buckets, int64 [n] each; what a row has already, or older, is skipped."""
        push_history(
            rows,
            bucket_start_ms // self._bucket_ms,
            (clicks, carts, orders, units, price_cents),
            self._arrays,
        )

    def units_between(self, rows: Int64s, from_ms: int) -> Int64s:
        """Units ordered from `from_ms` on, int64 [n], as far as the rings reach back.

        In closed buckets, each counted whole if its middle is not before `from_ms`.
        """
        first_bucket = -((self._bucket_ms // 2 - from_ms) // self._bucket_ms)
        return sum_units(rows, first_bucket, self._arrays)

    def of(self, rows: Int64s) -> Buckets:
        """The rings of `rows`, in order of time."""
        shape = (len(rows), self.length)
        columns = [np.zeros(shape, np.int64) for _ in FIELDS]
        order_history(rows, self._arrays, tuple(columns))
        columns[0] *= self._bucket_ms
        return Buckets(*columns)

    def reset(self, rows: Int64s) -> None:
        """Forget the rows' buckets."""
        self._arrays.head[rows] = (0, NO_BUCKET)


def _arrays(capacity: int, length: int) -> HistoryArrays:
    head = np.zeros((capacity, HEAD_FIELDS), np.int64)
    head[:, 1] = NO_BUCKET
    return HistoryArrays(head, *(np.zeros((capacity, length), np.uint32) for _ in FIELDS))
