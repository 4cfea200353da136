"""The dynamic programme behind `price`: compiled, one SKU after another.

    V_k(n) = max over p of  E[ p min(D, n) + V_{k+1}(n - min(D, n)) ],   D ~ Poisson(m(p))
    m(p)   = mean / periods * exp(-slope (p - p0)),   V_periods(n) = worth of n units left

Stock is a grid of at most `NODES` levels from 0 to what there is (every unit while it fits; between
levels V is interpolated with its curvature), prices a grid of `PRICES` from floor to ceiling. The
best price falls as stock rises, and value is unimodal in it, so that each level starts where the
last one ended. Demand is summed exactly while small, else by three points that have the moments of
a normal (Gauss-Hermite). A period at one price from one level is a weighted sum of later values,
whose weights are the same in every period and worked out once. Levels that no demand of the periods
before can reach from the stock there is are left out. Where all that may be left is worth the same,
the best price has a closed form, and none of this is needed.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.jit import njit
from streams.decisions.demand import expected_sales

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

NODES: Final = 33
PRICES: Final = 25
EXACT_MEAN_MAX: Final = 12.0
PLENTY_DEVIATIONS: Final = 6.0  # of demand, above which stock cannot run out


@njit
def _add_between(weights: Floats, left: int, share: float, right: float, bent: float) -> None:
    """Adds what values between the levels `left` and `left` + 1 take of each level's: linear, plus
    the mean curvature of the two ends. Sums over values, each of which lies a fraction r further
    than `left`: `share` of their shares, `right` of share r, `bent` of share r (1 - r).
    """
    weights[left] += share - right
    weights[left + 1] += right
    inner = left + 2 < len(weights)
    ends = (1 if left > 0 else 0) + (1 if inner else 0)
    if ends == 0 or bent == 0.0:
        return
    bend = -0.5 * bent / ends
    if left > 0:
        weights[left - 1] += bend
        weights[left] -= 2.0 * bend
        weights[left + 1] += bend
    if inner:
        weights[left] += bend
        weights[left + 1] -= 2.0 * bend
        weights[left + 2] += bend


@njit
def _add(weights: Floats, place: float, share: float) -> None:
    """Adds what the value at a fractional index `place` takes of each level's, times `share`."""
    last = len(weights) - 1
    if place <= 0.0 or place >= last:
        weights[0 if place <= 0.0 else last] += share
        return
    left = int(place)
    beyond = place - left
    _add_between(weights, left, share, share * beyond, share * beyond * (1.0 - beyond))


@njit
def _weigh(weights: Floats, mean: float, stock: float, per_unit: float) -> tuple[float, int, int]:
    """A period as weights of the values afterwards: fills them in, and gives expected sales and
    the stretch [begin, end) outside of which they are 0.
    """
    weights[:] = 0.0
    last = len(weights) - 1
    if mean > EXACT_MEAN_MAX:
        spread = math.sqrt(3.0 * mean)
        sales = 0.0
        for point in range(-1, 2):
            sold = min(mean + point * spread, stock)
            share = 2.0 / 3.0 if point == 0 else 1.0 / 6.0
            _add(weights, (stock - sold) * per_unit, share)
            sales += share * sold
        most = min(mean + spread, stock)
    else:
        mass = math.exp(-mean)
        left = 1.0
        sales = 0.0
        count = 0
        # counts that end between the same two levels are added together
        level, share, right, bent = last, 0.0, 0.0, 0.0
        while count < stock and left > 1e-7:
            place = (stock - count) * per_unit
            if place >= last:
                weights[last] += mass
            else:
                if int(place) != level:
                    if share > 0.0:
                        _add_between(weights, level, share, right, bent)
                    level, share, right, bent = int(place), 0.0, 0.0, 0.0
                beyond = place - level
                share += mass
                right += mass * beyond
                bent += mass * beyond * (1.0 - beyond)
            sales += mass * count
            left -= mass
            count += 1
            mass *= mean / count
        if share > 0.0:
            _add_between(weights, level, share, right, bent)
        most = min(float(count), stock)
        left = max(left, 0.0)
        _add(weights, (stock - most) * per_unit, left)
        sales += left * most
    begin = max(int((stock - most) * per_unit) - 1, 0)
    return sales, begin, min(int(stock * per_unit) + 3, len(weights))


@njit
def _period_value(
    price: float, mean: float, stock: float, per_unit: float, later: Floats
) -> tuple[float, float]:
    """(value, expected sales) of one period at `price` from `stock` units.

    `later` is the value by level afterwards; a unit is `per_unit` levels.
    """
    weights = np.empty(len(later))
    sales, begin, end = _weigh(weights, mean, stock, per_unit)
    value = price * sales
    for level in range(begin, end):
        value += weights[level] * later[level]
    return value, sales


