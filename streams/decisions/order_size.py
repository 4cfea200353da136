"""How much to order, compiled, one SKU after another: the last unit must earn its keep.

An order placed now arrives after the lead time L, the next one a review period R later. Let D1 be
demand until the order arrives, D2 demand from then until the next could arrive. With y units on the
shelf after the arrival, one more is worth

    margin P(D2 > y) - holding P(D2 <= y) - E[(loss P(D4 <= y - D3) - margin P(D4 > y - D3))+]

It is sold before any other could be there, or it is carried over and spares a unit of a later
order; unless, at the last review whose order arrives before the sale ends, none is wanted any more.
D3 is demand from the arrival until that review, D4 from then until the end; a unit never sold loses
`loss`, its cost less its salvage. Far from the end the last term vanishes and this is the
newsvendor's critical ratio margin / (margin + holding); where this order is the last, D2 = D4 and
D3 = 0, and it is margin / (margin + holding + loss).

Demand that finds an empty shelf is lost and not made good by the order: y = max(x - D1, 0) + z for
a position x and an order z. Deciding by the period in which the order arrives is Morton's
near-myopic policy (Morton, "The near-myopic nature of the lagged-proportional-cost inventory
problem with lost sales", Operations Research 19, 1971; Zipkin, Operations Research 56, 2008, finds
it within a few per cent of the optimum). Here what is already on order counts as if it were on the
shelf.

Demands are negative binomial, their increments over time independent.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.jit import njit
from streams.decisions.demand import gamma_quantile

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

EXACT_UNITS_MAX: Final = 400  # demand up to that is summed unit by unit; above, on a grid
GRID: Final = 256  # points of the grid
POINTS: Final = 24  # that stand for a demand too large to be summed unit by unit: equally likely
DEVIATIONS: Final = 8.0  # of a demand, beyond which it does not reach


@njit
def _cumulative(mean: float, variance: float, step: float, length: int) -> Floats:
    """P(D <= i step) for i = 0 .. length - 1: exact by units, else the gamma limit."""
    result = np.ones(length)
    if mean <= 0.0:
        return result
    if step > 1.0:
        share = variance / mean**2 / 9.0
        for i in range(length):
            root = ((i * step + 0.5) / mean) ** (1.0 / 3.0)
            result[i] = 0.5 * math.erfc((1.0 - share - root) / math.sqrt(2.0 * share))
            if result[i] > 1.0 - 1e-13:
                break  # the rest is 1 already
        return result
    inverse = max(variance / mean - 1.0, 0.0) / mean  # 1 / dispersion
    if inverse * mean < 1e-9:
        mass = math.exp(-mean)
        inverse = 0.0
    else:
        mass = math.exp(-math.log1p(mean * inverse) / inverse)
    total = 0.0
    for i in range(length):
        total += mass
        result[i] = min(total, 1.0)
        mass *= mean * (1.0 + i * inverse) / ((1.0 + mean * inverse) * (i + 1))
    return result


@njit
def _worth(grid: Floats, step: float, units: float) -> float:
    """`grid` at `units`, linear between its points, its last value beyond."""
    place = units / step
    left = int(place)
    if left >= len(grid) - 1:
        return float(grid[-1])
    return float(grid[left] + (place - left) * (grid[left + 1] - grid[left]))


@njit
def _mean_worth(
    grid: Floats, step: float, points: Floats, weights: Floats, position: float, order: float
) -> float:
    """Expected worth of one unit more than `order`, over demand during the lead time."""
    total = 0.0
    left = 1.0
    for j in range(len(points)):
        if points[j] >= position:
            break
        total += weights[j] * _worth(grid, step, position - points[j] + order)
        left -= weights[j]
    return total + max(left, 0.0) * _worth(grid, step, order)


@njit
def _root(
    grid: Floats, step: float, points: Floats, weights: Floats, position: float, reach: float
) -> int:
    """The largest order whose last unit earns its keep; with `position` below 0, the largest
    position at which one more unit does.
    """
    low, high = 0, int(reach) + 1
    while low < high:
        middle = (low + high) // 2
        if position < 0.0:
            worth = _mean_worth(grid, step, points, weights, float(middle), 0.0)
        else:
            worth = _mean_worth(grid, step, points, weights, position, float(middle))
        if worth > 0.0:
            low = middle + 1
        else:
            high = middle
    return low


@njit
def _points(mean: float, variance: float, points_max: int) -> tuple[Floats, Floats]:
    """A demand as (units, weights), units rising: exact where so many points suffice."""
    if mean <= 0.0:
        return np.zeros(1), np.ones(1)
    length = int(mean + DEVIATIONS * math.sqrt(variance)) + 2
    if length <= points_max:
        weights = _cumulative(mean, variance, 1.0, length)
        for i in range(length - 1, 0, -1):
            weights[i] -= weights[i - 1]
        return np.arange(length).astype(np.float64), weights
    units = np.empty(POINTS)
    for j in range(POINTS):
        units[j] = gamma_quantile(mean, math.sqrt(variance), (j + 0.5) / POINTS)
    return units, np.full(POINTS, 1.0 / POINTS)


@njit
def _regret_left(
    last: Floats, step: float, middle: Floats, weights: Floats, margin: float, loss: float
) -> Floats:
    """E[(loss P(D4 <= y - D3) - margin P(D4 > y - D3))+] on the grid of y; `last` is D4's
    cumulative probability, (`middle`, `weights`) is D3.
    """
    result = np.zeros(len(last))
    regret = np.maximum((loss + margin) * last - margin, 0.0)
    for j in range(len(middle)):
        shift = middle[j] / step
        left = int(shift)
        share = shift - left
        for i in range(left, len(last)):
            here = regret[i - left]
            before = regret[i - left - 1] if i > left else 0.0
            result[i] += weights[j] * (here + share * (before - here))
    return result


@njit
def _exceeds_at_most(units: float, mean: float, over: float) -> float:
    """An upper bound of P(D > units), whole units above the mean, for a variance of `over` per unit
    of it: Chernoff's, at its best exponent.
    """
    units += 1.0  # P(D >= units) from here on
    rate = units * math.log(units / mean) if mean > 0.0 else math.inf
    if over - 1.0 < 1e-9:
        return math.exp(units - mean - rate)
    dispersion = mean / (over - 1.0)
    apart = (units - mean) / (mean + dispersion)
    return math.exp((units + dispersion) * math.log1p(apart) - rate)


@njit
def _order(
    position: float,
    lead_mean: float,
    cover_mean: float,
    cover_dispersion: float,
    end_mean: float,
    end_dispersion: float,
    before_last: float,
    margin: float,
    holding: float,
    loss: float,
    order_cost: float,
) -> tuple[int, int]:
    """(reorder point, order quantity) in units for one SKU; far above the point, a bound above it.

    Means and dispersions are of cumulative demand over L, L + R and until the end of the sale (an
    infinite `end_mean`: no end is known); `before_last` is the share of demand after the arrival
    that comes before the last review whose order arrives in time, 0 where this is it. `margin`,
    `holding` and `loss` are cents per unit, `order_cost` cents per order: an order is made only
    where its units together earn that, and then for as long as pays (Harris's batch, 1913).
    """
    cover_mean = min(cover_mean, end_mean)
    lead_mean = min(lead_mean, cover_mean)
    inverse = 1.0 / cover_dispersion if cover_dispersion > 0.0 else 0.0
    over = 1.0 + cover_mean * inverse  # variance per unit of mean within L + R
    spare = position - cover_mean
    if spare > 0.0 < holding:
        # Where P(D1 + D2 > x) <= holding / (margin + holding), no unit more can pay. Of two bounds
        # Chernoff's is the closer one in the tail, Cantelli's near the mean: for thin margins.
        short = _exceeds_at_most(position, cover_mean, over)
        bound = cover_mean + math.sqrt(margin * cover_mean * over / holding)
        if short * (margin + holding) <= holding or position >= bound:
            return int(min(bound, position - 1.0)), 0
    next_mean = cover_mean - lead_mean
    endless = math.isinf(end_mean)
    rest_mean, rest_over = next_mean, over
    if not endless:
        rest_mean = max(end_mean - lead_mean, next_mean)
        inverse = 1.0 / end_dispersion if end_dispersion > 0.0 else 0.0
        total = end_mean + end_mean * end_mean * inverse
        rest_over = max((total - lead_mean * over) / max(rest_mean, 1e-9), 1.0)
    reach = rest_mean + DEVIATIONS * math.sqrt(rest_mean * rest_over) + 2.0
    lead_reach = lead_mean + DEVIATIONS * math.sqrt(lead_mean * over) + 2.0
    exact = max(reach, lead_reach) <= EXACT_UNITS_MAX
    step = 1.0 if exact else reach / (GRID - 1)
    length = int(reach / step) + 2
    batch = int(math.sqrt(2.0 * order_cost * next_mean / max(holding, 1e-9)))
    soon = _cumulative(next_mean, next_mean * over, step, length)
    worth = margin * (1.0 - soon) - holding * soon
    if not endless:
        if before_last <= 0.0:
            worth -= loss * _cumulative(rest_mean, rest_mean * rest_over, step, length)
        else:
            middle, shares = _points(
                rest_mean * before_last, rest_mean * before_last * rest_over, POINTS
            )
            late_mean = rest_mean * (1.0 - before_last)
            last = _cumulative(late_mean, late_mean * rest_over, step, length)
            worth = worth - _regret_left(last, step, middle, shares, margin, loss)
    points, weights = _points(lead_mean, lead_mean * over, EXACT_UNITS_MAX if exact else 0)
    point = _root(worth, step, points, weights, -1.0, reach + lead_reach)
    if position >= point:
        return point - 1, 0
    quantity = _root(worth, step, points, weights, position, reach)
    earned = 0.0
    for part in range(8):  # midpoint rule over the units of the order
        at = math.floor((part + 0.5) / 8.0 * quantity)
        earned += quantity / 8.0 * _mean_worth(worth, step, points, weights, position, at)
    if quantity <= 0 or earned < order_cost:
        return point - 1, 0
    if batch > 0 and not endless:
        ended = _cumulative(rest_mean, rest_mean * rest_over, step, length)
        ever = margin * (1.0 - ended) - loss * ended
        batch = min(batch, _root(ever, step, points, weights, position, reach) - quantity)
    return point - 1, quantity + max(batch, 0)


@njit
def orders(
    position: Ints, lead_mean: Floats, cover_mean: Floats, cover_dispersion: Floats,
    end_mean: Floats, end_dispersion: Floats, before_last: Floats, margin: Floats,
    holding: Floats, loss: Floats, order_cost: float,
) -> tuple[Ints, Ints]:  # fmt: skip
    """(reorder point, order quantity) of each row [n], in units; arguments as in `_order`."""
    points = np.empty(len(position), np.int64)
    quantities = np.empty(len(position), np.int64)
    for row in range(len(position)):
        points[row], quantities[row] = _order(
            max(position[row], 0), lead_mean[row], cover_mean[row], cover_dispersion[row],
            end_mean[row], end_dispersion[row], before_last[row], margin[row], holding[row],
            loss[row], order_cost,
        )  # fmt: skip
    return points, quantities
