"""When an answer could be given, how long it took, and whether every one is there: pure."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from benchmarks.latency.sale import Sale
from benchmarks.throughput.workload import PARTITIONS, TOPICS, Int64s, sku_name
from streams.topics import DEMAND_FORECASTS, DEMAND_WINDOWS, PRICE_ADJUSTMENTS, RESTOCK_EVENTS

ANSWERS = (DEMAND_WINDOWS, DEMAND_FORECASTS, RESTOCK_EVENTS, PRICE_ADJUSTMENTS)
NOT_YET = -1

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Answers:
    """Records of one topic, all arrays [n]. `moment_ms`: the bucket's start, or the origin."""

    partition: Int64s
    sku: Int64s
    moment_ms: Int64s
    sent_ms: Int64s  # by the worker's clock, when its transaction began
    readable_ms: Floats
    counts: Int64s  # [n, 4]: clicks, carts, orders, units; of windows


@dataclass(frozen=True)
class Rhythm:
    """The worker's, in ms."""

    bucket_ms: int
    allowed_lateness_ms: int
    forecast_interval_ms: int


def closable_ms(batches: Int64s, ends_ms: Int64s, allowed_lateness_ms: int) -> Int64s:
    """When the buckets that end at `ends_ms` could close, int64 [PARTITIONS, n]; NOT_YET: never.

    `batches` int64 [m, >=4] are kind, partition, greatest event time and time of appending, in the
    order of each topic partition. That is when the slowest of the three topics got its first event
    at or behind end + lateness.
    """
    moments = np.full((len(TOPICS), PARTITIONS, len(ends_ms)), NOT_YET, np.int64)
    for kind in range(len(TOPICS)):
        for partition in range(PARTITIONS):
            of_one = batches[(batches[:, 0] == kind) & (batches[:, 1] == partition)]
            first = np.searchsorted(of_one[:, 2], ends_ms + allowed_lateness_ms)
            passed = first < len(of_one)
            moments[kind, partition, passed] = of_one[first[passed], 3]
    return np.where((moments == NOT_YET).any(axis=0), NOT_YET, moments.max(axis=0))


def percentile(values: Floats, share: float) -> float:
    """The least of the values that at least `share` of them do not exceed."""
    return float(np.sort(values)[max(0, math.ceil(share * len(values)) - 1)])


def summary(latency_ms: Floats) -> dict[str, float | int | None]:
    """Percentiles of one kind of answer."""
    names = {"p50_ms": 0.5, "p99_ms": 0.99, "p999_ms": 0.999, "max_ms": 1.0}
    return {"n": len(latency_ms)} | {
        name: round(percentile(latency_ms, share), 1) if len(latency_ms) else None
        for name, share in names.items()
    }


def histogram(lines: Iterable[str], name: str) -> dict[float, float]:
    """Cumulated counts by upper bound in seconds, from `/metrics`."""
    prefix = f'{name}_bucket{{le="'
    found = (line.removeprefix(prefix).split('"} ') for line in lines if line.startswith(prefix))
    return {float(bound): float(count) for bound, count in found}


def histogram_summary(before: dict[float, float], after: dict[float, float]) -> dict[str, float]:
    """Of what came between two looks: upper bounds of the percentiles, in ms."""
    bounds = sorted(after)
    counts = np.array([after[bound] - before.get(bound, 0.0) for bound in bounds])
    total = counts[-1]
    names = {"p50_ms": 0.5, "p99_ms": 0.99, "p999_ms": 0.999, "max_ms": 1.0}
    return {"n": int(total)} | {
        name: 1_000 * bounds[int(np.searchsorted(counts, share * total))]
        for name, share in names.items()
    }


def counted(sale: Sale, bucket_ms: int) -> Int64s:
    """What is right: clicks, carts, orders and units, int64 [buckets, skus, 4]."""
    buckets = -(-sale.seconds * 1_000 // bucket_ms)
    total = np.zeros((buckets * sale.skus, 4), np.int64)
    for number in range(sale.seconds):
        work = sale.second(number)
        window = (work.event_time_ms - sale.start_ms) // bucket_ms * sale.skus + work.sku
        np.add.at(total, (window, work.kind), 1)
        orders = work.kind == TOPICS.index("orders")
        np.add.at(total, (window[orders], 3), work.quantity[orders])
    return total.reshape(buckets, sale.skus, 4)


def problems(
    answers: dict[str, Answers], right: Int64s, sale: Sale, rhythm: Rhythm, buckets: int
) -> Iterator[str]:
    """What is missing, double or wrong, of the first `buckets`, which could close."""
    windows = answers[DEMAND_WINDOWS]
    bucket = (windows.moment_ms - sale.start_ms) // rhythm.bucket_ms
    told = np.zeros_like(right)
    np.add.at(told, (bucket, windows.sku), windows.counts)
    times = np.zeros(right.shape[:2], np.int64)
    np.add.at(times, (bucket, windows.sku), 1)
    active = right.any(axis=2)
    yield from _amiss(DEMAND_WINDOWS, times[:buckets], active[:buckets])
    if wrong := int((told[:buckets] != right[:buckets]).any(axis=2).sum()):
        yield f"{DEMAND_WINDOWS}: {wrong} wrong"
    awaited = asked_at(active[:buckets], sale, rhythm)
    for name in ANSWERS[1:]:
        one = answers[name]
        end = (one.moment_ms - sale.start_ms) // rhythm.bucket_ms
        known = end <= buckets
        times = np.zeros(awaited.shape, np.int64)
        np.add.at(times, (end[known], one.sku[known]), 1)
        wanted = awaited
        if name != DEMAND_FORECASTS:  # decisions come when there is something to decide
            wanted = awaited & (times > 0)
        yield from _amiss(name, times, wanted)


def asked_at(active: NDArray[np.bool_], sale: Sale, rhythm: Rhythm) -> NDArray[np.bool_]:
    """Whether each SKU is to be forecast when so many buckets are over, bool [buckets + 1, skus].

    A SKU's turn comes once an interval, in the slot that is the CRC-32 of its name modulo the
    buckets of an interval; it is forecast when it was `active`, bool [buckets, skus], since.
    """
    slots = rhythm.forecast_interval_ms // rhythm.bucket_ms
    slot = np.array([crc32(sku_name(sku)) % slots for sku in range(sale.skus)])
    first = sale.start_ms // rhythm.bucket_ms
    asked = np.zeros((len(active) + 1, sale.skus), np.bool_)
    since = np.zeros(sale.skus, np.bool_)
    for over, bucket in enumerate(active, 1):
        since |= bucket
        turn = (first + over) % slots == slot
        asked[over] = since & turn
        since &= ~turn
    return asked


def _amiss(name: str, times: Int64s, wanted: NDArray[np.bool_]) -> Iterator[str]:
    missing, double, idle = (
        int(mask.sum()) for mask in (wanted & (times == 0), times > 1, ~wanted & (times > 0))
    )
    if missing or double or idle:
        yield f"{name}: {missing} missing, {double} double, {idle} not asked for"
