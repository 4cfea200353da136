"""Prices: closed forms, scarcity, restocking, hysteresis and fairness."""

import math
from dataclasses import fields, replace

import numpy as np
import pytest

from benchmarks.decisions import revenue_bound
from streams.decisions import guardrails
from streams.decisions.guardrails import Guardrails, clamp_names
from streams.decisions.price import PriceDecisions, PriceInputs, PricePolicy, Reason, decide
from streams.decisions.price_programme import best_prices, solve

FREE = PricePolicy(limits=Guardrails(step_max=1.0, cooldown_ms=0), gain_min=0.0, change_min=0.0)


def sku(stock: int = 1_000, **changes: object) -> PriceInputs:
    """One SKU at its list price of 100.00, cost 55.00, sensitivity 2, an hour from the end."""
    values: dict[str, object] = {
        "stock": stock, "end_mean": 400.0, "lead_mean": 100.0, "restockable": False,
        "price_cents": 10_000, "list_price_cents": 10_000, "unit_cost_cents": 5_500,
        "price_floor_cents": 6_000, "price_ceiling_cents": 14_000, "competitor_price_cents": 0,
        "price_sensitivity": 2.0, "competitor_sensitivity": 0.5, "opening": False,
        "changes_last_hour": 0, "since_change_ms": -1, **changes,
    }  # fmt: skip
    return PriceInputs(**{name: np.array([value]) for name, value in values.items()})


def priced(decisions: PriceDecisions) -> tuple[int, Reason]:
    return int(decisions.price_cents[0]), Reason(decisions.reason[0])


def test_the_revenue_bound_is_the_one_of_gallego_and_van_ryzin() -> None:
    assert revenue_bound(20, 100.0, 1.0) == pytest.approx(30.495662, abs=1e-6)


@pytest.mark.parametrize("stock, demand", [(1, 5.0), (5, 20.0), (20, 100.0), (60, 200.0)])
def test_the_first_price_is_the_optimal_one(stock: int, demand: float) -> None:
    """p*(n, t) = 1 / alpha + J*(n, t) - J*(n - 1, t)."""
    slope = 1e-3
    spared = revenue_bound(stock, demand, slope) - revenue_bound(stock - 1, demand, slope)
    now = 1_500.0
    price, _, _ = solve(
        float(stock), demand * math.exp(-slope * now), now, slope, 200.0, 6_000.0, 0.0, 0.0, 0.0,
        64,
    )  # fmt: skip
    assert price == pytest.approx(1.0 / slope + spared, rel=0.02)


def test_with_stock_in_plenty_the_price_is_salvage_plus_one_over_the_slope() -> None:
    price, reason = priced(decide(sku(stock=5_000), FREE))
    assert price == 2_750 + 5_000
    assert reason is Reason.PLENTY


def test_stock_without_a_known_limit_costs_what_it_costs() -> None:
    assert priced(decide(sku(stock=-1), FREE))[0] == 5_500 + 5_000


def test_scarce_stock_is_dearer_the_scarcer_it_is() -> None:
    prices = [priced(decide(sku(stock=n), FREE))[0] for n in (5_000, 500, 400, 300, 200, 100)]
    assert prices == sorted(prices)
    assert prices[-1] == 14_000
    assert priced(decide(sku(stock=200), FREE))[1] is Reason.SCARCE


def test_a_price_that_just_clears_the_stock_is_found() -> None:
    """400 expected at 100.00, 300 to sell, sensitivity 2: about 100.00 (1 + ln(4 / 3) / 2)."""
    price, _ = priced(decide(sku(stock=300), FREE))
    assert price == pytest.approx(10_000 * (1.0 + math.log(4.0 / 3.0) / 2.0), rel=0.03)