@njit
def _period(
    start: int,
    first: int,
    prices: Floats,
    means: Floats,
    per_unit: float,
    later: Floats,
    known: Floats,
    weights: Floats,
    value: Floats,
) -> tuple[int, int]:
    """One period from each level from `start` up: fills in `value` at its best price of the grid.
    Gives the indexes of the best prices of the lowest and of the highest level.

    Each level climbs from the best price of the one below, the lowest from index `first`. What a
    period at price k takes of `later` is the same in every period, and kept: sales, begin and end
    in `known` [PRICES n, 3], end 0 where not yet known, and `weights` [PRICES n, n] of n levels.
    One loop, since calls and views cost more than what is reckoned in them; and four sums, since
    an addition waits for the one before it.
    """
    levels = len(later)
    best = first
    for level in range(start, levels):
        # step 0 where it begins, then down while that is better, or else up
        top, step, candidate = 0.0, 0, best
        while True:
            cell = candidate * levels + level
            if known[cell, 2] == 0.0:
                sales, from_level, to_level = _weigh(
                    weights[cell], means[candidate], level / per_unit, per_unit
                )
                known[cell, 0], known[cell, 1], known[cell, 2] = sales, from_level, to_level
            at, end = int(known[cell, 1]), int(known[cell, 2])
            one, two, three, four = 0.0, 0.0, 0.0, 0.0
            while at + 4 <= end:
                one += weights[cell, at] * later[at]
                two += weights[cell, at + 1] * later[at + 1]
                three += weights[cell, at + 2] * later[at + 2]
                four += weights[cell, at + 3] * later[at + 3]
                at += 4
            while at < end:
                one += weights[cell, at] * later[at]
                at += 1
            worth = prices[candidate] * known[cell, 0] + ((one + two) + (three + four))
            better = step == 0 or worth > top
            if better:
                top, best = worth, candidate
            if step == 0:
                step, moved = -1, False
            elif better:
                moved = True
            elif moved or step == 1:
                break
            else:
                step = 1
            candidate = best + step
            if candidate < 0 and not moved:
                step, candidate = 1, best + 1
            if candidate < 0 or candidate >= PRICES:
                break
        value[level] = top
        if level == start:
            first = best
    return first, best


@njit
def _worth_left(units: float, useful: float, full: float, rest: float) -> float:
    """Cents that `units` left at the horizon are worth: `full` each for what later demand of mean
    `useful` takes, `rest` each beyond.
    """
    taken = expected_sales(useful, math.sqrt(useful), units)
    return full * taken + rest * (units - taken)


@njit
def _likely_most(mean: float) -> float:
    """Units that demand of this mean does not exceed: beyond the 1e-7 at which `_weigh` ends."""
    return mean + PLENTY_DEVIATIONS * math.sqrt(mean) + 8.0


@njit
def _reached(mean: float, per_unit: float, lowest: Ints) -> None:
    """Fills in the lowest level that a period can begin or end with, [periods] from the last of
    `lowest`, which is given, back to the first; `mean` is the most that a period can expect.
    """
    most = _likely_most(mean)
    for period in range(len(lowest) - 2, -1, -1):
        lowest[period] = max(int(lowest[period + 1] - most * per_unit) - 1, 0)


