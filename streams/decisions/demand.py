"""Negative binomial demand: quantiles and expected sales, exact by summing the mass function.

A demand of mean m and dispersion r has variance m + m^2 / r; an infinite r is Poisson. The mass is
summed outwards from the mode, relative to it, so nothing underflows for large means. Where the
standard deviation exceeds `EXACT_DEVIATION_MAX` units the gamma limit stands in: its relative error
there is below a thousandth.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.jit import njit

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

EXACT_DEVIATION_MAX: Final = 3_000.0
NEGLIGIBLE: Final = 1e-13  # of the mass at the mode


@njit
def normal_quantile(probability: float) -> float:
    """Standard normal quantile; |relative error| < 1e-14.

    P. J. Acklam's rational approximation (2003) and one step of Halley's method.
    """
    low = min(probability, 1.0 - probability)
    if low <= 0.0:
        return math.inf if probability > 0.5 else -math.inf
    if low < 0.02425:
        t = math.sqrt(-2.0 * math.log(low))
        top = -0.007784894002430293 * t - 0.3223964580411365
        top = (top * t - 2.400758277161838) * t - 2.549732539343734
        top = (top * t + 4.374664141464968) * t + 2.938163982698783
        bottom = 0.007784695709041462 * t + 0.3224671290700398
        bottom = ((bottom * t + 2.445134137142996) * t + 3.754408661907416) * t + 1.0
        z = top / bottom if probability < 0.5 else -top / bottom
    else:
        centre = probability - 0.5
        s = centre * centre
        top = -39.69683028665376 * s + 220.9460984245205
        top = ((top * s - 275.9285104469687) * s + 138.3577518672690) * s - 30.66479806614716
        top = top * s + 2.506628277459239
        bottom = -54.47609879822406 * s + 161.5858368580409
        bottom = ((bottom * s - 155.6989798598866) * s + 66.80131188771972) * s
        z = centre * top / ((bottom - 13.28068155288572) * s + 1.0)
    error = 0.5 * math.erfc(-z / math.sqrt(2.0)) - probability
    step = error * math.sqrt(2.0 * math.pi) * math.exp(0.5 * z * z)
    return z - step / (1.0 + 0.5 * z * step)


@njit
def _rise(count: int, mean: float, inverse: float) -> float:
    """P(count + 1) / P(count), with `inverse` = 1 / dispersion."""
    return mean * (1.0 + count * inverse) / ((1.0 + mean * inverse) * (count + 1))


@njit
def gamma_quantile(mean: float, deviation: float, probability: float) -> float:
    """Gamma quantile by Wilson and Hilferty (1931): the cube root is close to normal."""
    share = (deviation / mean) ** 2 / 9.0
    root = 1.0 - share + normal_quantile(probability) * math.sqrt(share)
    return mean * max(root, 0.0) ** 3


@njit
def quantile(mean: float, dispersion: float, probability: float) -> int:
    """The least count whose cumulative probability reaches `probability`, of one demand."""
    if mean <= 0.0 or probability <= 0.0:
        return 0
    inverse = 1.0 / dispersion if dispersion > 0.0 else 0.0
    deviation = math.sqrt(mean + mean * mean * inverse)
    if deviation > EXACT_DEVIATION_MAX or probability >= 1.0 - 1e-9:
        return math.ceil(gamma_quantile(mean, deviation, min(probability, 1.0 - 1e-9)))
    mode = int(max(0.0, math.floor(mean - (mean * inverse if inverse > 0.0 else 0.0))))
    below = 0.0
    mass = 1.0
    for count in range(mode - 1, -1, -1):
        mass /= _rise(count, mean, inverse)
        below += mass
        if mass < NEGLIGIBLE:
            break
    above = 0.0
    mass = 1.0
    count = mode
    while mass > NEGLIGIBLE:
        above += mass
        mass *= _rise(count, mean, inverse)
        count += 1
    wanted = probability * (below + above)
    if wanted > below:
        mass, count, reached = 1.0, mode, below + 1.0
        while reached < wanted and mass > NEGLIGIBLE:
            mass *= _rise(count, mean, inverse)
            count += 1
            reached += mass
        return count
    mass, count, reached = 1.0, mode, below
    while count > 0:  # `reached` is the cumulative mass through count - 1
        mass /= _rise(count - 1, mean, inverse)
        if reached - mass < wanted:
            return count - 1
        reached -= mass
        count -= 1
    return 0


@njit
def quantiles(means: Floats, dispersions: Floats, probabilities: Floats) -> Ints:
    """`quantile` of each row [n]: int64 [n], units."""
    result = np.empty(len(means), np.int64)
    for row in range(len(means)):
        result[row] = quantile(means[row], dispersions[row], probabilities[row])
    return result


@njit
def expected_sales(mean: float, deviation: float, stock: float) -> float:
    """E[min(D, stock)] of a demand taken as normal, in units: the standard normal loss function.

    Source: Snyder and Shen, Fundamentals of Supply Chain Theory, 2nd ed., equation (4.27).
    """
    if stock <= 0.0 or mean <= 0.0:
        return 0.0
    if deviation <= 1e-9:
        return min(mean, stock)
    z = (stock - mean) / deviation
    density = math.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
    loss = density - z * 0.5 * math.erfc(z / math.sqrt(2.0))
    return min(max(mean - deviation * loss, 0.0), stock)


@njit
def expected_sales_of(means: Floats, deviations: Floats, stocks: Floats) -> Floats:
    """`expected_sales` of each row [n]; an infinite stock sells the mean."""
    result = np.empty(len(means))
    for row in range(len(means)):
        if math.isinf(stocks[row]):
            result[row] = means[row]
        else:
            result[row] = expected_sales(means[row], deviations[row], stocks[row])
    return result
