"""The negative binomial with mean m and dispersion r: variance m + m^2 / r.

Quantiles are read from a table of the continuous quantile function: x(q) solves I_p(r, x) = q with
p = r / (r + m) (the regularised incomplete beta function, which is the distribution function at
the integers), and the integer quantile is ceil(x) - 1. log x is smooth in (log m, log r, normal
score of q), so trilinear interpolation errs by at most 2 units or 3 % (10 % for r below 0.1), and
by 1 unit below 20 units (tested against sums of probabilities). `models.quantile_table` makes it.
"""

import math
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from models.errors import WeightsError
from models.jit import njit

Array = NDArray[Any]

TABLE_FILE: Final = Path(__file__).parent / "weights" / "nb_quantiles.safetensors"
# axes: first, step, count
LOG_MEAN: Final = (math.log(0.01), 0.35, 54)
LOG_DISPERSION: Final = (math.log(0.02), 0.15, 73)
SCORE: Final = (-3.2, 0.2, 36)  # normal score of q
MEAN_MIN: Final = 0.01
DISPERSION_MIN: Final = 0.02
DISPERSION_MAX: Final = 1_000.0
LOG_X_MIN: Final = math.log(0.3)  # every x below 1 is quantile 0: flat, not to bend the rest
ROUNDING: Final = 1e-3  # an x this little above a whole number is that number


def nb_quantile(mean: Array, dispersion: Array, q: Array | float) -> Array:
    """Smallest k with P(X <= k) >= q, i8, of the broadcast shape; 0 where the mean is 0.

    Means in [0, 1e6], dispersions clipped to [0.02, 1,000], q to [0.0007, 0.9999]. Below a mean of
    0.01 the quantile of the mean 0.01 stands in, zero for every q <= 0.99.
    """
    score = normal_score(np.asarray(q, np.float64))
    mean, dispersion, score = np.broadcast_arrays(mean, dispersion, score)
    return nb_quantile_at(mean, dispersion, score[..., None])[..., 0]


def nb_quantile_at(mean: Array, dispersion: Array, score: Array) -> Array:
    """The same of means and dispersions [...], each at its normal scores [..., k] of q; i8 of the
    shape of the scores.
    """
    out = np.empty(score.shape, np.int64)
    width = score.shape[-1]
    _quantiles(
        _flat(mean), _flat(dispersion), _flat(score).reshape(-1, width), _table(),
        out.reshape(-1, width),
    )  # fmt: skip
    return out


def nb_cdf(k: Array, mean: Array, dispersion: Array) -> Array:
    """P(X <= k), f64[n], from the same table: off by less than 0.01."""
    out = np.empty(len(mean))
    _probabilities(_flat(k), _flat(mean), _flat(dispersion), _table(), out)
    return out


def dispersion_of(mean: Array, variance: Array) -> Array:
    """r of the negative binomial with this mean and variance, within the bounds of the table."""
    excess = variance - mean
    return np.where(
        excess > mean**2 / DISPERSION_MAX,
        np.maximum(mean**2 / np.maximum(excess, 1e-12), DISPERSION_MIN),
        DISPERSION_MAX,
    )


def normal_score(q: Array) -> Array:
    """The standard normal quantile of q."""
    import torch  # noqa: PLC0415 - takes seconds, which a worker without forecasts is spared

    score: Array = torch.special.ndtri(torch.as_tensor(q, dtype=torch.float64)).numpy()
    return score


@njit
def _place(value: float, first: float, step: float, count: int) -> tuple[int, float]:
    """The grid point below `value`, and the weight of the one above."""
    if not value > first:  # or no number at all, which would be a place anywhere
        return 0, 0.0
    at = min((value - first) / step, count - 1.000001)
    low = int(at)
    return low, at - low


@njit
def _cell(mean: float, dispersion: float) -> tuple[int, float, int, float]:
    """Where mean and dispersion lie in the table."""
    m, mw = _place(math.log(max(mean, MEAN_MIN)), LOG_MEAN[0], LOG_MEAN[1], LOG_MEAN[2])
    r = min(max(dispersion, DISPERSION_MIN), DISPERSION_MAX)
    s, sw = _place(math.log(r), LOG_DISPERSION[0], LOG_DISPERSION[1], LOG_DISPERSION[2])
    return m, mw, s, sw


@njit
def _log_x(table: Array, m: int, mw: float, r: int, rw: float, s: int) -> float:
    """log x at grid point s of the score."""
    lower = (1 - rw) * table[m, r, s] + rw * table[m, r + 1, s]  # f8: the weights are
    upper = (1 - rw) * table[m + 1, r, s] + rw * table[m + 1, r + 1, s]
    return float((1 - mw) * lower + mw * upper)


@njit
def _quantiles(mean: Array, dispersion: Array, score: Array, table: Array, out: Array) -> None:
    """`mean` and `dispersion` f8[n], `score` f8[n, k], `out` i8[n, k]."""
    for i in range(len(mean)):
        out[i] = 0
        if mean[i] > 0:
            m, mw, r, rw = _cell(mean[i], dispersion[i])
            for k in range(score.shape[1]):
                s, sw = _place(score[i, k], SCORE[0], SCORE[1], SCORE[2])
                log_x = (1 - sw) * _log_x(table, m, mw, r, rw, s)
                log_x += sw * _log_x(table, m, mw, r, rw, s + 1)
                out[i, k] = max(math.ceil(math.exp(log_x) - ROUNDING) - 1, 0)


@njit
def _probabilities(k: Array, mean: Array, dispersion: Array, table: Array, out: Array) -> None:
    for i in range(len(k)):
        m, mw, r, rw = _cell(mean[i], dispersion[i])
        wanted = math.log(max(k[i], 0.0) + 1.0)
        low, high = 0, SCORE[2] - 1  # log x rises with the score: halve
        while high - low > 1:
            middle = (low + high) // 2
            if _log_x(table, m, mw, r, rw, middle) < wanted:
                low = middle
            else:
                high = middle
        below, above = _log_x(table, m, mw, r, rw, low), _log_x(table, m, mw, r, rw, high)
        share = min(max((wanted - below) / max(above - below, 1e-9), 0.0), 1.0)
        score = SCORE[0] + SCORE[1] * (low + share)
        out[i] = 0.5 * math.erfc(-score / math.sqrt(2.0))


def _flat(column: Array) -> Array:
    return np.ascontiguousarray(column, np.float64).ravel()


@cache
def _table() -> Array:
    """log x, f32[means, dispersions, scores]: half the size stays in the cache."""
    try:
        table = load_file(TABLE_FILE)["log_x"].astype(np.float32)
    except (OSError, KeyError, SafetensorError) as error:
        raise WeightsError(f"{TABLE_FILE}: {error}; reinstall flashcast") from None
    wanted = (LOG_MEAN[2], LOG_DISPERSION[2], SCORE[2])
    if table.shape != wanted:
        raise WeightsError(f"{TABLE_FILE}: shape {table.shape}, expected {wanted}")
    return table
