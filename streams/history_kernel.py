"""The compiled part of the history rings."""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.jit import njit

Int64s = NDArray[np.int64]
UInt32s = NDArray[np.uint32]

PUSHED, NEWEST = range(2)  # fields of a head: buckets ever pushed; the last of them
HEAD_FIELDS: Final = 2
NO_BUCKET: Final = -1
COUNT_MAX: Final = 2**32 - 1


class HistoryArrays(NamedTuple):
    """By row and place in the ring, which is the number of the push modulo its length."""

    head: Int64s  # [capacity, HEAD_FIELDS]
    bucket: UInt32s  # [capacity, length], modulo 2^32: 13 years of the smallest buckets
    units: UInt32s


@njit
def push_history(rows: Int64s, bucket: Int64s, units: Int64s, history: HistoryArrays) -> None:
    """Enter the units of a later bucket of each row."""
    length = history.bucket.shape[1]
    for i in range(len(rows)):
        row = rows[i]
        if bucket[i] <= history.head[row, NEWEST]:
            continue
        at = history.head[row, PUSHED] % length
        history.bucket[row, at] = np.uint32(bucket[i] & COUNT_MAX)
        history.units[row, at] = np.uint32(min(units[i], COUNT_MAX))
        history.head[row, PUSHED] += 1
        history.head[row, NEWEST] = bucket[i]


@njit
def _bucket_at(history: HistoryArrays, row: np.int64, at: np.int64) -> np.int64:
    """The whole bucket number: the latest with that remainder up to the newest."""
    newest = history.head[row, NEWEST]
    return np.int64(newest - ((newest - np.int64(history.bucket[row, at])) & COUNT_MAX))


@njit
def sum_units(rows: Int64s, first_bucket: int, history: HistoryArrays) -> Int64s:
    """Units of each row in `first_bucket` and later."""
    length = history.bucket.shape[1]
    total = np.zeros(len(rows), np.int64)
    for i in range(len(rows)):
        row = rows[i]
        pushed = history.head[row, PUSHED]
        for back in range(1, min(pushed, length) + 1):
            at = (pushed - back) % length
            if _bucket_at(history, row, at) < first_bucket:
                break
            total[i] += np.int64(history.units[row, at])
    return total


@njit
def order_history(rows: Int64s, history: HistoryArrays, bucket: Int64s, units: Int64s) -> None:
    """Fill int64 [n, length] columns, the newest bucket last."""
    length = history.bucket.shape[1]
    for i in range(len(rows)):
        row = rows[i]
        pushed = history.head[row, PUSHED]
        for back in range(1, min(pushed, length) + 1):
            at = (pushed - back) % length
            bucket[i, length - back] = _bucket_at(history, row, at)
            units[i, length - back] = history.units[row, at]
