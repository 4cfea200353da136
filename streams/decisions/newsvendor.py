"""The newsvendor's closed forms: how much to have when demand is a guess and the chance is one.

Source: Snyder and Shen, Fundamentals of Supply Chain Theory, 2nd ed., section 4.3.
"""

import math

import numpy as np
from numpy.typing import NDArray

from streams.decisions.demand import normal_quantile

Floats = NDArray[np.float64]


def critical_ratio(underage: Floats, overage: Floats) -> Floats:
    """underage / (underage + overage) [n], in [0, 1]; both costs per unit, in the same money.

    0 where a unit brings no profit; 1 where a unit left over costs nothing.
    """
    gain = np.maximum(underage, 0.0)
    loss = np.maximum(overage, 0.0)
    total = gain + loss
    ratio: Floats = np.divide(gain, total, out=np.zeros_like(total), where=total > 0.0)
    return ratio


def base_stock_normal(
    holding: float, penalty: float, mean: float, deviation: float
) -> tuple[float, float]:
    """(S, expected cost of the period) for normal demand; cost per unit left over and unit short.

    S = mean + z deviation with z the quantile of penalty / (penalty + holding), and
    cost = (holding + penalty) deviation density(z): equations (4.24) and (4.30).
    """
    z = normal_quantile(penalty / (penalty + holding))
    density = math.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
    return mean + z * deviation, (holding + penalty) * deviation * density
