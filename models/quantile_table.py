"""Makes the table that `models.negative_binomial` reads: `python -m models.quantile_table`.

Run offline, when the grid changes; takes some seconds.
"""

import math

import numpy as np
from safetensors.numpy import save_file

from models.jit import njit
from models.negative_binomial import LOG_DISPERSION, LOG_MEAN, LOG_X_MIN, SCORE, TABLE_FILE, Array


@njit
def _continued_fraction(a: float, b: float, x: float) -> float:
    """Of the incomplete beta function, by Lentz's method (Numerical Recipes, 6.4)."""
    tiny = 1e-300
    c, d = 1.0, 1.0 - (a + b) * x / (a + 1.0)
    d = 1.0 / (d if abs(d) > tiny else tiny)
    total = d
    for m in range(1, 20_000):
        step = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d = 1.0 + step * d
        d = 1.0 / (d if abs(d) > tiny else tiny)
        c = 1.0 + step / c
        c = c if abs(c) > tiny else tiny
        total *= d * c
        step = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        d = 1.0 + step * d
        d = 1.0 / (d if abs(d) > tiny else tiny)
        c = 1.0 + step / c
        c = c if abs(c) > tiny else tiny
        total *= d * c
        if abs(d * c - 1.0) < 1e-12:
            break
    return total


@njit
def incomplete_beta(a: float, b: float, x: float) -> float:
    """I_x(a, b)."""
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    if x < (a + 1.0) / (a + b + 2.0):
        return float(front * _continued_fraction(a, b, x) / a)
    return float(1.0 - front * _continued_fraction(b, a, 1.0 - x) / b)


@njit
def _solve(r: float, m: float, q: float) -> float:
    """log x with I_p(r, x) = q, by bisection."""
    p = r / (r + m)
    low, high = -30.0, 25.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        if incomplete_beta(r, math.exp(middle), p) < q:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)


@njit
def _fill(means: Array, dispersions: Array, q: Array) -> Array:
    table = np.empty((len(means), len(dispersions), len(q)), np.float32)
    for i in range(len(means)):
        for j in range(len(dispersions)):
            for k in range(len(q)):
                table[i, j, k] = _solve(dispersions[j], means[i], q[k])
    return table


def build() -> Array:
    """log x on the grid, f32[means, dispersions, scores]."""
    means, dispersions, scores = (
        first + step * np.arange(count) for first, step, count in (LOG_MEAN, LOG_DISPERSION, SCORE)
    )
    q = np.array([0.5 * math.erfc(-score / math.sqrt(2)) for score in scores])
    return np.asarray(
        np.maximum(_fill(np.exp(means), np.exp(dispersions), q), np.float32(LOG_X_MIN))
    )


if __name__ == "__main__":
    save_file({"log_x": build()}, TABLE_FILE)
