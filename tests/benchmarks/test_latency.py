"""The bench of latency: what is published, when a bucket could close, and what is amiss."""

import json
from collections import defaultdict
from dataclasses import replace
from zlib import crc32

import numpy as np
import pytest

from benchmarks.latency import figures
from benchmarks.latency.figures import NOT_YET, Answers, Rhythm, closable_ms, percentile, problems
from benchmarks.latency.sale import TICK_MS, Sale, ticks
from benchmarks.throughput.workload import PARTITIONS, TOPICS, Int64s, sku_name
from streams.codec.batches import iter_records
from streams.partitioner import partition_of
from streams.topics import DEMAND_FORECASTS, DEMAND_WINDOWS

START_MS = 1_760_000_040_000
RHYTHM = Rhythm(bucket_ms=1_000, allowed_lateness_ms=500, forecast_interval_ms=2_000)
SALE = Sale(START_MS, seconds=5, rate=900, skus=40)
BUCKETS = 4


def test_the_published_bytes_are_the_events_of_the_sale() -> None:
    totals: dict[tuple[int, int], list[int]] = defaultdict(lambda: [0] * 4)
    ids: set[str] = set()
    for second in range(SALE.seconds):
        for place, tick in enumerate(ticks(SALE, second)):
            due_ms = START_MS + 1_000 * second + TICK_MS * place
            for one in tick:
                records = list(iter_records(one.batch.whole(0, 0)))
                for record in records:
                    assert record.key is not None and record.value is not None
                    event = json.loads(record.value)
                    assert due_ms <= event["event_time_ms"] < due_ms + TICK_MS
                    assert partition_of(record.key, PARTITIONS, "murmur2") == one.partition
                    ids.add(event["event_id"])
                    bucket = (event["event_time_ms"] - START_MS) // RHYTHM.bucket_ms
                    counts = totals[bucket, int(event["sku"][1:])]
                    counts[one.kind] += 1
                    if TOPICS[one.kind] == "orders":
                        counts[3] += event["quantity"]
                assert json.loads(records[-1].value or b"")["event_time_ms"] == one.last_ms
    assert len(ids) == SALE.seconds * SALE.rate
    right = figures.counted(SALE, RHYTHM.bucket_ms)
    told = np.zeros_like(right)
    for place, counts in totals.items():
        told[place] = counts
    assert (told == right).all()


def test_a_bucket_can_close_when_the_last_of_the_three_topics_is_far_enough() -> None:
    """Lateness 500: the bucket that ends at 1,000 waits for an event of 1,500 or later.

    clicks  1,400 at 11, 1,500 at 12      carts  1,700 at 20      orders  1,499 at 30, 1,501 at 33
    """
    rows = [(0, 1_400, 11), (0, 1_500, 12), (1, 1_700, 20), (2, 1_499, 30), (2, 1_501, 33)]
    batches = np.array([(kind, 2, last, at) for kind, last, at in rows], np.int64)
    found = closable_ms(batches, np.array([1_000, 1_100]), 500)
    assert found[2].tolist() == [33, NOT_YET]  # no order is as late as 1,600
    assert (found[[0, 1, 3]] == NOT_YET).all()


@pytest.mark.parametrize(("share", "value"), [(0.5, 50.0), (0.99, 99.0), (0.999, 100.0), (1, 100)])
def test_a_percentile_is_the_least_value_that_covers_its_share(share: float, value: float) -> None:
    assert percentile(np.arange(100.0, 0.0, -1.0), share) == value
    assert percentile(np.array([7.0]), share) == 7.0


def test_a_histogram_gives_the_bound_below_which_a_share_lies() -> None:
    before = 'x_bucket{le="0.01"} 5.0\nx_bucket{le="0.05"} 5.0\nx_bucket{le="+Inf"} 5.0\ny 1\n'
    after = 'x_bucket{le="0.01"} 65.0\nx_bucket{le="0.05"} 104.0\nx_bucket{le="+Inf"} 105.0\n'
    looks = [figures.histogram(text.splitlines(), "x") for text in (before, after)]
    found = figures.histogram_summary(*looks)
    assert found == {"n": 100, "p50_ms": 10, "p99_ms": 50, "p999_ms": np.inf, "max_ms": np.inf}


@pytest.fixture(scope="module")
def right() -> Int64s:
    return figures.counted(SALE, RHYTHM.bucket_ms)


@pytest.fixture
def answers(right: Int64s) -> dict[str, Answers]:
    """As a worker gives them that is right: two slots, a restock, no price."""
    active = right.any(axis=2)
    bucket, sku = np.nonzero(active[:BUCKETS])
    windows = _answers(sku, START_MS + bucket * RHYTHM.bucket_ms, right[bucket, sku])
    even = np.array([crc32(sku_name(number)) % 2 == 0 for number in range(SALE.skus)])
    asked = [
        (at, np.flatnonzero(active[max(0, at - 2) : at].any(axis=0) & whose))
        for at, whose in enumerate((~even, even, ~even, even), 1)
    ]
    skus = np.concatenate([some for _, some in asked])
    origins = START_MS + 1_000 * np.repeat([at for at, _ in asked], [len(s) for _, s in asked])
    forecasts = _answers(skus, origins)
    restocks = _answers(skus[:1], origins[:1])
    rest = _answers(skus[:0], origins[:0])
    return dict(zip(figures.ANSWERS, (windows, forecasts, restocks, rest), strict=True))


def _answers(sku: Int64s, moment_ms: Int64s, counts: Int64s | None = None) -> Answers:
    zeros = np.zeros(len(sku), np.int64)
    told = np.zeros((len(sku), 4), np.int64) if counts is None else counts
    return Answers(zeros, sku, moment_ms, zeros, zeros.astype(np.float64), told)


def _cut(answers: Answers, chosen: Int64s) -> Answers:
    fields = ("partition", "sku", "moment_ms", "sent_ms", "readable_ms", "counts")
    return replace(answers, **{name: getattr(answers, name)[chosen] for name in fields})


def test_right_answers_pass(right: Int64s, answers: dict[str, Answers]) -> None:
    assert list(problems(answers, right, SALE, RHYTHM, BUCKETS)) == []


@pytest.mark.parametrize("name", [DEMAND_WINDOWS, DEMAND_FORECASTS])
def test_what_is_missing_or_double_is_found(
    right: Int64s, answers: dict[str, Answers], name: str
) -> None:
    places = np.arange(len(answers[name].sku))
    without = {**answers, name: _cut(answers[name], places[1:])}
    assert any("1 missing" in one for one in problems(without, right, SALE, RHYTHM, BUCKETS))
    twice = {**answers, name: _cut(answers[name], np.append(places, 3))}
    assert any("1 double" in one for one in problems(twice, right, SALE, RHYTHM, BUCKETS))


def test_a_wrong_count_is_found(right: Int64s, answers: dict[str, Answers]) -> None:
    answers[DEMAND_WINDOWS].counts[5, 1] += 1
    assert list(problems(answers, right, SALE, RHYTHM, BUCKETS)) == ["demand-windows: 1 wrong"]
