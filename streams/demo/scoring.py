"""How good the forecasts were, against what shoppers really wanted and against plain methods.

Every method forecasts the same (SKU, origin, horizon): cumulative demand from the origin on. The
plain ones see the units sold in closed buckets before the origin, as flashcast did.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from streams.records import HORIZONS_MS, DemandForecast, DemandWindow
from streams.simulation.truth import Truth

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

Row = tuple[int, int, int, int, int, int]  # SKU, origin, through, p50, p05, p95

END_OF_SALE = 0
EWMA_HALF_LIFE_BUCKETS = 12
BASELINES = ("last minute", "mean so far", "moving average (EWMA)")


@dataclass
class Scores:
    """Weighted absolute percentage error of the median by method, and coverage of 5-95 %."""

    horizon_ms: int  # END_OF_SALE: until then
    forecasts: int
    wape: dict[str, float]
    coverage: float


@dataclass
class Collected:
    """What came out of the topics during a demo."""

    forecasts: list[DemandForecast] = field(default_factory=list)
    windows: list[DemandWindow] = field(default_factory=list)


def score(
    collected: Collected,
    truth: Truth,
    names: list[str],
    start_ms: int,
    bucket_ms: int,
    buckets: int,
) -> list[Scores]:
    """One line per horizon, of forecasts whose whole horizon lies within the sale."""
    index = {name: number for number, name in enumerate(names)}
    sold = np.zeros((len(names), buckets))
    for window in collected.windows:
        at = (window.bucket_start_ms - start_ms) // bucket_ms
        if 0 <= at < buckets and window.sku in index:
            sold[index[window.sku], at] = window.units
    end_ms = start_ms + buckets * bucket_ms
    by_horizon: dict[int, list[Row]] = {}
    for forecast in collected.forecasts:
        for ahead in forecast.horizons:
            sku, through_ms = index.get(forecast.sku), forecast.origin_ms + ahead.horizon_ms
            name = END_OF_SALE if ahead is forecast.horizons[-1] else ahead.horizon_ms
            if sku is None or through_ms > end_ms or name not in (*HORIZONS_MS, END_OF_SALE):
                continue
            row = (sku, forecast.origin_ms, through_ms, ahead.p50, ahead.p05, ahead.p95)
            by_horizon.setdefault(name, []).append(row)
    rates = _rates(sold)
    return [
        _score(name, np.array(by_horizon[name], np.int64), truth, rates, start_ms, bucket_ms)
        for name in (*HORIZONS_MS, END_OF_SALE)
        if name in by_horizon
    ]


def _rates(sold: Floats) -> dict[str, Floats]:
    """Units per bucket each plain method expects after bucket i, [SKUs, buckets]."""
    total = np.cumsum(sold, axis=1)
    lagged = np.concatenate([np.zeros((len(sold), 6)), total[:, :-6]], axis=1)
    counts = np.arange(1, sold.shape[1] + 1)
    alpha = 1 - 0.5 ** (1 / EWMA_HALF_LIFE_BUCKETS)
    smooth = np.zeros_like(sold)
    level = sold[:, 0].copy()
    for bucket in range(sold.shape[1]):
        level += alpha * (sold[:, bucket] - level)
        smooth[:, bucket] = level
    values = ((total - lagged) / np.minimum(counts, 6), total / counts, smooth)
    return dict(zip(BASELINES, values, strict=True))


def _score(
    horizon_ms: int,
    rows: Ints,
    truth: Truth,
    rates: dict[str, Floats],
    start_ms: int,
    bucket_ms: int,
) -> Scores:
    sku, origin_ms, through_ms, median, low, high = rows.T
    actual = truth.demand_between(sku, origin_ms, through_ms)
    whole = max(float(actual.sum()), 1.0)
    wape = {"flashcast": float(np.abs(actual - median).sum()) / whole}
    last = np.maximum((origin_ms - start_ms) // bucket_ms - 1, 0)
    for name, rate in rates.items():
        predicted = rate[sku, last] * ((through_ms - origin_ms) / bucket_ms)
        wape[name] = float(np.abs(actual - predicted).sum()) / whole
    covered = float(((actual >= low) & (actual <= high)).mean())
    return Scores(horizon_ms, len(rows), wape, covered)
