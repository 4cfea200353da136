"""Online conformal calibration: quantile levels that keep what they promise.

For each group (size of the expected demand, horizon) and each quantile q the level tau at which the
model's distribution is read is moved after every observed outcome,

    tau <- tau + gain (q - share of the outcome's probability interval below tau),

the adaptive conformal update of Gibbs and Candes (2021) on the probability integral transform; for
counts the interval is [F(y - 1), F(y)] (Czado, Gneiting and Held 2009), so ties are neither misses
nor hits but both in part. Long-run coverage follows whatever the model does.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.negative_binomial import nb_cdf

Array = NDArray[Any]

QUANTILES: Final = (0.05, 0.10, 0.50, 0.90, 0.95)
CLASS_MEANS: Final = (1.0, 10.0, 100.0)  # expected units that part the classes
HORIZONS: Final = 4
SHAPE: Final = (len(CLASS_MEANS) + 1, HORIZONS, len(QUANTILES))
GAIN: Final = 0.004
LEVEL_MIN: Final = 0.002
LEVEL_MAX: Final = 0.998


def nominal() -> Array:
    """Levels of a forecaster that was never calibrated, f64[classes, horizons, quantiles]."""
    return np.broadcast_to(np.array(QUANTILES), SHAPE).copy()


def classes(mean: Array) -> Array:
    """Which class an expected demand belongs to."""
    return np.searchsorted(CLASS_MEANS, mean, side="right")


class Calibrator:
    """Of one partition; starts from the levels found in training."""

    def __init__(self, levels: Array) -> None:
        self.levels = np.array(levels, np.float64)
        self.seen = np.zeros(SHAPE[:2], np.int64)

    def update(self, horizon: Array, mean: Array, dispersion: Array, sold: Array) -> None:
        """Outcomes [m] of forecasts: uncalibrated mean and dispersion, units sold."""
        ok = (mean > 0) & (dispersion > 0)
        horizon, mean, dispersion, sold = (a[ok] for a in (horizon, mean, dispersion, sold))
        group = classes(mean) * HORIZONS + horizon
        above = nb_cdf(sold, mean, dispersion)
        below = np.where(sold > 0, nb_cdf(sold - 1, mean, dispersion), 0.0)
        table = self.levels.reshape(-1, len(QUANTILES))
        width = np.maximum(above - below, 1e-9)[:, None]
        covered = np.clip((table[group] - below[:, None]) / width, 0, 1)
        count = np.bincount(group, minlength=len(table))
        missing = np.zeros_like(table)
        np.add.at(missing, group, np.array(QUANTILES) - covered)
        # m outcomes at once weigh like m in turn, and never more than one full correction
        weight = (1 - (1 - GAIN) ** count) / np.maximum(count, 1)
        table = np.clip(table + weight[:, None] * missing, LEVEL_MIN, LEVEL_MAX)
        self.levels = np.maximum.accumulate(table, axis=1).reshape(SHAPE)
        self.seen += count.reshape(SHAPE[:2])

    def at(self, mean: Array) -> Array:
        """Levels to read for forecasts with `mean` f64[n, 5 horizons]: f64[n, 5, quantiles].

        The end of the sale, which comes once, is read like the longest horizon that is tracked.
        """
        horizon = np.minimum(np.arange(mean.shape[1]), HORIZONS - 1)
        return np.asarray(self.levels[classes(mean), horizon[None, :]])

    def meta(self) -> dict[str, Any]:
        """JSON-able."""
        return {"levels": self.levels.tolist(), "seen": self.seen.tolist()}

    def restore(self, meta: dict[str, Any]) -> None:
        """The opposite of `meta`."""
        self.levels = np.array(meta["levels"], np.float64)
        self.seen = np.array(meta["seen"], np.int64)
