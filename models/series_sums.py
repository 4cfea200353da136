"""Sums over stretches of a series: what really happened after (or before) an origin."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.series import SeriesSet

Array = NDArray[Any]


@dataclass
class Outcome:
    """What happened in stretches, all of the queried shape."""

    units: Array  # f64 sold, or wanted where the series knows demand and it was asked for
    censored: Array  # b1: the shelf was empty at times, so sales are a lower bound of demand
    empty: Array  # b1: the shelf was empty throughout, so sales say nothing
    whole: Array  # b1: the stretch lies within the series


class SeriesSums:
    """Prefix sums of the cells in (sku, bucket) order."""

    def __init__(self, series: SeriesSet) -> None:
        order = np.lexsort((series.bucket, series.sku))
        self.buckets = series.buckets
        self.key = series.sku[order] * (series.buckets + 1) + series.bucket[order]
        self.demand = None if series.demand is None else _prefix(series.demand[order])
        self.units = _prefix(series.units[order])
        self.kinds = [_prefix(a[order]) for a in (series.clicks, series.carts, series.orders)]
        self.out = _prefix(1.0 - series.in_stock_share[order])

    def outcome(self, sku: Array, first: Array, end: Array, truth: bool = False) -> Outcome:
        """Of buckets [first, end) of each SKU. `truth`: demand itself, never censored, if known."""
        low, high = self._places(sku, first, end)
        out = self.out[high] - self.out[low]
        whole = (end <= self.buckets) & (first >= 0)
        if truth and self.demand is not None:
            never = np.zeros(out.shape, np.bool_)
            return Outcome(self.demand[high] - self.demand[low], never, never, whole)
        length = end - first
        empty = (length > 0) & (out >= length - 1e-6)
        return Outcome(self.units[high] - self.units[low], out > 1e-6, empty, whole)

    def in_stock(self, sku: Array, first: Array, end: Array) -> Array:
        """Buckets in stock of [first, end), from bucket 0 on."""
        low, high = self._places(sku, first, end)
        length = np.clip(end, 0, None) - np.clip(first, 0, None)
        return np.asarray(length - (self.out[high] - self.out[low]))

    def counts(self, sku: Array, first: Array, end: Array) -> Array:
        """Clicks, carts, orders of buckets [first, end): the queried shape and [3]."""
        low, high = self._places(sku, first, end)
        return np.stack([kind[high] - kind[low] for kind in self.kinds], axis=-1)

    def _places(self, sku: Array, first: Array, end: Array) -> tuple[Array, Array]:
        base = sku * (self.buckets + 1)
        low = np.searchsorted(self.key, base + np.clip(first, 0, self.buckets))
        high = np.searchsorted(self.key, base + np.clip(end, 0, self.buckets))
        return low, high


def _prefix(column: Array) -> Array:
    return np.concatenate(([0.0], np.cumsum(column, dtype=np.float64)))
