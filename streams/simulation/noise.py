"""Randomness by counter: every draw is a pure function of (seed, where it is used).

A sale with decisions and the same sale without can be compared draw by draw: what a decision
changes in one SKU shifts no other SKU's randomness and no later tick's. The hash is splitmix64's
finaliser (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
"""

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Unsigned = NDArray[np.uint64]
Floats = NDArray[np.float64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


class Draw(IntEnum):
    """What a draw is for: two uses never share a number."""

    ASSORTMENT = 1
    TRAFFIC = 2
    BURST = 3
    CLICK_COUNT = 10
    CART_COUNT = 11
    ORDER_COUNT = 12
    EVENT_TIME = 20
    SHOPPER = 21
    QUANTITY = 22
    REQUEST_LOST = 23
    DIRT = 30


def mixed(values: Unsigned) -> Unsigned:
    """Each 64-bit number scrambled; shape kept."""
    with np.errstate(over="ignore"):
        values = (values ^ (values >> np.uint64(30))) * _FIRST
        values = (values ^ (values >> np.uint64(27))) * _SECOND
    return values ^ (values >> np.uint64(31))


def hashed(seed: int, draw: Draw, *counters: NDArray[np.integer] | int) -> Unsigned:
    """64 random bits for each combination of `counters` (arrays broadcast against each other)."""
    with np.errstate(over="ignore"):
        state = mixed(np.asarray([seed % 2**64], dtype=np.uint64) + np.uint64(draw) * _GOLDEN)
        for counter in counters:
            state = mixed(state * np.uint64(3) + _GOLDEN + np.asarray(counter).astype(np.uint64))
    return state


def uniform(seed: int, draw: Draw, *counters: NDArray[np.integer] | int) -> Floats:
    """Uniform in the open interval (0, 1), shape of the broadcast counters."""
    bits = hashed(seed, draw, *counters) >> np.uint64(11)
    return (bits.astype(np.float64) + 0.5) * 2.0**-53


def normal_quantile(uniforms: Floats) -> Floats:
    """Standard normal quantile; |relative error| < 1.2e-9.

    Acklam's rational approximation (P. J. Acklam, 2003).
    """
    a = (-39.69683028665376, 220.9460984245205, -275.9285104469687,
         138.3577518672690, -30.66479806614716, 2.506628277459239)  # fmt: skip
    b = (-54.47609879822406, 161.5858368580409, -155.6989798598866,
         66.80131188771972, -13.28068155288572, 1.0)  # fmt: skip
    c = (-0.007784894002430293, -0.3223964580411365, -2.400758277161838,
         -2.549732539343734, 4.374664141464968, 2.938163982698783)  # fmt: skip
    d = (0.007784695709041462, 0.3224671290700398, 2.445134137142996, 3.754408661907416, 1.0)
    u = np.asarray(uniforms, dtype=np.float64)
    centre = u - 0.5
    squared = centre * centre
    middle = centre * np.polyval(a, squared) / np.polyval(b, squared)
    tail = np.sqrt(-2.0 * np.log(np.minimum(u, 1.0 - u)))
    outer = np.polyval(c, tail) / np.polyval(d, tail)
    outer = np.where(u < 0.5, outer, -outer)
    return np.where(np.minimum(u, 1.0 - u) < 0.02425, outer, middle)


def poisson_quantile(uniforms: Floats, means: Floats) -> NDArray[np.int64]:
    """Poisson counts by inversion, so that a higher mean never lowers the count of the same draw.

    Exact up to a mean of 12; above it the Cornish-Fisher expansion of the quantile (first
    correction), which is one count off in about one draw of a hundred.
    """
    means = np.maximum(means, 0.0)
    z = normal_quantile(uniforms)
    large = np.floor(means + np.sqrt(means) * z + (z * z - 1.0) / 6.0 + 0.5)
    counts = np.maximum(large, 0.0).astype(np.int64)
    small = np.flatnonzero(means.ravel() <= 12.0)
    counts.flat[small] = _exact(uniforms.ravel()[small], means.ravel()[small])
    return counts


def _exact(uniforms: Floats, means: Floats) -> NDArray[np.int64]:
    """Inversion by summing the mass function; means at most 12, so 80 terms are plenty."""
    counts = np.zeros(len(means), dtype=np.int64)
    mass = np.exp(-means)
    total = mass.copy()
    left = np.flatnonzero(uniforms > total)
    for count in range(1, 81):
        if len(left) == 0:
            break
        mass[left] *= means[left] / count
        total[left] += mass[left]
        counts[left] = count
        left = left[uniforms[left] > total[left]]
    return counts
