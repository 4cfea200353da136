"""The seeded sale that is published as it happens, second by second.

Event i of a second lies i / rate after its beginning, so that whoever knows the seed knows every
event, wherever the load has got to.
"""

from collections.abc import Iterator
from functools import cache

import msgspec
import numpy as np

from benchmarks.throughput.encode import record_matrix
from benchmarks.throughput.workload import (
    ID_STEP,
    PARTITIONS,
    SHARES,
    TOPICS,
    Int64s,
    Workload,
    sku_name,
)
from streams.codec.write import RecordBatch
from streams.partitioner import partition_of

SEED = 7
TICK_MS = 20  # a producer collects for so long, then sends one batch a topic partition
SECOND_MS = 1_000


class Sale(msgspec.Struct, frozen=True):
    """`start_ms` (wall clock) is that of the first bucket."""

    start_ms: int
    seconds: int
    rate: int  # events a second
    skus: int
    seed: int = SEED

    @property
    def end_ms(self) -> int:
        """No event is as late as that."""
        return self.start_ms + self.seconds * SECOND_MS

    def second(self, number: int) -> Workload:
        """Its events, in the order of their times."""
        chance = np.random.default_rng([self.seed, number])
        weights = 1.0 / np.arange(1, self.skus + 1)
        by_rank = np.random.default_rng(self.seed).permutation(self.skus)
        list_price_cents = 500 + 13 * np.arange(self.skus) % 19_500
        sku = by_rank[chance.choice(self.skus, self.rate, p=weights / weights.sum())]
        begin_ms = self.start_ms + number * SECOND_MS
        return Workload(
            kind=chance.choice(len(TOPICS), self.rate, p=SHARES),
            sku=sku,
            event_time_ms=begin_ms + np.arange(self.rate) * SECOND_MS // self.rate,
            user=chance.integers(0, 100_000, self.rate),
            price_cents=list_price_cents[sku] * chance.integers(90, 101, self.rate) // 100,
            quantity=chance.integers(1, 4, self.rate),
        )

    def event_ids(self, number: int) -> Int64s:
        """Of one second; none comes twice in a sale."""
        return (number * self.rate + np.arange(self.rate)) * ID_STEP % 2**48


class Tick(msgspec.Struct, frozen=True):
    """What one topic partition is sent at once. `last_ms`: its greatest event time."""

    kind: int
    partition: int
    last_ms: int
    batch: RecordBatch


@cache
def partitions_of(skus: int) -> Int64s:
    """Of each SKU, int64 [skus]."""
    numbers = [partition_of(sku_name(sku), PARTITIONS, "murmur2") for sku in range(skus)]
    return np.array(numbers, np.int64)


def ticks(sale: Sale, number: int) -> list[list[Tick]]:
    """One second, encoded: its ticks in order, each with all that is sent then."""
    work, event_id = sale.second(number), sale.event_ids(number)
    partition = partitions_of(sale.skus)[work.sku]
    found: list[list[Tick]] = [[] for _ in range(SECOND_MS // TICK_MS)]
    for kind in range(len(TOPICS)):
        for place in range(PARTITIONS):
            rows = np.flatnonzero((work.kind == kind) & (partition == place))
            tick = (work.event_time_ms[rows] - sale.start_ms) % SECOND_MS // TICK_MS
            for at, last, batch in _batches(work, event_id, kind, rows, tick):
                last_ms = int(work.event_time_ms[rows[last]])
                found[at].append(Tick(kind, place, last_ms, batch))
    return found


def _batches(
    work: Workload, event_id: Int64s, kind: int, rows: Int64s, tick: Int64s
) -> Iterator[tuple[int, int, RecordBatch]]:
    """(tick, place of its last record in `rows`, batch) of one topic partition."""
    if not len(rows):
        return
    first = np.searchsorted(tick, tick)
    (record, there), _ = record_matrix(work, event_id, kind, rows, first)
    data = record[there].tobytes()
    ends = np.cumsum(there.sum(axis=1))
    for begin in np.unique(first).tolist():
        last = int(np.searchsorted(tick, tick[begin], "right")) - 1
        body = data[int(ends[begin - 1]) if begin else 0 : int(ends[last])]
        yield int(tick[begin]), last, RecordBatch(body, last + 1 - begin)
