"""Online conformal calibration: intervals that keep what they promise.

Per group (size of the expected demand, horizon) three things are learned from every outcome y of a
forecast with mean m and variance v:

- the ratio of what came to what was told, both discounted sums, scales the mean (where at
  least one unit is expected: below, one bulk order would rule);
- the spread s, a discounted mean of (y - m)^2 / v, widens or narrows the distribution to s v
  (there too);
- the level tau at which it is read for each quantile q moves by the adaptive conformal update of
  Gibbs and Candes (2021) on the probability integral transform,
      tau <- tau + gain (q - share of the outcome's probability interval below tau).
  For counts that interval is [F(y - 1), F(y)] (Czado, Gneiting and Held 2009): a tie is neither
  miss nor hit but both in part.

So long-run coverage follows whatever the model does, as far as the quantile table reaches.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.negative_binomial import dispersion_of, nb_cdf, normal_score
from models.prediction import QUANTILES
from models.read_back import sums_array

Array = NDArray[Any]

CLASS_MEANS: Final = (1.0, 10.0, 100.0)  # expected units that part the classes
HORIZONS: Final = 4
GROUPS: Final = (len(CLASS_MEANS) + 1, HORIZONS)
SHAPE: Final = (*GROUPS, 3 + len(QUANTILES))  # told, came, spread, then levels
GAIN: Final = 0.004  # of one outcome
GAIN_MAX: Final = 0.03  # of all outcomes of one moment together: what moves one moves the others
LEVEL_MIN: Final = 0.002
LEVEL_MAX: Final = 0.998
RATIO_BOUNDS: Final = (0.5, 2.0)
SPREAD_BOUNDS: Final = (0.5, 50.0)
SURPRISE_MAX: Final = 50.0  # of one outcome in the spread, so that one bulk order does not rule
MEAN_MIN: Final = 1.0  # below it outcomes say too little about ratio and spread: levels alone move


def nominal() -> Array:
    """The state of a forecaster that was never calibrated, f64[classes, horizons, 8]."""
    state = np.empty(SHAPE)
    state[...] = (0.0, 0.0, 1.0, *QUANTILES)
    typical = np.array((0.3, *(3 * mean for mean in CLASS_MEANS)))
    state[..., :2] = typical[:, None, None]  # as if so much had been told, and had come
    return state


NOMINAL_SCORES: Final = normal_score(np.array(QUANTILES))


def classes(mean: Array) -> Array:
    """Which class an expected demand belongs to."""
    return np.searchsorted(CLASS_MEANS, mean, side="right")


def checked(told: Any) -> Array:
    """A calibration state read back, f64 of SHAPE. Raises ValueError when it can be none: what was
    told is above 0, as are spreads, and levels are probabilities.
    """
    state = sums_array(told, SHAPE, "calibration")
    levels = state[..., 3:]
    if (state[..., (0, 2)] == 0).any() or (levels == 0).any() or (levels >= 1).any():
        raise ValueError("calibration: divisors above 0 and levels within 0 and 1 are allowed")
    return state


class Calibrator:
    """Of one partition; starts from the state found in training."""

    def __init__(self, state: Array) -> None:
        self.told = np.array(state[..., 0], np.float64)
        self.came = np.array(state[..., 1], np.float64)
        self.spread = np.array(state[..., 2], np.float64)
        self.levels = np.array(state[..., 3:], np.float64)
        self.seen = np.zeros(GROUPS, np.int64)
        self._scores: Array | None = None  # of the levels, until they move

    @property
    def state(self) -> Array:
        """Of `SHAPE`: what another calibrator may start from."""
        return np.concatenate(
            (np.stack((self.told, self.came, self.spread), axis=2), self.levels), axis=2
        )

    def ratio(self) -> Array:
        """What the model's mean is multiplied by, f64[classes, horizons]."""
        return np.clip(self.came / self.told, *RATIO_BOUNDS)

    def update(self, horizon: Array, mean: Array, dispersion: Array, sold: Array) -> None:
        """Outcomes [m] of forecasts: the model's own mean and dispersion, units sold."""
        ok = (mean > 0) & (dispersion > 0)
        horizon, mean, dispersion, sold = (
            np.asarray(a[ok], np.float64) for a in (horizon, mean, dispersion, sold)
        )
        group = classes(mean) * HORIZONS + horizon.astype(np.int64)
        size = self.spread.size
        count = np.bincount(group, minlength=size)
        # m outcomes at once weigh like m in turn, within bounds
        gain = np.minimum(1 - (1 - GAIN) ** count, GAIN_MAX)
        weight = gain / np.maximum(count, 1)
        enough = mean >= MEAN_MIN
        told = np.bincount(group, weights=mean, minlength=size)
        came = np.bincount(group, weights=sold, minlength=size)
        mean = mean * self.ratio().ravel()[group]
        self.told[1:] += (weight * told - gain * self.told.ravel()).reshape(GROUPS)[1:]
        self.came[1:] += (weight * came - gain * self.came.ravel()).reshape(GROUPS)[1:]
        variance = mean + mean**2 / dispersion
        spread = self.spread.ravel()
        self._move_levels(group, weight, mean, dispersion_of(mean, variance * spread[group]), sold)
        surprise = np.minimum((sold - mean) ** 2 / variance, SURPRISE_MAX)
        surprise = np.where(enough, surprise, spread[group])
        change = np.bincount(group, weights=surprise - spread[group], minlength=size)
        self.spread = np.clip(spread + weight * change, *SPREAD_BOUNDS).reshape(GROUPS)
        self.seen += count.reshape(GROUPS)
        self._scores = None

    def _move_levels(
        self, group: Array, weight: Array, mean: Array, dispersion: Array, sold: Array
    ) -> None:
        above = nb_cdf(sold, mean, dispersion)
        below = np.where(sold > 0, nb_cdf(sold - 1, mean, dispersion), 0.0)
        table = self.levels.reshape(-1, len(QUANTILES))
        width = np.maximum(above - below, 1e-9)[:, None]
        covered = np.clip((table[group] - below[:, None]) / width, 0, 1)
        missing = np.zeros_like(table)
        np.add.at(missing, group, np.array(QUANTILES) - covered)
        table = np.clip(table + weight[:, None] * missing, LEVEL_MIN, LEVEL_MAX)
        self.levels = np.maximum.accumulate(table, axis=1).reshape((*GROUPS, len(QUANTILES)))

    def at(self, mean: Array, dispersion: Array) -> tuple[Array, Array, Array]:
        """Calibrated mean and dispersion f64[n, 5], and the normal scores f64[n, 5, quantiles] at
        which to read forecasts [n, 5].

        The end of the sale, which comes once, is read like the longest horizon that is tracked.
        """
        if self._scores is None:
            self._scores = normal_score(self.levels)
        horizon = np.minimum(np.arange(mean.shape[1]), HORIZONS - 1)
        group = (classes(mean), np.broadcast_to(horizon, mean.shape))
        mean = np.maximum.accumulate(mean * self.ratio()[group], axis=1)
        variance = (mean + mean**2 / dispersion) * self.spread[group]
        return mean, dispersion_of(mean, variance), self._scores[group]

    def meta(self) -> dict[str, Any]:
        """JSON-able."""
        return {"state": self.state.tolist(), "seen": self.seen.tolist()}

    def restore(self, meta: dict[str, Any]) -> None:
        """The opposite of `meta`. Raises ValueError for what it cannot have said."""
        state = checked(meta["state"])
        self.told, self.came, self.spread = (state[..., i].copy() for i in range(3))
        self.levels = state[..., 3:].copy()
        self.seen = sums_array(meta["seen"], GROUPS, "seen").astype(np.int64)
        self._scores = None
