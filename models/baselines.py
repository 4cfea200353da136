"""Plain forecasts to beat: each a rate per bucket that goes on, told of nothing but past units.

They are given every fairness that costs them nothing: buckets out of stock do not count against
them, and their quantiles are negative binomial with the dispersion that fits their own errors.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.negative_binomial import DISPERSION_MAX, DISPERSION_MIN
from models.playback import Played
from models.series import SeriesSet
from models.series_sums import SeriesSums

Array = NDArray[Any]

EWMA_HALF_LIVES: Final = {"ewma_5": 5.0, "ewma_30": 30.0}
TSB_GAINS: Final = (0.05, 0.1)  # probability, size


class Rates:
    """EWMA and TSB of every SKU of a series, kept up bucket by bucket. All arrays [n]."""

    def __init__(self, series: SeriesSet) -> None:
        n = series.skus
        self.series = series
        self.sums = {name: np.zeros(n) for name in EWMA_HALF_LIVES}
        self.weights = {name: np.zeros(n) for name in EWMA_HALF_LIVES}
        self.probability = np.zeros(n)
        self.size = np.zeros(n)
        self.steps = np.zeros(n)

    def observe(self, played: Played) -> None:
        """One bucket; SKUs count from their first event on."""
        units, share = np.zeros(self.series.skus), np.ones(self.series.skus)
        units[played.rows] = self.series.units[played.cells]
        share[played.rows] = self.series.in_stock_share[played.cells]
        seen = self.steps > 0
        seen[played.rows] = True
        for name, half_life in EWMA_HALF_LIVES.items():
            decay = 0.5 ** (1 / half_life)
            self.sums[name] = self.sums[name] * decay + units
            self.weights[name] = self.weights[name] * decay + np.where(seen, share, 0)
        judged = seen & ((share > 0) | (units > 0))
        gain, size_gain = (np.maximum(g, 1 / (self.steps + 1)) for g in TSB_GAINS)
        sold = units > 0
        self.probability += np.where(judged, gain * (sold - self.probability), 0)
        self.size += np.where(sold, size_gain * (units - self.size), 0)
        self.steps += judged

    def rates(self) -> dict[str, Array]:
        """Units per bucket."""
        ewma = {name: self.sums[name] / np.maximum(self.weights[name], 1e-9) for name in self.sums}
        return {**ewma, "tsb": self.probability * self.size}


def from_past(
    sums: SeriesSums, sku: Array, first: Array, length: Array, begin: Array, day_buckets: int
) -> dict[str, Array]:
    """Cumulative forecasts f64[m] of buckets [first, first + length) from the past alone.

    naive: what the same length before the origin brought (as far as there is past, from `begin`,
    the SKU's first bucket, on). mean_rate: the mean of all the past. yesterday: the same stretch
    one day before; the naive one where there was none.
    """
    past = first - begin
    back = np.minimum(length, past)
    naive = _rate(sums, sku, first - back, first) * length
    mean = _rate(sums, sku, begin, first) * length
    before = first - day_buckets
    known = (before >= begin) & (length <= day_buckets)
    yesterday = sums.outcome(sku, before, before + length).units
    return {
        "naive": naive,
        "mean_rate": mean,
        "yesterday": np.where(known, yesterday, naive),
    }


def _rate(sums: SeriesSums, sku: Array, first: Array, end: Array) -> Array:
    """Units per bucket in stock of [first, end)."""
    units = sums.outcome(sku, first, end).units
    return np.asarray(units / np.maximum(sums.in_stock(sku, first, end), 1.0))


def fitted_dispersion(y: Array, f: Array) -> float:
    """r by moments: the mean squared error is mean(f) + mean(f^2) / r."""
    excess = float(np.mean((y - f) ** 2) - np.mean(f)) if len(y) else 0.0
    if excess <= 0:
        return DISPERSION_MAX
    return float(np.clip(np.mean(f**2) / excess, DISPERSION_MIN, DISPERSION_MAX))
