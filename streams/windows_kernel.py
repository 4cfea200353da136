"""The compiled part of the windows: one pass that judges and counts events, one that closes."""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.jit import njit
from models.prefetch import AHEAD, prefetch
from streams.codec.columns import NO_ROW

Int64s = NDArray[np.int64]
Fingerprints = NDArray[np.uint64]  # [slots, 2]: low and high half; both 0: empty

# verdicts, as in windows.Verdict
REFUSED, APPLIED, DUPLICATE, STAMPED, LATE = range(5)

# fields of an open cell: cells is int64 [row, bucket % cells, field], one cache line a cell
BUCKET, CLICKS, CARTS, ORDERS, UNITS, REVENUE, PRICE_SUM = range(7)  # bucket 0: the cell is empty
CELL_FIELDS: Final = 8

# fields of a row's head: int64 [row, field]; the first three are the stamps, by kind
LAST_BUCKET: Final = 3  # last bucket closed with content
HEAD_FIELDS: Final = 4

SUM_MAX: Final = np.iinfo(np.int64).max


class EventArrays(NamedTuple):
    """The columns that the kernel reads, and the verdicts that it writes."""

    offset: Int64s
    timestamp_ms: Int64s
    event_time_ms: Int64s
    price_cents: Int64s
    quantity: Int64s
    event_hash_low: NDArray[np.uint64]
    event_hash_high: NDArray[np.uint64]
    ok: NDArray[np.bool_]
    row: NDArray[np.int32]
    verdict: NDArray[np.uint8]


class RowArrays(NamedTuple):
    """What the windows hold by row, and by open cell the rows that are active in it."""

    cells: Int64s  # [capacity, cells, CELL_FIELDS]
    heads: Int64s  # [capacity, HEAD_FIELDS]
    dirty: NDArray[np.bool_]  # [capacity]
    active: NDArray[np.int32]  # [cells, capacity] rows
    active_count: Int64s  # [cells]
    active_bucket: Int64s  # [cells], where active_count is above 0


class Limits(NamedTuple):
    """What an event's time is held against. All in milliseconds but `kind`."""

    kind: int
    bucket_ms: int
    allowed_lateness_ms: int
    late_below_ms: int  # from cuts and closed buckets
    window_end_ms: int  # end of the newest open cell


@njit
def _first_slot(table: Fingerprints, low: np.uint64) -> np.uint64:
    """Where to look first: the upper half of `low`, in proportion to the table."""
    return ((low >> np.uint64(32)) * np.uint64(len(table))) >> np.uint64(32)


@njit
def find_fingerprint(table: Fingerprints, low: np.uint64, high: np.uint64) -> np.uint64:
    """The slot that holds (low, high), or the empty one where it would be entered."""
    size = np.uint64(len(table))
    slot = _first_slot(table, low)
    while True:
        first = table[slot, 0]
        second = table[slot, 1]
        if (first == low and second == high) or (first | second) == np.uint64(0):
            return slot
        slot += np.uint64(1)
        if slot == size:
            slot = np.uint64(0)


@njit
def remember_events(
    low: NDArray[np.uint64],
    high: NDArray[np.uint64],
    current: Fingerprints,
    entered: Int64s,
) -> None:
    """Enter ids as seen."""
    for i in range(len(low)):
        prefetch(current, _first_slot(current, low[min(i + AHEAD, len(low) - 1)]))
        second = high[i] if (low[i] | high[i]) != np.uint64(0) else np.uint64(1)
        slot = find_fingerprint(current, low[i], second)
        if (current[slot, 0] | current[slot, 1]) == np.uint64(0):
            current[slot, 0] = low[i]
            current[slot, 1] = second
            entered[0] += 1


@njit
def copy_fingerprints(table: Fingerprints, wider: Fingerprints) -> None:
    """Enter all of `table` into the empty `wider`."""
    for i in range(len(table)):
        low, high = table[i, 0], table[i, 1]
        if (low | high) != np.uint64(0):
            slot = find_fingerprint(wider, low, high)
            wider[slot, 0] = low
            wider[slot, 1] = high


