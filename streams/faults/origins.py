"""Which forecasts must be there, and when: worked out plainly from the windows of a partition.

An origin is the first multiple of the interval at or after the end of the first bucket that closes
after the origin before; every SKU that was active since is forecast there, once all buckets before
it are closed.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bucket:
    """All SKUs active in it."""

    start_ms: int
    skus: list[str]


@dataclass(frozen=True, slots=True)
class Moment:
    """Of forecasts, of these SKUs."""

    at_ms: int
    skus: list[str]


def timeline(
    cells: Iterable[tuple[str, int]], bucket_ms: int, interval_ms: int, through_ms: int
) -> Iterator[Bucket | Moment]:
    """Buckets and origins in their order; `cells` are (SKU, start of bucket), and `through_ms` is
    how far buckets have closed.
    """
    by_start: dict[int, list[str]] = {}
    for sku, start_ms in cells:
        by_start.setdefault(start_ms, []).append(sku)
    next_ms: int | None = None
    active: set[str] = set()
    for start_ms in sorted(by_start):
        if next_ms is not None and start_ms >= next_ms:
            yield Moment(next_ms, sorted(active))
            next_ms, active = None, set()
        yield Bucket(start_ms, sorted(by_start[start_ms]))
        active.update(by_start[start_ms])
        if next_ms is None:
            next_ms = -(-(start_ms + bucket_ms) // interval_ms) * interval_ms
    if next_ms is not None and through_ms >= next_ms:
        yield Moment(next_ms, sorted(active))
