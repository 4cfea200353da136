"""Restock decisions: the newsvendor, the end of the sale, and no order twice."""

import math
from dataclasses import replace

import numpy as np
import pytest
from stockpyl.newsvendor import newsvendor_poisson

from streams.decisions.restock import (
    Reason,
    RestockDecisions,
    RestockInputs,
    RestockPolicy,
    decide,
)
from streams.decisions.restock_memory import PENDING, RestockMemory

MINUTE_MS = 60_000
NO_ORDER_COST = RestockPolicy(order_cost_cents=0, cooldown_ms=0)


def sku(position: int = 0, **changes: object) -> RestockInputs:
    """One SKU: lead time 10 min, 80 minutes of sale left, 4 units a minute, margin 45.00."""
    values: dict[str, object] = {
        "position_known": True, "inventory_position": position, "lead_mean": 40.0,
        "cover_mean": 60.0, "cover_dispersion": 20.0, "end_mean": 320.0, "end_dispersion": 20.0,
        "price_cents": 10_000, "unit_cost_cents": 5_500, "lead_time_ms": 10 * MINUTE_MS,
        "time_left_ms": 80 * MINUTE_MS, "since_restock_ms": -1, **changes,
    }  # fmt: skip
    return RestockInputs(**{name: np.array([value]) for name, value in values.items()})


def reason(decisions: RestockDecisions) -> Reason:
    return Reason(decisions.reason[0])


@pytest.mark.parametrize("margin, cost", [(4_500, 5_500), (1_000, 9_000), (9_000, 1_000)])
def test_with_one_chance_and_no_lead_time_the_order_is_the_newsvendors(
    margin: int, cost: int
) -> None:
    policy = replace(NO_ORDER_COST, salvage_share=0.5, holding_share=1e-9)
    inputs = sku(
        lead_mean=0.0, cover_mean=30.0, cover_dispersion=math.inf, end_mean=30.0,
        end_dispersion=math.inf, price_cents=cost + margin, unit_cost_cents=cost, lead_time_ms=0,
        time_left_ms=5 * MINUTE_MS,
    )  # fmt: skip
    level, _ = newsvendor_poisson(0.5 * cost, margin, 30.0)
    decisions = decide(inputs, policy)
    assert decisions.order_quantity[0] == level
    assert decisions.critical_ratio[0] == pytest.approx(margin / (margin + 0.5 * cost))
    assert reason(decisions) is Reason.LAST_CHANCE


def test_a_position_that_covers_lead_time_and_review_period_is_left_alone() -> None:
    decisions = decide(sku(position=300), RestockPolicy())
    assert decisions.order_quantity[0] == 0
    assert reason(decisions) is Reason.ENOUGH
    assert decisions.reorder_point[0] < 300


def test_an_order_is_placed_exactly_from_the_reorder_point_down() -> None:
    point = int(decide(sku(position=0), NO_ORDER_COST).reorder_point[0])
    assert 60 < point < 160
    assert decide(sku(position=point), NO_ORDER_COST).order_quantity[0] >= 1
    assert decide(sku(position=point + 1), NO_ORDER_COST).order_quantity[0] == 0


@pytest.mark.parametrize("changes", [{}, {"time_left_ms": -1}, {"cover_dispersion": 0.5}])
def test_far_above_the_reorder_point_nothing_is_ordered_and_the_point_is_a_bound(
    changes: dict[str, object],
) -> None:
    exact = int(decide(sku(position=0, **changes), NO_ORDER_COST).reorder_point[0])
    bounds = []
    for position in range(exact + 1, 3_000, 37):
        decisions = decide(sku(position=position, **changes), NO_ORDER_COST)
        assert decisions.order_quantity[0] == 0
        assert reason(decisions) is Reason.ENOUGH
        bounds.append(int(decisions.reorder_point[0]))
        assert exact <= decisions.reorder_point[0] < position
    assert bounds[0] == exact < bounds[-1] == bounds[-2]  # from some position on what bounds it
    free = decide(sku(position=3_000, unit_cost_cents=0, cover_mean=0.0), NO_ORDER_COST)
    assert free.order_quantity[0] == 0


