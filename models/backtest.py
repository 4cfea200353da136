"""Backtest: a series played through the serving path, every forecast judged against what came.

`Forecaster.step` and `predict` run as in the stream, calibration included; the plain baselines see
the same past. Where a simulator knows demand, that is the yardstick; else sales, and stretches in
which the shelf was empty are left out.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models import accuracy
from models.baselines import Rates, fitted_dispersion, from_past
from models.forecaster import Forecaster
from models.memory import ForecastMemory
from models.negative_binomial import nb_quantile, normal_score
from models.playback import play, time_left_ms
from models.prediction import QUANTILES, load_window_ms
from models.row_state import LOAD_LEADS_MS
from models.series import SeriesSet
from models.series_sums import SeriesSums
from models.training_set import judged

Array = NDArray[Any]

HORIZON_NAMES: Final = ("1min", "5min", "15min", "60min", "end")
MODEL: Final = "flashcast"
DAY_MS: Final = 86_400_000


@dataclass
class Forecasts:
    """Every forecast of a backtest, rows in the order of origins."""

    sku: list[Array] = field(default_factory=list)
    first: list[Array] = field(default_factory=list)  # first bucket forecast
    left: list[Array] = field(default_factory=list)
    horizons: list[Array] = field(default_factory=list)
    mean: list[Array] = field(default_factory=list)
    quantiles: list[Array] = field(default_factory=list)
    fallback: list[Array] = field(default_factory=list)
    load_first: list[int] = field(default_factory=list)  # first bucket ahead, by origin
    load_mean: list[Array] = field(default_factory=list)  # [2 leads] events a second, all SKUs
    load_variance: list[Array] = field(default_factory=list)
    rates: dict[str, list[Array]] = field(default_factory=dict)


@dataclass
class Report:
    """Measures by horizon and method: report.scores["5min"]["flashcast"]["wape"]."""

    series: str
    forecasts: int
    fallback_share: float
    scores: dict[str, dict[str, dict[str, float]]]
    memory: ForecastMemory


def backtest(
    series: SeriesSet,
    forecaster: Forecaster,
    *,
    origin_buckets: int,
    first_bucket: int = 0,
    told: bool = True,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Report:
    """Forecasts every `origin_buckets` buckets from `first_bucket` on, of every SKU seen so far.

    The buckets before it are played too. `progress` is told buckets done and of how many.
    """
    memory = ForecastMemory(forecaster, series.skus)
    rates, made = Rates(series), Forecasts()
    for played in play(series, told):
        rates.observe(played)
        if played.inputs is not None:
            forecaster.step([(memory, played.rows, played.inputs)])
        first = played.bucket + 1
        if first >= first_bucket and first % origin_buckets == 0:
            rows = np.nonzero(memory.steps > 0)[0]
            if len(rows):
                _forecast(series, forecaster, memory, rows, first, told, rates, made)
        if first % 32 == 0 or first == series.buckets:
            progress(first, series.buckets)
    return _report(series, made, memory)


def _forecast(
    series: SeriesSet,
    forecaster: Forecaster,
    memory: ForecastMemory,
    rows: Array,
    first: int,
    told: bool,
    rates: Rates,
    made: Forecasts,
) -> None:
    origin_ms = series.start_ms + first * series.bucket_ms
    left = time_left_ms(series, rows, origin_ms, told)
    prediction = forecaster.predict([(memory, rows, origin_ms, left)])[0]
    made.sku.append(rows)
    made.first.append(np.full(len(rows), first))
    made.left.append(left)
    made.horizons.append(prediction.horizons_ms)
    made.mean.append(prediction.mean)
    made.quantiles.append(prediction.quantiles)
    made.fallback.append(prediction.fallback)
    made.load_first.append(first)
    load, own = prediction.load_mean.sum(axis=0), prediction.load_variance.sum(axis=0)
    made.load_mean.append(load.sum(axis=1))
    made.load_variance.append(memory.load_variance(load, own).sum(axis=1))
    memory.await_load(origin_ms, load, own)
    for name, rate in rates.rates().items():
        made.rates.setdefault(name, []).append(rate[rows])


def _report(series: SeriesSet, made: Forecasts, memory: ForecastMemory) -> Report:
    sums = SeriesSums(series)
    begin = np.full(series.skus, series.buckets)
    np.minimum.at(begin, series.sku, series.bucket)
    sku, first = np.concatenate(made.sku), np.concatenate(made.first)
    horizons, left = np.concatenate(made.horizons), np.concatenate(made.left)
    mean, quantiles = np.concatenate(made.mean), np.concatenate(made.quantiles)
    rates = {name: np.concatenate(parts) for name, parts in made.rates.items()}
    asked = judged(horizons, left, series.bucket_ms)
    scores = {}
    for h, name in enumerate(HORIZON_NAMES):
        length = horizons[:, h] // series.bucket_ms
        outcome = sums.outcome(sku, first, first + length, truth=True)
        use = asked[:, h] & outcome.whole & ~outcome.censored
        if not use.any():
            continue
        y, length, at = outcome.units[use], length[use], (sku[use], first[use])
        plain = {key: rate[use] * length for key, rate in rates.items()}
        plain |= from_past(sums, *at, length, begin[sku[use]], DAY_MS // series.bucket_ms)
        if series.buckets * series.bucket_ms < 2 * DAY_MS:
            del plain["yesterday"]
        ours = _score(y, quantiles[use, h, 2], mean[use, h], quantiles[use, h], plain["naive"])
        scores[name] = {MODEL: ours}
        for key, f in plain.items():
            scores[name][key] = _score(y, f, f, _plain_quantiles(y, f), plain["naive"])
    scores |= _load_scores(series, made)
    fallback = float(np.concatenate(made.fallback).mean())
    return Report(series.name, len(sku), fallback, scores, memory)


def _load_scores(series: SeriesSet, made: Forecasts) -> dict[str, dict[str, dict[str, float]]]:
    """Events a second over all SKUs and kinds, against the rate of the last window going on.

    Normal quantiles of the forecast's mean and variance; the naive one has the variance of its own
    errors in hindsight.
    """
    window = load_window_ms(series.bucket_ms) // series.bucket_ms
    window_s = window * series.bucket_ms / 1000
    events = np.zeros(series.buckets + 1)
    np.add.at(events, series.bucket + 1, series.clicks + series.carts + series.orders)
    summed = np.cumsum(events)
    first = np.array(made.load_first)
    mean, variance = np.array(made.load_mean), np.array(made.load_variance)
    before = (summed[first] - summed[np.maximum(first - window, 0)]) / window_s
    score = normal_score(np.array(QUANTILES))
    scores = {}
    for lead, lead_ms in enumerate(LOAD_LEADS_MS):
        if lead_ms % series.bucket_ms:
            continue
        end = first + lead_ms // series.bucket_ms
        whole = end <= series.buckets
        begin, end = (end - window)[whole], end[whole]
        y = (summed[end] - summed[begin]) / window_s
        naive, ours = before[whole], mean[whole, lead]
        width = np.sqrt(variance[whole, lead])[:, None]
        plain_width = accuracy.rmse(y, naive)
        scores[f"load {HORIZON_NAMES[lead]}"] = {
            MODEL: _score(y, ours, ours, ours[:, None] + width * score, naive),
            "naive": _score(y, naive, naive, naive[:, None] + plain_width * score, naive),
        }
    return scores


def _score(y: Array, point: Array, mean: Array, quantiles: Array, naive: Array) -> dict[str, float]:
    """WAPE of the point (ours: the median), bias and RMSSE of the mean, pinball and coverage of
    the quantiles.
    """
    losses = [accuracy.pinball(y, quantiles[:, i], q) for i, q in enumerate(QUANTILES)]
    return {
        "wape": accuracy.wape(y, point),
        "bias": accuracy.bias(y, mean),
        "rmsse": accuracy.rmsse(y, mean, naive),
        "pinball": float(np.mean(losses)),
        "coverage90": accuracy.coverage(y, quantiles[:, 0], quantiles[:, -1]),
        "n": float(len(y)),
        "mean_outcome": float(y.mean()),
    }


def _plain_quantiles(y: Array, f: Array) -> Array:
    """The best fixed dispersion in hindsight: a kindness to the baselines."""
    r = fitted_dispersion(y, f)
    return nb_quantile(f[:, None], np.array(r), np.array(QUANTILES)[None, :])
