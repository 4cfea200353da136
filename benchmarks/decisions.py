"""How far the decisions are from the best possible: `python -m benchmarks.decisions`.

Restock: the profit of `restock.decide` on small sales, worked out exactly over every state, against
the optimum of the lost-sales dynamic programme. Price: the revenue of `price.decide`, exactly, with
demand known, against J*(n, t), the most that any policy can earn; and by simulation with the price
sensitivity unknown and learned, guardrails on. Every figure is a share of the optimum that is
earned. Last, how long a decision takes. Seeded; nothing is drawn from a clock.
"""

import argparse
import math
import time
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from streams.decisions import lost_sales, price, restock
from streams.decisions.price_memory import CLICK_SHARE, PriceMemory
from streams.simulation.noise import poisson_quantile

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
REVIEW_MS = 300_000
REVIEWS = 24  # in a sale of two hours


def negative_binomial_mass(mean: float, dispersion: float, tail: float = 1e-10) -> Floats:
    """P(D = 0), P(D = 1), ...; the last entry holds the rest."""
    if math.isinf(dispersion):
        return lost_sales.poisson_mass(mean, tail)
    mass = [(dispersion / (dispersion + mean)) ** dispersion]
    while sum(mass) < 1.0 - tail:
        k = len(mass)
        mass.append(mass[-1] * (k - 1 + dispersion) / k * mean / (mean + dispersion))
    mass[-1] += 1.0 - sum(mass)
    return np.array(mass)


def restock_share(
    mean: float,
    dispersion: float,
    lead: int,
    periods: int = 12,
    price_cents: int = 10_000,
    cost_cents: int = 5_500,
) -> tuple[float, float]:
    """(from an empty shelf, from one that covers the lead time): profit of the policy as a share of
    the optimum, over a sale of `periods` reviews with demand `mean` each.
    """
    policy = restock.RestockPolicy(
        review_period_ms=REVIEW_MS, cooldown_ms=0, order_cost_cents=0, holding_share=0.01
    )
    mass = negative_binomial_mass(mean, dispersion)
    deviation = math.sqrt(mean + (0.0 if math.isinf(dispersion) else mean**2 / dispersion))
    levels = int(mean * (lead + 1) + 5 * deviation * math.sqrt(lead + 1)) + 4
    order_max = int(mean + (4 if lead < 3 else 3) * deviation) + 2
    x, demand = np.arange(levels + 1)[:, None], np.arange(len(mass))[None, :]
    here = -price_cents * (np.minimum(x, demand) @ mass)
    here += policy.holding_share * cost_cents * (np.maximum(x - demand, 0) @ mass)
    worth_left = policy.salvage_share * cost_cents
    best, _ = lost_sales.sale_costs(mass, lead, here, cost_cents, worth_left, periods, order_max)
    position = lost_sales.positions(lead, levels, order_max)
    orders = [
        np.minimum(
            _restocks(position, mean, dispersion, lead, periods - done, price_cents, cost_cents,
                      policy), order_max,
        )
        for done in range(periods)
    ]  # fmt: skip
    ours, _ = lost_sales.sale_costs(
        mass, lead, here, cost_cents, worth_left, periods, order_max, orders
    )
    pipelines = (order_max + 1) ** (lead - 1)
    stocked = int(mean * (lead + 1)) * pipelines
    return float(ours[0] / best[0]), float(ours[stocked] / best[stocked])


def _restocks(
    position: Ints,
    mean: float,
    dispersion: float,
    lead: int,
    left: int,
    price_cents: int,
    cost_cents: int,
    policy: restock.RestockPolicy,
) -> Ints:
    """Orders at every position with `left` periods to go."""
    n = len(position)
    cover, until = min(lead + 1, left), min(lead, left)

    def cents(value: int) -> Ints:
        return np.full(n, value, np.int64)

    return restock.decide(
        restock.RestockInputs(
            position_known=np.ones(n, np.bool_), inventory_position=position,
            lead_mean=np.full(n, mean * until), cover_mean=np.full(n, mean * cover),
            cover_dispersion=np.full(n, dispersion * cover), end_mean=np.full(n, mean * left),
            end_dispersion=np.full(n, dispersion * left), price_cents=cents(price_cents),
            unit_cost_cents=cents(cost_cents), lead_time_ms=cents(lead * REVIEW_MS),
            time_left_ms=cents(left * REVIEW_MS), since_restock_ms=cents(-1),
        ),
        policy,
    ).order_quantity  # fmt: skip


def revenue_bound(stock: int, demand_at_zero: float, slope: float) -> float:
    """J*(n, t) = ln(sum over i <= n of (a t / e)^i / i!) / alpha for demand a exp(-alpha p) over
    time t: the most any policy can earn (Gallego and van Ryzin, 1994, equation 18).
    """
    terms = [i * (math.log(demand_at_zero) - 1.0) - math.lgamma(i + 1) for i in range(stock + 1)]
    top = max(terms)
    return (top + math.log(sum(math.exp(term - top) for term in terms))) / slope