def test_where_stock_can_be_replaced_in_time_its_cost_rules_not_its_scarcity() -> None:
    scarce, _ = priced(decide(sku(stock=200), FREE))
    replaced, _ = priced(decide(sku(stock=200, restockable=True), FREE))
    assert replaced == pytest.approx(5_500 + 5_000, rel=0.01)
    assert scarce > replaced + 1_500


def test_where_all_that_may_be_left_is_worth_the_same_the_price_is_that_of_the_programme() -> None:
    random = np.random.default_rng(5)
    count = 3_000
    stock = random.integers(1, 3_000, count)
    end, listed = np.exp(random.uniform(2, 9, count)), random.uniform(500, 20_000, count)
    lead, slope = end * random.uniform(0, 0.3, count), random.uniform(0.5, 4, count) / listed
    now, cost = listed * random.uniform(0.6, 1.3, count), listed * random.uniform(0.1, 0.8, count)
    rest, floor = cost * random.uniform(0, 1, count), listed * random.uniform(0.3, 0.9, count)
    ceiling = listed * random.uniform(1.0, 1.6, count)
    restockable = np.ones(count, np.bool_)
    wanted, gain = best_prices(
        stock, end, lead, restockable, now, slope, cost, rest, floor, ceiling, 16
    )
    closed = {"bought anew": 0, "left over": 0}
    for row in range(count):
        plain = min(max(rest[row] + 1.0 / slope[row], floor[row]), ceiling[row])
        demand = end[row] * math.exp(-slope[row] * (plain - now[row]))
        if stock[row] > demand + 6.0 * math.sqrt(demand):
            continue  # in plenty to the end of the sale
        price, better, revenue = solve(
            float(stock[row]), lead[row], now[row], slope[row], floor[row], ceiling[row],
            end[row] - lead[row], cost[row], rest[row], 16,
        )  # fmt: skip
        for name, worth in (("bought anew", cost[row]), ("left over", rest[row])):
            plain = min(max(worth + 1.0 / slope[row], floor[row]), ceiling[row])
            if wanted[row] == round(plain) and floor[row] < plain < ceiling[row]:
                closed[name] += 1
                # the programme's prices are a grid, which is coarse where a bound is near
                assert price == pytest.approx(plain, rel=0.07)
                assert -0.003 < gain[row] - better / revenue < 0.02
    assert min(closed.values()) > 50, closed


def test_before_the_restock_can_arrive_scarcity_still_counts() -> None:
    short, _ = priced(decide(sku(stock=40, restockable=True), FREE))
    assert short > 12_000


def test_a_cheaper_competitor_makes_demand_steeper_and_the_price_lower() -> None:
    alone, _ = priced(decide(sku(stock=5_000, unit_cost_cents=9_000), FREE))
    against, _ = priced(
        decide(sku(stock=5_000, unit_cost_cents=9_000, competitor_price_cents=8_000), FREE)
    )
    assert against < alone


def test_a_change_must_be_worth_making() -> None:
    policy = PricePolicy(limits=Guardrails(step_max=1.0))
    near = decide(sku(stock=-1, price_cents=10_400), policy)  # 105.00 would be best
    assert priced(near) == (10_400, Reason.KEPT)
    assert not near.changed[0]
    assert near.wanted_cents[0] == 10_500
    far = decide(sku(stock=-1, price_cents=8_000), policy)
    assert priced(far) == (10_500, Reason.SCARCE)
    assert far.gain_share[0] > 0.05


def test_a_price_outside_its_bounds_is_brought_back_whatever_the_gain() -> None:
    decisions = decide(sku(stock=-1, price_cents=5_990, price_ceiling_cents=6_000), PricePolicy())
    assert priced(decisions) == (6_000, Reason.BOUNDS)


def test_guardrails_have_the_last_word_and_are_recorded() -> None:
    decisions = decide(sku(stock=100), PricePolicy())
    assert priced(decisions)[0] == 11_500
    assert clamp_names(int(decisions.clamps[0])) == ["step"]
    held = decide(sku(stock=100, since_change_ms=1_000), PricePolicy())
    assert priced(held) == (10_000, Reason.WITHHELD)
    assert held.wanted_cents[0] == 10_000  # not even sought


