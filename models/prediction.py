"""What the forecaster says about n SKUs at one origin."""

import math
from dataclasses import dataclass, fields
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from models.jit import njit
from models.negative_binomial import dispersion_of
from models.row_state import LOAD_WINDOW_MS

Array = NDArray[Any]

QUANTILES: Final = (0.05, 0.10, 0.50, 0.90, 0.95)


@dataclass
class Prediction:
    """Cumulative demand in units, and load in events a second.

    Where no end of the sale is known the fifth horizon repeats the fourth, and `end_known` is
    false; where the sale ends sooner than a horizon, the horizon is cut to its end.
    """

    horizons_ms: Array  # i8[n, 5], rising
    mean: Array  # f64[n, 5]
    dispersion: Array  # f64[n, 5], r of variance = mean + mean^2 / r
    quantiles: Array  # i8[n, 5, 5] at QUANTILES
    end_known: Array  # b1[n]
    fallback: Array  # b1[n]: a plain TSB forecast stood in
    cold: Array  # b1[n]: ... because the SKU is new; else because the model failed
    load_mean: Array  # f64[n, 2 leads, 3 kinds], events a second
    load_variance: Array  # f64[n, 2, 3], of each SKU alone: `ForecastMemory.load_variance`

    def taken(self, at: Array) -> Self:
        """The prediction of some of its SKUs, by index."""
        return type(self)(**{one.name: getattr(self, one.name)[at] for one in fields(self)})


def at_horizon(prediction: Prediction, wanted_ms: Array) -> tuple[Array, Array]:
    """Mean and dispersion f64[n] of demand within `wanted_ms` i8[n] of the origin.

    Mean and standard deviation run straight between horizons (and from 0), so both rise with
    `wanted_ms`. Beyond the last horizon: nothing more where the sale's end is known, else on at the
    last rate.
    """
    mean, variance = np.empty(len(wanted_ms)), np.empty(len(wanted_ms))
    _between_horizons(
        prediction.horizons_ms, prediction.mean, prediction.dispersion, prediction.end_known,
        np.asarray(wanted_ms, np.int64), mean, variance,
    )  # fmt: skip
    return mean, dispersion_of(mean, variance)


@njit
def _between_horizons(
    horizons_ms: Array, mean: Array, dispersion: Array, end_known: Array, wanted_ms: Array,
    mean_out: Array, variance_out: Array,
) -> None:  # fmt: skip
    for i in range(len(wanted_ms)):
        last = horizons_ms[i, -1]
        wanted = max(wanted_ms[i], 0)
        inside = min(wanted, last)
        begin = 0  # of the stretch that holds it, with what is expected up to there
        before = deviation_before = at = deviation = 0.0
        for h in range(horizons_ms.shape[1]):
            end = horizons_ms[i, h]
            at = mean[i, h]
            deviation = max(deviation_before, math.sqrt(at + at**2 / dispersion[i, h]))
            if inside <= end:
                share = (inside - begin) / (end - begin) if end > begin else 1.0
                at = before + share * (at - before)
                deviation = deviation_before + share * (deviation - deviation_before)
                break
            begin, before, deviation_before = end, at, deviation
        beyond = 1.0
        if wanted > max(last, 1) and not end_known[i]:
            beyond = wanted / max(last, 1)
        mean_out[i] = at * beyond
        variance_out[i] = (deviation * beyond) ** 2


def load_window_ms(bucket_ms: int) -> int:
    """Stretch over which a load is a mean: the minute that ends at the lead, or one bucket."""
    return max(LOAD_WINDOW_MS, bucket_ms)
