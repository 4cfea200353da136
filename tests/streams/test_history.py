"""The ring of closed buckets."""

import numpy as np

from streams.history import History

BUCKET_MS = 10_000
FIRST = 170_000_000  # bucket number


def push(history: History, row: int, bucket: int, units: int) -> None:
    one = np.ones(1, np.int64)
    history.push(one * row, one * bucket * BUCKET_MS, one * units)


def history(capacity: int = 3, length: int = 4) -> History:
    made = History(length, BUCKET_MS)
    made.grow(capacity)
    return made


def test_the_ring_holds_the_last_buckets_in_order() -> None:
    ring = history()
    for at in range(6):
        push(ring, 1, FIRST + 10 * at, units=at)
    held = ring.of(np.array([0, 1]))
    assert held.units.tolist() == [[0, 0, 0, 0], [2, 3, 4, 5]]
    expected = [(FIRST + 10 * at) * BUCKET_MS for at in (2, 3, 4, 5)]
    assert held.bucket_start_ms.tolist() == [[0, 0, 0, 0], expected]


def test_a_bucket_that_the_ring_has_is_not_entered_again() -> None:
    ring = history()
    push(ring, 0, FIRST, units=5)
    push(ring, 0, FIRST, units=5)
    push(ring, 0, FIRST - 1, units=5)
    push(ring, 0, FIRST + 1, units=1)
    assert ring.of(np.array([0])).units.tolist() == [[0, 0, 5, 1]]


def test_units_are_those_of_buckets_whose_middle_is_not_before() -> None:
    ring = history()
    for at, units in enumerate([1, 10, 100]):
        push(ring, 2, FIRST + at, units)
    start_ms = FIRST * BUCKET_MS
    rows = np.array([2, 0])
    for from_ms, expected in [
        (0, 111),
        (start_ms + 5_000, 111),
        (start_ms + 5_001, 110),
        (start_ms + 15_000, 110),
        (start_ms + 25_001, 0),
    ]:
        assert ring.units_between(rows, from_ms).tolist() == [expected, 0]


def test_rings_grow_and_are_forgotten() -> None:
    ring = history(capacity=1)
    push(ring, 0, FIRST, units=5)
    ring.grow(1_000)
    push(ring, 999, FIRST, units=7)
    rows = np.array([0, 999])
    assert ring.units_between(rows, 0).tolist() == [5, 7]
    ring.reset(rows[:1])
    assert ring.units_between(rows, 0).tolist() == [0, 7]
    push(ring, 0, FIRST - 5, units=1)
    assert ring.units_between(rows, 0).tolist() == [1, 7]


def test_counts_beyond_the_field_stay_at_its_top() -> None:
    ring = history()
    push(ring, 0, FIRST, units=2**40)
    assert ring.units_between(np.array([0]), 0).tolist() == [2**32 - 1]


def test_buckets_of_many_years_are_told_apart() -> None:
    ring = History(4, bucket_ms=1)  # numbers beyond 32 bits
    ring.grow(1)
    one = np.ones(1, np.int64)
    for start_ms in (1_700_000_000_000, 1_700_000_000_000 + 2**31, 1_700_000_000_000 + 2**32 - 1):
        ring.push(0 * one, start_ms * one, one)
    starts = ring.of(0 * one).bucket_start_ms[0, 1:] - 1_700_000_000_000
    assert starts.tolist() == [0, 2**31, 2**32 - 1]