def test_a_price_is_sought_wherever_the_guardrails_would_let_a_change_pass() -> None:
    """What is held is what `apply` holds, of any change."""
    chance = np.random.default_rng(5)
    changes, since = chance.integers(0, 6, 500), chance.integers(-1, 600_000, 500)
    opening = chance.random(500) < 0.3
    old, floor, ceiling = (np.full(500, cents) for cents in (10_000, 1, 10**6))
    for limits in (Guardrails(), Guardrails(kill_switch=True), Guardrails(cooldown_ms=0)):
        passed, _ = guardrails.apply(
            old + 500, old, floor, ceiling, changes, since, opening, limits
        )
        held = guardrails.withholding(changes, since, opening, limits) != 0
        assert (held == (passed == old)).all()


def test_the_sale_opens_at_the_best_price_at_once() -> None:
    opened = decide(sku(stock=100, opening=True), PricePolicy())
    assert priced(opened) == (14_000, Reason.OPENING)


def test_nothing_to_sell_or_nothing_known_changes_nothing() -> None:
    assert priced(decide(sku(stock=0), FREE)) == (10_000, Reason.NO_STOCK)
    assert priced(decide(sku(list_price_cents=0), FREE)) == (10_000, Reason.UNKNOWN)
    assert priced(decide(sku(end_mean=0.0), FREE)) == (10_000, Reason.UNKNOWN)
    assert priced(decide(sku(end_mean=math.nan), FREE)) == (10_000, Reason.UNKNOWN)
    assert priced(decide(sku(price_ceiling_cents=0), FREE)) == (10_000, Reason.UNKNOWN)


def test_expected_units_never_exceed_what_can_be_sold() -> None:
    decisions = decide(sku(stock=100), PricePolicy())
    assert decisions.expected_units[0] == pytest.approx(100.0, rel=1e-3)
    assert decisions.expected_revenue_cents[0] == pytest.approx(
        decisions.expected_units[0] * decisions.price_cents[0]
    )
    restocked = decide(sku(stock=100, restockable=True), PricePolicy())
    assert restocked.expected_units[0] > 200.0


@pytest.mark.parametrize("stock", [-1, 100])
@pytest.mark.parametrize("restockable", [False, True])
def test_what_is_expected_of_a_price_far_from_the_old_one_is_still_a_number(
    stock: int, restockable: bool
) -> None:
    far = sku(stock, restockable=restockable, price_cents=10**8, list_price_cents=3)
    for inputs in (far, replace(far, price_floor_cents=np.array([0]))):
        decisions = decide(inputs, FREE)
        assert decisions.changed[0]
        assert np.isfinite(decisions.expected_units[0])
        assert np.isfinite(decisions.expected_revenue_cents[0])


def test_no_input_says_anything_about_a_shopper() -> None:
    for field in fields(PriceInputs):
        assert not {"user", "session", "region", "shopper", "customer"} & set(field.name.split("_"))


def test_decisions_do_not_depend_on_what_else_is_decided() -> None:
    inputs = [sku(stock=n, end_mean=m) for n in (3, 70, 900) for m in (20.0, 700.0)]
    together = decide(
        PriceInputs(*(
            np.concatenate([getattr(one, field.name) for one in inputs])
            for field in fields(PriceInputs)
        )), PricePolicy(),
    )  # fmt: skip
    alone = [int(decide(one, PricePolicy()).price_cents[0]) for one in inputs]
    assert together.price_cents.tolist() == alone


def test_a_policy_out_of_bounds_is_refused() -> None:
    with pytest.raises(ValueError, match="salvage_share"):
        replace(PricePolicy(), salvage_share=1.5)
    with pytest.raises(ValueError, match="periods"):
        replace(PricePolicy(), periods=0)
