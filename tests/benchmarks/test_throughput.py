"""The bench of throughput: what is loaded, what is right, and that nothing else passes for it."""

import json
from collections import defaultdict

import numpy as np
import pytest

from benchmarks.throughput.answers import Windows, closable_windows, judged, stretch
from benchmarks.throughput.catalogue import CATALOGUE
from benchmarks.throughput.encode import batches
from benchmarks.throughput.venvs import PROGRAMS
from benchmarks.throughput.workload import (
    BUCKET_MS,
    BUCKETS,
    CLOSABLE_BUCKETS,
    PARTITIONS,
    SKUS,
    START_MS,
    TOPICS,
    Int64s,
    sku_name,
    workload,
)
from streams.codec.batches import iter_records
from streams.partitioner import partition_of

EVENTS = 20_000


@pytest.fixture(scope="module")
def right() -> Int64s:
    return workload(EVENTS).windows()


def _exact(right: Int64s) -> Windows:
    """As a program answers that is right; a bucket arrives every 100 ms."""
    window = np.flatnonzero(right[:, :3].any(axis=1))
    return Windows(window, right[window].copy(), 1_000_000 + window // SKUS * 100)


def test_the_loaded_bytes_are_events_that_add_up_to_the_right_answer(right: Int64s) -> None:
    work = workload(EVENTS)
    sums: dict[int, list[int]] = defaultdict(lambda: [0] * 6)
    ids, value_bytes, said_bytes = set(), 0, 0
    for kind in range(len(TOPICS)):
        for partition in range(PARTITIONS):
            last_ms, offset = 0, 0
            for batch, timestamp_ms, of_values in batches(work, kind, partition):
                said_bytes += of_values
                for record in iter_records(batch.whole(offset, timestamp_ms), 0):
                    assert record.key is not None and record.value is not None
                    event = json.loads(record.value)
                    assert record.offset == offset
                    assert partition_of(record.key, PARTITIONS, "murmur2") == partition
                    assert event["sku"].encode() == record.key
                    assert event["event_time_ms"] == record.timestamp_ms >= last_ms
                    assert ("quantity" in event) == (TOPICS[kind] != "clicks")
                    ids.add(event["event_id"])
                    value_bytes += len(record.value)
                    last_ms, offset = event["event_time_ms"], offset + 1
                    bucket = (last_ms - START_MS) // BUCKET_MS
                    of = sums[bucket * SKUS + int(event["sku"][1:])]
                    of[kind] += 1
                    of[5] += event["price_cents"]
                    if TOPICS[kind] == "orders":
                        of[3] += event["quantity"]
                        of[4] += event["quantity"] * event["price_cents"]
    assert len(ids) == EVENTS
    assert value_bytes == said_bytes
    assert 105 <= value_bytes / EVENTS <= 125
    assert sums.keys() == set(np.flatnonzero(right.any(axis=1)).tolist())
    for window, (*counts, price_sum) in sums.items():
        mean = (2 * price_sum + sum(counts[:3])) // (2 * sum(counts[:3]))
        assert right[window].tolist() == [*counts, mean]


def test_the_same_seed_is_the_same_sale_and_spans_all_buckets() -> None:
    one, same, other = workload(1_000), workload(1_000), workload(1_000, seed=8)
    assert (one.sku == same.sku).all() and (one.user == same.user).all()
    assert (one.sku != other.sku).any()
    buckets = (one.event_time_ms - START_MS) // BUCKET_MS
    assert set(buckets.tolist()) == set(range(BUCKETS))


def test_shares_and_popularity_are_as_told() -> None:
    work = workload(100_000)
    shares = np.bincount(work.kind) / work.events
    assert shares == pytest.approx([0.80, 0.15, 0.05], abs=0.01)
    sold = np.sort(np.bincount(work.sku, minlength=SKUS))[::-1]
    assert sold[0] / sold[9] == pytest.approx(10, rel=0.15)


def test_right_answers_are_right_with_and_without_the_last_bucket(right: Int64s) -> None:
    found = _exact(right)
    assert judged(found, right).right
    closable = found.window < CLOSABLE_BUCKETS * SKUS
    without = Windows(*(column[closable] for column in vars(found).values()))
    assert len(without.window) == closable_windows(right) < len(found.window)
    assert judged(without, right).right


def test_a_missing_a_double_and_a_wrong_window_are_each_found(right: Int64s) -> None:
    found = _exact(right)
    missing = Windows(found.window[1:], found.values[1:], found.appended_ms[1:])
    assert vars(judged(missing, right)) == {"missing": 1, "double": 0, "wrong": 0}
    twice = np.r_[0, np.arange(len(found.window))]
    double = Windows(found.window[twice], found.values[twice], found.appended_ms[twice])
    assert vars(judged(double, right)) == {"missing": 0, "double": 1, "wrong": 0}
    for field in range(found.values.shape[1]):
        wrong = _exact(right)
        wrong.values[7, field] += 1
        assert vars(judged(wrong, right)) == {"missing": 0, "double": 0, "wrong": 1}


def test_windows_that_nobody_asked_for_are_wrong(right: Int64s) -> None:
    found = _exact(right)
    idle = np.flatnonzero(~right.any(axis=1))[0]
    for window in (-1, int(idle)):
        more = Windows(
            np.r_[found.window, window],
            np.vstack([found.values, [1, 0, 0, 0, 0, 5]]),
            np.r_[found.appended_ms, 1],
        )
        assert judged(more, right).wrong == 1


def test_the_rate_is_of_the_events_after_the_first_quarter(right: Int64s) -> None:
    part = stretch(_exact(right), right)
    assert part is not None
    # 65 buckets of the same size: the 17th completes a quarter, 48 more follow in 4.8 s
    assert part.end_s - part.begin_s == pytest.approx(4.8)
    assert part.events == pytest.approx(EVENTS * 48 / BUCKETS, abs=2)
    assert part.events_per_s == pytest.approx(part.events / 4.8)


def test_no_rate_without_a_quarter(right: Int64s) -> None:
    found = _exact(right)
    few = Windows(found.window[:100], found.values[:100], found.appended_ms[:100])
    assert stretch(few, right) is None


def test_every_program_is_there_with_its_pinned_requirements() -> None:
    assert len({program.name for program in CATALOGUE}) == len(CATALOGUE)
    for program in CATALOGUE:
        assert (PROGRAMS / program.script).is_file()
        if program.requirements is not None:
            listed = PROGRAMS / "requirements" / f"{program.requirements}.txt"
            assert all("==" in line for line in listed.read_text().split())
            assert program.version()


def test_sku_names_fit_their_encoding() -> None:
    assert sku_name(0) == b"S000000" and sku_name(SKUS - 1) == b"S009999"