def free_price(
    stock: Ints, mean: Floats, price_cents: Ints, slope: float, policy: price.PricePolicy
) -> Ints:
    """`price.decide` with nothing but the bounds [200, 6000] in its way: no cost, no restock."""
    n = len(stock)
    zero, never = np.zeros(n, np.int64), np.full(n, -1, np.int64)
    return price.decide(
        price.PriceInputs(
            stock=stock, end_mean=mean, lead_mean=mean, restockable=np.zeros(n, np.bool_),
            price_cents=price_cents, list_price_cents=zero + 1_000, unit_cost_cents=zero,
            price_floor_cents=zero + 200, price_ceiling_cents=zero + 6_000,
            competitor_price_cents=zero, price_sensitivity=np.full(n, slope * 1_000),
            competitor_sensitivity=np.zeros(n), opening=np.ones(n, np.bool_),
            changes_last_hour=zero, since_change_ms=never,
        ),
        policy,
    ).price_cents  # fmt: skip


def price_share(stock: int, demand_at_zero: float, reviews: int = 24, fixed: bool = False) -> float:
    """Revenue of the policy, exact over demand, as a share of J*; slope 1 / 1000 per cent.

    `fixed`: of the best first price, kept, instead.
    """
    slope = 1e-3
    policy = price.PricePolicy(gain_min=0.0, change_min=0.0)
    units = np.arange(1, stock + 1)
    now = np.full(stock, 1_500)
    at_now = demand_at_zero * math.exp(-slope * 1_500)
    value = np.zeros(stock + 1)
    first = free_price(units, np.full(stock, at_now), now, slope, policy)
    for left in range(1, reviews + 1):
        mean = np.full(stock, at_now * left / reviews)
        prices = np.full(stock, first[-1]) if fixed else free_price(units, mean, now, slope, policy)
        after = value.copy()
        for n, cents in zip(units, prices, strict=True):
            mass = lost_sales.poisson_mass(
                demand_at_zero / reviews * math.exp(-slope * cents), 1e-10
            )
            sold = np.minimum(np.arange(len(mass)), n)
            value[n] = mass @ (cents * sold + after[n - sold])
    return float(value[stock] / revenue_bound(stock, demand_at_zero, slope))


def learning_share(
    seed: int,
    stock: int,
    demand_at_list: float,
    off: float = 0.0,
    knows: str = "learned",
    skus: int = 400,
) -> tuple[float, float]:
    """(policy, list price kept): revenue as a share of J* with the true sensitivity.

    Every SKU draws its sensitivity around that of its category, and those are drawn around the
    prior's mean plus `off`. What the policy `knows` of it is "learned", the "prior" or the "truth".
    Guardrails are on. The shoppers of a seed are the same whatever the policy.
    """
    random = np.random.default_rng(seed)
    memory = PriceMemory(skus)
    rows, category = np.arange(skus), np.arange(skus) % 8
    own = memory.prior.price_sensitivity + off + 0.4 * random.standard_normal(8)[category]
    true = np.clip(own + 0.3 * random.standard_normal(skus), 0.8, 4.5)
    luck = random.random((2, REVIEWS, skus))
    list_cents = np.full(skus, 10_000)
    cents, left, kept = list_cents, np.full(skus, stock), np.full(skus, stock)
    earned = idle = 0.0
    mean = demand_at_list / REVIEWS
    for review in range(REVIEWS):
        now_ms = 10**12 + review * REVIEW_MS
        known = true if knows == "truth" else memory.posterior(rows, category).price
        ahead = mean * (REVIEWS - review) * _response(true, cents)
        inputs = _guarded_inputs(memory, known, left, ahead, cents, now_ms, review == 0)
        decisions = price.decide(inputs, price.PricePolicy())
        moved = np.flatnonzero(decisions.changed)
        memory.record_change(moved, decisions.price_cents[moved], now_ms)
        cents = decisions.price_cents
        response = _response(true, cents)
        clicks = poisson_quantile(luck[0, review], 8 * mean * response**CLICK_SHARE)
        demand = poisson_quantile(luck[1, review], mean * response)
        sold = np.minimum(demand, left)
        if knows == "learned":
            full = np.flatnonzero(sold == demand)
            seen = clicks[full].astype(np.float64)
            memory.update(full, sold[full], seen, cents[full], list_cents[full], 0 * full)
        earned += float((sold * cents).sum())
        left = left - sold
        still = np.minimum(poisson_quantile(luck[1, review], np.full(skus, mean)), kept)
        idle += float(still.sum()) * 10_000
        kept = kept - still
    bound = sum(revenue_bound(stock, demand_at_list * math.exp(b), b / 10_000) for b in true)
    return earned / bound, idle / bound


def _response(sensitivity: Floats, cents: Ints) -> Floats:
    """Demand over demand at the list price of 100.00."""
    response: Floats = np.exp(-sensitivity * (cents / 10_000 - 1.0))
    return response