def test_less_is_ordered_than_the_gap_where_the_shelf_runs_empty_meanwhile() -> None:
    """What is lost before the order arrives must not be ordered for."""
    decisions = decide(sku(position=0), NO_ORDER_COST)
    assert 0 < decisions.order_quantity[0] < decisions.reorder_point[0] - 20


def test_nothing_is_ordered_that_would_arrive_after_the_sale() -> None:
    for left in (0, 1, 10 * MINUTE_MS):
        decisions = decide(sku(time_left_ms=left, end_mean=40.0), RestockPolicy())
        assert decisions.order_quantity[0] == 0
        assert reason(decisions) is Reason.TOO_LATE


def test_orders_shrink_with_the_rest_of_the_sale() -> None:
    quantities = [
        int(decide(sku(time_left_ms=left * MINUTE_MS, end_mean=4.0 * left), RestockPolicy())
            .order_quantity[0])
        for left in (80, 40, 20, 16, 13, 11)
    ]  # fmt: skip
    assert quantities == sorted(quantities, reverse=True)
    assert quantities[-1] <= 4 + 1  # one minute of demand is left when it arrives


def test_without_an_end_of_sale_the_whole_cover_is_ordered() -> None:
    known = decide(sku(time_left_ms=80 * MINUTE_MS), RestockPolicy()).order_quantity[0]
    endless = decide(sku(time_left_ms=-1), RestockPolicy()).order_quantity[0]
    assert endless >= known - 1 > 0  # one is worked out by units, the other on a grid


def test_units_worth_nothing_after_the_sale_are_ordered_more_carefully() -> None:
    last = sku(time_left_ms=14 * MINUTE_MS, end_mean=56.0, cover_mean=56.0)
    kept = decide(last, replace(NO_ORDER_COST, salvage_share=0.9)).order_quantity[0]
    lost = decide(last, replace(NO_ORDER_COST, salvage_share=0.0)).order_quantity[0]
    assert kept > lost > 0


def test_no_margin_no_order() -> None:
    decisions = decide(sku(price_cents=5_500), RestockPolicy())
    assert decisions.order_quantity[0] == 0
    assert reason(decisions) is Reason.NO_MARGIN


def test_an_unknown_stock_level_is_never_guessed() -> None:
    decisions = decide(sku(position_known=False), RestockPolicy())
    assert decisions.order_quantity[0] == 0
    assert reason(decisions) is Reason.STOCK_UNKNOWN


def test_within_the_cooldown_nothing_is_ordered() -> None:
    policy = RestockPolicy(cooldown_ms=5 * MINUTE_MS)
    assert reason(decide(sku(since_restock_ms=0), policy)) is Reason.COOLDOWN
    assert decide(sku(since_restock_ms=0), policy).order_quantity[0] == 0
    assert decide(sku(since_restock_ms=5 * MINUTE_MS), policy).order_quantity[0] > 0


def test_an_order_that_would_not_earn_its_own_cost_waits_and_then_is_larger() -> None:
    dear = RestockPolicy(order_cost_cents=20_000)
    point = int(decide(sku(), dear).reorder_point[0])
    assert reason(decide(sku(position=point), dear)) is Reason.TOO_SMALL
    lower = decide(sku(position=40), dear).order_quantity[0]
    assert lower > decide(sku(position=40), NO_ORDER_COST).order_quantity[0]


@pytest.mark.parametrize("broken", [math.nan, math.inf, -1.0])
def test_a_broken_forecast_orders_nothing(broken: float) -> None:
    decisions = decide(sku(cover_mean=broken), RestockPolicy())
    assert decisions.order_quantity[0] == 0
    assert reason(decisions) is Reason.NO_FORECAST


def test_no_order_exceeds_the_maximum() -> None:
    decisions = decide(sku(), RestockPolicy(order_quantity_max=7))
    assert decisions.order_quantity[0] == 7


