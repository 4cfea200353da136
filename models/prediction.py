"""What the forecaster says about n SKUs at one origin."""

from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from models.negative_binomial import dispersion_of
from models.row_state import LOAD_WINDOW_MS

Array = NDArray[Any]


@dataclass
class Prediction:
    """Cumulative demand in units, and load in events a second.

    Where no end of the sale is known the fifth horizon repeats the fourth, and `end_known` is
    false; where the sale ends sooner than a horizon, the horizon is cut to its end.
    """

    horizons_ms: Array  # i8[n, 5], rising
    mean: Array  # f64[n, 5]
    dispersion: Array  # f64[n, 5], r of variance = mean + mean^2 / r
    quantiles: Array  # i8[n, 5, 5] at .05, .10, .50, .90, .95
    end_known: Array  # b1[n]
    fallback: Array  # b1[n]: a plain TSB forecast stood in
    cold: Array  # b1[n]: ... because the SKU is new; else because the model failed
    load_mean: Array  # f64[n, 2 leads, 3 kinds], events a second
    load_variance: Array  # f64[n, 2, 3]

    def taken(self, at: Array) -> Self:
        """The prediction of some of its SKUs, by index."""
        return type(self)(**{one.name: getattr(self, one.name)[at] for one in fields(self)})


def at_horizon(prediction: Prediction, wanted_ms: Array) -> tuple[Array, Array]:
    """Mean and dispersion f64[n] of demand within `wanted_ms` i8[n] of the origin.

    Mean and standard deviation run straight between horizons (and from 0), so both rise with
    `wanted_ms`. Beyond the last horizon: nothing more where the sale's end is known, else on at the
    last rate.
    """
    n = len(wanted_ms)
    zero = np.zeros((n, 1))
    knots = np.concatenate((zero, prediction.horizons_ms), axis=1)
    mean = np.concatenate((zero, prediction.mean), axis=1)
    spread = np.sqrt(prediction.mean + prediction.mean**2 / prediction.dispersion)
    deviation = np.concatenate((zero, np.maximum.accumulate(spread, axis=1)), axis=1)
    wanted = np.maximum(np.asarray(wanted_ms, np.float64), 0)
    inside = np.minimum(wanted, knots[:, -1])
    right = np.clip((knots < inside[:, None]).sum(1), 1, knots.shape[1] - 1)
    at = np.arange(n)
    length = knots[at, right] - knots[at, right - 1]
    share = np.where(length > 0, (inside - knots[at, right - 1]) / np.maximum(length, 1), 1.0)
    between = mean[at, right - 1] + share * (mean[at, right] - mean[at, right - 1])
    sigma = deviation[at, right - 1] + share * (deviation[at, right] - deviation[at, right - 1])
    last = np.maximum(knots[:, -1], 1)
    beyond = np.where((wanted > last) & ~prediction.end_known, wanted / last, 1.0)
    return between * beyond, dispersion_of(between * beyond, (sigma * beyond) ** 2)


def load_window_ms(bucket_ms: int) -> int:
    """Stretch over which a load is a mean: the minute that ends at the lead, or one bucket."""
    return max(LOAD_WINDOW_MS, bucket_ms)
