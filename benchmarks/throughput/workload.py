"""The seeded sale that every program counts, and the right answer, both as columns.

80 % clicks, 15 % carts, 5 % orders; 10,000 SKUs, zipf with s = 1; event time spread evenly over 66
buckets of ten seconds, however many events there are. Each topic is in the order of event time,
and records carry it as their timestamps, by which some programs bring topics together.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from streams.partitioner import partition_of

TOPICS = ("clicks", "carts", "orders")
SHARES = (0.80, 0.15, 0.05)
PARTITIONS = 4
SKUS = 10_000
BUCKET_MS = 10_000
BUCKETS = 66
CLOSABLE_BUCKETS = BUCKETS - 1  # nothing comes after the last one that would close it
START_MS = 1_760_000_000_000
SEED = 7
FIELDS = ("clicks", "carts", "orders", "units", "revenue_cents", "price_cents")
ID_STEP = 2_654_435_761  # odd, so that ids differ

Int64s = NDArray[np.int64]


@dataclass(frozen=True)
class Workload:
    """All columns int64 [events]; `kind` is the topic's place in TOPICS."""

    kind: Int64s
    sku: Int64s
    event_time_ms: Int64s
    user: Int64s
    price_cents: Int64s
    quantity: Int64s

    @property
    def events(self) -> int:
        return len(self.kind)

    @cached_property
    def partition(self) -> Int64s:
        """Of each event, by its SKU."""
        of_sku = [partition_of(sku_name(sku), PARTITIONS, "murmur2") for sku in range(SKUS)]
        return np.array(of_sku, np.int64)[self.sku]

    @property
    def event_id(self) -> Int64s:
        return np.arange(self.events, dtype=np.int64) * ID_STEP % 2**48

    def windows(self) -> Int64s:
        """What is right, FIELDS of each window, int64 [BUCKETS * SKUS, 6]; zeros: no window."""
        window = window_of(self.event_time_ms, self.sku)

        def sums(of: Int64s | bool, value: Int64s | None = None) -> Int64s:
            weights = of * (1 if value is None else value) * np.ones(self.events)
            # exact: sums of integers stay far below 2**53
            return np.bincount(window, weights, BUCKETS * SKUS).astype(np.int64)

        clicks, carts, orders = (sums(self.kind == number) for number in range(len(TOPICS)))
        ordered = self.kind == TOPICS.index("orders")
        units = sums(ordered, self.quantity)
        revenue = sums(ordered, self.quantity * self.price_cents)
        events = clicks + carts + orders
        price = (2 * sums(True, self.price_cents) + events) // np.maximum(2 * events, 1)
        return np.stack([clicks, carts, orders, units, revenue, price], axis=1)


def window_of(time_ms: Int64s, sku: Int64s) -> Int64s:
    """The row of `Workload.windows` for any time within the bucket."""
    return (time_ms - START_MS) // BUCKET_MS * SKUS + sku


def sku_name(sku: int) -> bytes:
    return b"S%06d" % sku


def workload(events: int, seed: int = SEED) -> Workload:
    """The same for the same two numbers."""
    chance = np.random.default_rng(seed)
    weights = 1.0 / np.arange(1, SKUS + 1)
    by_rank = chance.permutation(SKUS)
    list_price_cents = chance.integers(500, 20_000, SKUS)
    sku = by_rank[chance.choice(SKUS, events, p=weights / weights.sum())]
    return Workload(
        kind=chance.choice(len(TOPICS), events, p=SHARES),
        sku=sku,
        event_time_ms=START_MS + np.arange(events) * (BUCKETS * BUCKET_MS) // events,
        user=chance.integers(0, 100_000, events),
        price_cents=list_price_cents[sku] * chance.integers(90, 101, events) // 100,
        quantity=chance.integers(1, 4, events),
    )