def test_large_demand_is_decided_on_a_grid_close_to_the_exact_answer() -> None:
    """Just below and above the limit of exact summing the orders are in proportion."""
    small, large = (
        decide(
            sku(lead_mean=m, cover_mean=1.5 * m, end_mean=4 * m, cover_dispersion=30.0 * m,
                end_dispersion=30.0 * m), NO_ORDER_COST,
        )
        for m in (60.0, 600.0)
    )  # fmt: skip
    assert large.order_quantity[0] / 600 == pytest.approx(small.order_quantity[0] / 60, rel=0.25)
    assert large.reorder_point[0] / 600 == pytest.approx(small.reorder_point[0] / 60, rel=0.25)


def test_no_demand_orders_nothing() -> None:
    decisions = decide(sku(lead_mean=0.0, cover_mean=0.0, end_mean=0.0), RestockPolicy())
    assert decisions.order_quantity[0] == 0


def test_decisions_do_not_depend_on_what_else_is_decided() -> None:
    inputs = [sku(position=p, cover_mean=m, lead_mean=m / 2) for p in (0, 30) for m in (5.0, 90.0)]
    together = decide(
        RestockInputs(*(
            np.concatenate([getattr(one, field) for one in inputs])
            for field in RestockInputs.__dataclass_fields__
        )), RestockPolicy(),
    )  # fmt: skip
    alone = [int(decide(one, RestockPolicy()).order_quantity[0]) for one in inputs]
    assert together.order_quantity.tolist() == alone


def test_a_policy_out_of_bounds_is_refused() -> None:
    with pytest.raises(ValueError, match="holding above 0"):
        RestockPolicy(holding_share=0.0)
    with pytest.raises(ValueError, match="positive"):
        RestockPolicy(review_period_ms=0)


# --- memory


def test_own_restocks_count_until_a_later_stock_level_arrives() -> None:
    memory, rows = RestockMemory(4), np.array([2])
    memory.add(rows, 1_000, np.array([50]))
    memory.add(rows, 2_000, np.array([30]))
    assert memory.outstanding(rows, np.array([0])).tolist() == [80]
    assert memory.outstanding(rows, np.array([999])).tolist() == [80]
    assert memory.outstanding(rows, np.array([1_000])).tolist() == [30]
    assert memory.outstanding(rows, np.array([2_000])).tolist() == [0]
    assert memory.since_restock_ms(np.array([2, 3]), 5_000).tolist() == [3_000, -1]


def test_no_restock_is_ordered_twice_while_the_stock_level_has_not_answered() -> None:
    memory, rows = RestockMemory(1), np.array([0])
    for now_ms in range(1, 10 * MINUTE_MS, MINUTE_MS):
        position = int(memory.outstanding(rows, np.array([0]))[0])
        quantity = decide(sku(position=position), NO_ORDER_COST).order_quantity
        if quantity[0]:
            memory.add(rows, now_ms, quantity)
    point = decide(sku(), NO_ORDER_COST).reorder_point[0]
    assert memory.outstanding(rows, np.array([0]))[0] <= point + 1


def test_more_restocks_than_are_remembered_lose_no_unit() -> None:
    memory, rows = RestockMemory(1), np.array([0])
    for origin_ms in range(1, 3 * PENDING):
        memory.add(rows, origin_ms, np.array([1]))
    assert memory.outstanding(rows, np.array([0])).tolist() == [3 * PENDING - 1]
    assert memory.outstanding(rows, np.array([3 * PENDING - 2])).tolist() == [1]


def test_rows_survive_a_snapshot_growth_and_reset() -> None:
    memory, rows = RestockMemory(3), np.array([0, 2])
    memory.add(rows, 5_000, np.array([7, 8]))
    kept = memory.gather(rows)
    other = RestockMemory(1)
    other.grow(10)
    other.scatter(np.array([9, 1]), kept)
    assert other.outstanding(np.array([9, 1]), np.array([0, 0])).tolist() == [7, 8]
    other.reset(np.array([9]))
    assert other.outstanding(np.array([9, 1]), np.array([0, 0])).tolist() == [0, 8]
