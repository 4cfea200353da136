"""Which forecasts must be there, and when: worked out plainly from the windows of a partition.

The ends of buckets are numbered from the epoch on. In an interval of n buckets a SKU is forecast at
the end whose number is the CRC-32 of its name, modulo n, if it was active since its last forecast.
"""

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bucket:
    """All SKUs active in it."""

    start_ms: int
    skus: list[str]


@dataclass(frozen=True, slots=True)
class Moment:
    """Of forecasts, of these SKUs, which may be none."""

    at_ms: int
    slot: int
    skus: list[str]


def timeline(
    cells: Iterable[tuple[str, int]], bucket_ms: int, interval_ms: int, through_ms: int
) -> Iterator[Bucket | Moment]:
    """Buckets and the moments of the interval that follows each, in their order; `cells` are (SKU,
    start of bucket), and `through_ms` is how far buckets have closed.
    """
    slots = interval_ms // bucket_ms
    by_start: dict[int, list[str]] = {}
    for sku, start_ms in cells:
        by_start.setdefault(start_ms, []).append(sku)
    active: set[str] = set()
    ahead: list[int] = []  # ends of buckets at which somebody may have to be forecast

    def moments(upto_ms: int) -> Iterator[Moment]:
        while ahead and ahead[0] <= upto_ms:
            at_ms = ahead.pop(0)
            slot = at_ms // bucket_ms % slots
            skus = sorted(sku for sku in active if zlib.crc32(sku.encode()) % slots == slot)
            active.difference_update(skus)
            yield Moment(at_ms, slot, skus)

    for start_ms in sorted(by_start):
        yield from moments(start_ms)
        yield Bucket(start_ms, sorted(by_start[start_ms]))
        active.update(by_start[start_ms])
        end_ms = start_ms + bucket_ms
        behind_ms = ahead[-1] + bucket_ms if ahead else end_ms
        ahead += range(behind_ms, end_ms + interval_ms, bucket_ms)
    yield from moments(through_ms)
