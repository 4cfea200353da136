"""Lost-sales inventory, exactly: the dynamic programme over stock and all orders on their way.

Each period: the order placed `lead` periods ago arrives, a new one is placed, demand comes, and
what it does not find is lost. The state is (x, q_1 .. q_{lead-1}): units on the shelf after the
arrival, and the orders that arrive in the next periods; it grows as (orders + 1)^(lead - 1), so
exactness is for short lead times (1 to 3 periods). Source: Zipkin, "Old and new methods for
lost-sales inventory systems", Operations Research 56 (2008), whose table for Poisson(5), holding 1,
penalty 4 this reproduces.

All values are costs, in any one money; arrays over states are flat, x slowest, q_{lead-1} fastest.
"""

import math

import numpy as np
from numpy.typing import NDArray

from models.jit import njit

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def poisson_mass(mean: float, tail: float = 1e-12) -> Floats:
    """P(D = 0), P(D = 1), ... until what is left is below `tail`; the last holds the rest."""
    mass = [math.exp(-mean)]
    while sum(mass) < 1.0 - tail and len(mass) < 10_000:
        mass.append(mass[-1] * mean / len(mass))
    mass[-1] += 1.0 - sum(mass)
    return np.array(mass)


@njit
def sweep(
    later: Floats,
    mass: Floats,
    here: Floats,
    unit_cost: float,
    lead: int,
    order_max: int,
    orders: Ints,
    fixed: bool,
) -> Floats:
    """Cost of each state now, given the cost `later` of each state one period on.

    `here` [stock levels] is the expected cost of a period that begins with x on the shelf. `orders`
    [states] is filled with the best orders, or followed where `fixed`.
    """
    levels = len(here)
    pipelines = (order_max + 1) ** (lead - 1)
    high = pipelines // (order_max + 1) if lead > 1 else 1
    result = np.empty(levels * pipelines)
    for x in range(levels):
        for pipeline in range(pipelines):
            state = x * pipelines + pipeline
            arriving = pipeline // high if lead > 1 else 0
            rest = (pipeline % high) * (order_max + 1) if lead > 1 else 0
            best = math.inf
            first, last = 0, order_max
            if fixed:
                first = last = orders[state]
            for order in range(first, last + 1):
                plus = arriving if lead > 1 else order
                behind = rest + order if lead > 1 else 0
                cost = unit_cost * order
                left = 1.0
                for demand in range(min(x, len(mass))):
                    at = min(x - demand + plus, levels - 1)
                    cost += mass[demand] * later[at * pipelines + behind]
                    left -= mass[demand]
                cost += left * later[min(plus, levels - 1) * pipelines + behind]
                if cost < best - 1e-12:
                    best = cost
                    orders[state] = order
            result[state] = here[x] + best
    return result


def period_cost(mass: Floats, holding: float, penalty: float, levels: int) -> Floats:
    """holding E[(x - D)+] + penalty E[(D - x)+] for x = 0 .. levels - 1."""
    x = np.arange(levels)[:, None]
    demand = np.arange(len(mass))[None, :]
    cost: Floats = (
        holding * np.maximum(x - demand, 0) + penalty * np.maximum(demand - x, 0)
    ) @ mass
    return cost


def average_cost(
    mass: Floats,
    lead: int,
    holding: float,
    penalty: float,
    stock_max: int,
    order_max: int,
    orders: Ints | None = None,
    tolerance: float = 1e-7,
) -> tuple[float, Ints]:
    """(long-run cost a period, orders [states]): the optimum, or that of given `orders`.

    Relative value iteration; bounds `stock_max` and `order_max` must not bind at the optimum.
    """
    here = period_cost(mass, holding, penalty, stock_max + 1)
    states = len(here) * (order_max + 1) ** (lead - 1)
    fixed = orders is not None
    chosen = np.zeros(states, np.int64) if orders is None else orders
    values = np.zeros(states)
    for _ in range(100_000):
        after = sweep(values, mass, here, 0.0, lead, order_max, chosen, fixed)
        # half a step stays put, so that a periodic chain converges too
        after = 0.5 * (after + values)
        change = after - values
        if change.max() - change.min() < tolerance:
            return float(change.max() + change.min()), chosen
        values = after - after[0]
    raise ValueError(f"no convergence to {tolerance} within 100,000 sweeps")


def base_stock_orders(level: int, lead: int, stock_max: int, order_max: int) -> Ints:
    """Orders [states] that fill the inventory position up to `level`."""
    orders: Ints = np.clip(level - positions(lead, stock_max, order_max), 0, order_max)
    return orders


def positions(lead: int, stock_max: int, order_max: int) -> Ints:
    """Inventory position [states]: units on the shelf and on their way."""
    shape = (stock_max + 1, *((order_max + 1,) * (lead - 1)))
    total: Ints = np.indices(shape).sum(axis=0).ravel()
    return total


def sale_costs(
    mass: Floats,
    lead: int,
    here: Floats,
    unit_cost: float,
    worth_left: float,
    periods: int,
    order_max: int,
    orders: list[Ints] | None = None,
) -> tuple[Floats, list[Ints]]:
    """(cost [states] at the first period, orders [states] by period) of a sale of `periods`.

    The optimum, or the cost of given `orders`. What is left or on its way at the end is worth
    `worth_left` a unit; an order that would arrive after the last period is worth no more.
    """
    left = positions(lead, len(here) - 1, order_max)
    values = -worth_left * left.astype(np.float64)
    plan: list[Ints] = []
    for period in range(periods - 1, -1, -1):
        chosen = np.zeros(len(left), np.int64) if orders is None else orders[period]
        values = sweep(values, mass, here, unit_cost, lead, order_max, chosen, orders is not None)
        plan.append(chosen)
    return values, plan[::-1]