@njit
def solve(
    stock: float,
    mean: float,
    price_now: float,
    slope: float,
    floor: float,
    ceiling: float,
    useful: float,
    full: float,
    rest: float,
    periods: int,
) -> tuple[float, float, float]:
    """(best price now, its gain over the current price, expected revenue of the next period).

    All in cents. `mean` units are expected over the horizon at `price_now`; units left then are
    worth `full` each up to demand `useful`, else `rest`.
    """
    levels = int(min(stock, NODES - 1.0)) + 1
    levels = max(levels, 2)
    per_unit = (levels - 1) / stock
    prices = np.empty(PRICES)
    means = np.empty(PRICES)
    for k in range(PRICES):
        prices[k] = floor + (ceiling - floor) * k / (PRICES - 1)
        means[k] = mean / periods * math.exp(-slope * (prices[k] - price_now))
    lowest = np.full(periods + 1, levels - 1)
    _reached(max(means[0], mean / periods), per_unit, lowest)
    later = np.empty(levels)
    for level in range(lowest[0], levels):
        later[level] = _worth_left(level / per_unit, useful, full, rest)
    value = np.empty(levels)
    known = np.zeros((PRICES * levels, 3))
    weights = np.empty((PRICES * levels, levels))
    best = first = PRICES // 2  # of the lowest level: where the period before it begins to climb
    for period in range(1, periods):
        value[0] = later[0]
        first, best = _period(
            max(lowest[period], 1), first, prices, means, per_unit, later, known, weights, value
        )
        later, value = value, later
    _, best = _period(levels - 1, best, prices, means, per_unit, later, known, weights, value)
    highest = value[levels - 1]
    wanted = prices[best]
    if 0 < best < PRICES - 1:  # the top of the parabola through the three best
        below, _ = _period_value(prices[best - 1], means[best - 1], stock, per_unit, later)
        above, _ = _period_value(prices[best + 1], means[best + 1], stock, per_unit, later)
        bend = below - 2.0 * highest + above
        if bend < 0.0:
            wanted += 0.5 * (below - above) / bend * (prices[1] - prices[0])
    chosen_mean = mean / periods * math.exp(-slope * (wanted - price_now))
    reached, sales = _period_value(wanted, chosen_mean, stock, per_unit, later)
    current, sales_now = _period_value(price_now, mean / periods, stock, per_unit, later)
    return wanted, reached - current, max(wanted * sales, price_now * sales_now)


@njit
def _unbound(
    mean: float, price_now: float, slope: float, floor: float, ceiling: float, worth: float
) -> tuple[float, float, float, float]:
    """What `solve` gives where a unit not sold is worth `worth` however many are left: the price
    that maximises (p - worth) exp(-slope p), gain and revenue of all the time in which `mean` units
    are expected, and the most units that it, or the current price, may sell by then.
    """
    wanted = min(max(worth + 1.0 / slope, floor), ceiling)
    units = mean * math.exp(-slope * (wanted - price_now))
    gain = (wanted - worth) * units - (price_now - worth) * mean
    revenue = max(wanted * units, price_now * mean)
    return wanted, gain, revenue, _likely_most(max(units, mean))


@njit
def _until_restock(
    stock: float,
    mean: float,
    price_now: float,
    slope: float,
    floor: float,
    ceiling: float,
    useful: float,
    full: float,
    rest: float,
    periods: int,
) -> tuple[float, float, float]:
    """`solve`, without its programme where all that may be left is worth the same: `full` where
    later demand takes it surely, so that a unit sold now is one bought anew, or `rest` where it is
    surely more than that. Value is unimodal in the price: the best of such a stretch is the best.
    """
    price, gain, revenue, most = _unbound(mean, price_now, slope, floor, ceiling, full)
    if most <= stock <= useful - PLENTY_DEVIATIONS * math.sqrt(max(useful, 0.0)):
        return price, gain, revenue
    price, gain, revenue, most = _unbound(mean, price_now, slope, floor, ceiling, rest)
    if stock - most >= _likely_most(max(useful, 0.0)):
        return price, gain, revenue
    return solve(stock, mean, price_now, slope, floor, ceiling, useful, full, rest, periods)


@njit
def best_prices(
    stock: Ints,
    end_mean: Floats,
    lead_mean: Floats,
    restockable: Flags,
    price_now: Floats,
    slope: Floats,
    cost: Floats,
    salvage: Floats,
    floor: Floats,
    ceiling: Floats,
    periods: int,
) -> tuple[Ints, Floats]:
    """(wanted price in cents, gain as a share of the next period's revenue), both [n].

    `stock` -1 is unlimited. Prices lie in [floor, ceiling]; means are at `price_now`.
    """
    wanted = np.empty(len(stock), np.int64)
    gain = np.zeros(len(stock))
    for row in range(len(stock)):
        low, high = floor[row], max(ceiling[row], floor[row])
        now, a = price_now[row], slope[row]
        end, lead, rest = end_mean[row], lead_mean[row], salvage[row]
        units = float(stock[row])
        unscarce = cost[row] if units < 0 else rest
        price, better, revenue, _ = _unbound(end, now, a, low, high, unscarce)
        demand = end * math.exp(-a * (price - now))
        if 0 <= units <= demand + PLENTY_DEVIATIONS * math.sqrt(demand):
            if restockable[row]:
                price, better, revenue = _until_restock(
                    units, lead, now, a, low, high, end - lead, cost[row], rest, periods
                )
            else:
                price, better, revenue = solve(
                    units, end, now, a, low, high, 0.0, rest, rest, periods
                )
        wanted[row] = round(price)
        gain[row] = better / revenue if revenue > 0.0 else 0.0
    return wanted, gain