@njit
def apply_events(
    begin: int,
    stop: int,
    limits: Limits,
    events: EventArrays,
    rows: RowArrays,
    current: Fingerprints,
    previous: Fingerprints,
    entered: Int64s,
    clock: Int64s,
    counts: Int64s,
) -> np.int64:
    """Judge and count events [begin, stop); returns where it stopped.

    That is `stop`, or the first event that must wait because it lies beyond the newest open cell:
    only its time is taken note of. One whose SKU has no row is refused where it would be applied;
    like a late one it moves the clock and enters the duplicates. `clock` is (greatest event time,
    timestamp of the last event); `counts` is by verdict. Returns -1 - index when a cell holds
    another bucket than it may.
    """
    # taken apart once, since each look into a tuple of arrays counts references
    offset, timestamp_ms, event_time_ms, price_cents, quantity = events[:5]
    hash_low, hash_high, ok, row_of, verdicts = events[5:]
    cells, heads, dirty, active, active_count, active_bucket = rows
    kind_of, bucket_ms, lateness_ms, late_below_ms, window_end_ms = limits
    kind = np.uint64(kind_of)
    mask = np.uint64(cells.shape[1] - 1)
    flat_cells = cells.reshape(cells.shape[0] * cells.shape[1], CELL_FIELDS)
    greatest_ms = clock[0]
    bucket, bucket_begin_ms, bucket_end_ms = np.int64(0), np.int64(0), np.int64(0)
    for i in range(np.uint64(begin), np.uint64(stop)):
        soon = i + np.uint64(AHEAD)
        if soon < np.uint64(stop):
            prefetch(current, _first_slot(current, hash_low[soon]))
            prefetch(previous, _first_slot(previous, hash_low[soon]))
            row_soon = np.uint64(max(row_of[soon], np.int32(0)))
            prefetch(heads, row_soon)
            prefetch(flat_cells, row_soon * (mask + np.uint64(1)) + (np.uint64(bucket) & mask))
        if not ok[i] or row_of[i] < NO_ROW:
            verdicts[i] = REFUSED
            counts[REFUSED] += 1
            continue
        admitted = row_of[i] >= 0
        row = np.uint64(max(row_of[i], np.int32(0)))
        time_ms = event_time_ms[i]
        moved_ms = max(greatest_ms, min(time_ms, timestamp_ms[i]))
        low, high = hash_low[i], hash_high[i]
        if (low | high) == np.uint64(0):
            high = np.uint64(1)
        slot = find_fingerprint(current, low, high)
        known = (current[slot, 0] | current[slot, 1]) != np.uint64(0)
        if known or _holds(previous, low, high):
            verdict = DUPLICATE
        elif admitted and offset[i] <= heads[row, kind]:
            verdict = STAMPED
        elif time_ms < max(greatest_ms - lateness_ms, late_below_ms):
            verdict = LATE
        elif not admitted:
            verdict = REFUSED
        elif time_ms >= window_end_ms:
            clock[0] = moved_ms
            clock[1] = timestamp_ms[i]
            return np.int64(i)
        else:
            if not bucket_begin_ms <= time_ms < bucket_end_ms:
                bucket = time_ms // bucket_ms
                bucket_begin_ms = bucket * bucket_ms
                bucket_end_ms = bucket_begin_ms + bucket_ms
            if bucket <= heads[row, LAST_BUCKET]:
                verdict = LATE
            else:
                verdict = APPLIED
                cell = np.uint64(bucket) & mask
                if cells[row, cell, BUCKET] != bucket:
                    if cells[row, cell, BUCKET] != 0:
                        return -1 - np.int64(i)
                    cells[row, cell, BUCKET] = bucket
                    active[cell, np.uint64(active_count[cell])] = np.int32(row)
                    active_count[cell] += 1
                    active_bucket[cell] = bucket
                _count(cells, row, cell, kind, price_cents[i], quantity[i])
                heads[row, kind] = offset[i]
                dirty[row] = True
        if not known:
            current[slot, 0] = low
            current[slot, 1] = high
            entered[0] += 1
        greatest_ms = moved_ms
        verdicts[i] = verdict
        counts[verdict] += 1
    clock[0] = greatest_ms
    if stop > begin:
        clock[1] = timestamp_ms[stop - 1]
    return np.int64(stop)


@njit
def _holds(table: Fingerprints, low: np.uint64, high: np.uint64) -> bool:
    slot = find_fingerprint(table, low, high)
    return bool((table[slot, 0] | table[slot, 1]) != np.uint64(0))


@njit
def _count(
    cells: Int64s,
    row: np.uint64,
    cell: np.uint64,
    kind: np.uint64,
    price_cents: np.int64,
    quantity: np.int64,
) -> None:
    """One more event in an open cell."""
    cells[row, cell, np.uint64(CLICKS) + kind] += 1
    cells[row, cell, PRICE_SUM] += price_cents
    if kind == np.uint64(2):
        cells[row, cell, UNITS] += quantity
        room = SUM_MAX - cells[row, cell, REVENUE]  # a sum that would overflow stays at its top
        cells[row, cell, REVENUE] += min(price_cents * quantity, room)


@njit
def close_cells(closing: Int64s, cell: int, bucket: int, rows: RowArrays, sums: Int64s) -> None:
    """Move one bucket's cells of the rows `closing` to `sums`, int64 [n, CELL_FIELDS]."""
    flat_cells = rows.cells.reshape(rows.cells.shape[0] * rows.cells.shape[1], CELL_FIELDS)
    for i in range(len(closing)):
        soon = np.uint64(closing[min(i + AHEAD, len(closing) - 1)])
        prefetch(flat_cells, soon * np.uint64(rows.cells.shape[1]) + np.uint64(cell))
        prefetch(rows.heads, soon)
        row = closing[i]
        for field in range(CELL_FIELDS):
            sums[i, field] = rows.cells[row, cell, field]
            rows.cells[row, cell, field] = 0
        rows.heads[row, LAST_BUCKET] = bucket
        rows.dirty[row] = True