def _guarded_inputs(
    memory: PriceMemory, known: Floats, left: Ints, ahead: Floats, cents: Ints, now_ms: int,
    opening: bool,
) -> price.PriceInputs:  # fmt: skip
    """No cost, no restock, no competitor, prices from 50.00 to 250.00."""
    n = len(left)
    rows, zero = np.arange(n), np.zeros(n, np.int64)
    return price.PriceInputs(
        stock=left, end_mean=ahead, lead_mean=ahead, restockable=np.zeros(n, np.bool_),
        price_cents=cents, list_price_cents=zero + 10_000, unit_cost_cents=zero,
        price_floor_cents=zero + 5_000, price_ceiling_cents=zero + 25_000,
        competitor_price_cents=zero, price_sensitivity=known,
        competitor_sensitivity=np.zeros(n), opening=np.full(n, opening),
        changes_last_hour=memory.changes_last_hour(rows, now_ms),
        since_change_ms=memory.since_change_ms(rows, now_ms),
    )  # fmt: skip


def timed(decide: Callable[[], object], times: int = 5) -> float:
    """Processor time of the fastest of some runs, in milliseconds, after one to warm up."""
    decide()
    best = math.inf
    for _ in range(times):
        begun = time.process_time()
        decide()
        best = min(best, time.process_time() - begun)
    return 1e3 * best


def speed(seed: int, skus: int) -> tuple[float, float]:
    """(restock, price) milliseconds for `skus` decisions of heavy-tailed demand."""
    random = np.random.default_rng(seed)
    mean = np.exp(random.normal(4.0, 1.0, skus))
    whole = np.ones(skus, np.int64)
    restocks = restock.RestockInputs(
        position_known=whole > 0, inventory_position=random.integers(0, 1_000, skus),
        lead_mean=0.7 * mean, cover_mean=mean, cover_dispersion=random.uniform(2, 30, skus),
        end_mean=4 * mean, end_dispersion=np.full(skus, 5.0), price_cents=10_000 * whole,
        unit_cost_cents=5_500 * whole, lead_time_ms=900_000 * whole,
        time_left_ms=3_600_000 * whole, since_restock_ms=-whole,
    )  # fmt: skip
    prices = price.PriceInputs(
        stock=random.integers(0, 1_000, skus), end_mean=4 * mean, lead_mean=mean,
        restockable=random.random(skus) < 0.5, price_cents=10_000 * whole,
        list_price_cents=10_000 * whole, unit_cost_cents=5_500 * whole,
        price_floor_cents=6_000 * whole, price_ceiling_cents=14_000 * whole,
        competitor_price_cents=10_000 * whole, price_sensitivity=random.uniform(1, 3, skus),
        competitor_sensitivity=np.full(skus, 0.5), opening=whole < 0,
        changes_last_hour=0 * whole, since_change_ms=-whole,
    )  # fmt: skip
    return (
        timed(lambda: restock.decide(restocks, restock.RestockPolicy())),
        timed(lambda: price.decide(prices, price.PricePolicy()), 2),
    )


def report(seed: int) -> Iterator[str]:
    """The table, line by line."""
    yield "restock: share of the optimal profit     empty shelf   stocked"
    for mean, dispersion, lead in (
        (1.0, math.inf, 1), (1.0, 2.0, 2), (5.0, math.inf, 1), (5.0, math.inf, 2),
        (5.0, math.inf, 3), (5.0, 2.0, 1), (5.0, 2.0, 2), (5.0, 0.7, 2), (20.0, 5.0, 1),
    ):  # fmt: skip
        empty, stocked = restock_share(mean, dispersion, lead)
        what = f"mean {mean:4.0f}  dispersion {dispersion:4.1f}  lead {lead}"
        yield f"  {what}   {empty:10.4f} {stocked:9.4f}"
    yield "price: share of J*                       re-solved     one fixed price"
    for stock, demand in ((1, 5.0), (5, 20.0), (20, 30.0), (20, 100.0), (50, 200.0), (200, 800.0)):
        solved, fixed = price_share(stock, demand), price_share(stock, demand, fixed=True)
        yield f"  stock {stock:4d}  demand at price 0 {demand:4.0f}   {solved:10.4f} {fixed:14.4f}"
    yield "price, sensitivity unknown: share of J*         learned  prior only  told  list price"
    for stock, demand, off in (
        (100, 200.0, 0.0), (1_000, 1_000.0, 0.0), (1_000, 1_000.0, 1.2), (1_000, 1_000.0, -0.8),
    ):  # fmt: skip
        shares = [
            learning_share(seed, stock, demand, off, knows)
            for knows in ("learned", "prior", "truth")
        ]
        what = f"stock {stock:5d}  demand at list {demand:5.0f}  prior off by {off:4.1f}"
        earned = "  ".join(f"{share:.4f}" for share, _ in shares)
        yield f"  {what}   {earned}  {shares[0][1]:.4f}"
    for skus in (200, 10_000):
        restocking, pricing = speed(seed, skus)
        yield f"{skus} SKUs: restock {restocking:.1f} ms, price {pricing:.1f} ms"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=7)
    print(f"seed {(seed := parser.parse_args().seed)}")
    for line in report(seed):
        print(line, flush=True)
