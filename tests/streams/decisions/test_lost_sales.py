"""The exact lost-sales programme against Zipkin's table and against itself."""

import numpy as np
import pytest

from streams.decisions import lost_sales

POISSON = lost_sales.poisson_mass(5.0)
BOUNDS = {1: (26, 16), 2: (30, 16), 3: (32, 13)}  # stock_max, order_max


@pytest.mark.parametrize(
    "lead, optimum, base_stock, level",
    [(1, 4.041, 4.162, 12), (2, 4.395, 4.637, 16), (3, 4.599, 4.973, 20)],
)
def test_poisson_demand_costs_what_zipkin_found(
    lead: int, optimum: float, base_stock: float, level: int
) -> None:
    stock_max, order_max = BOUNDS[lead]
    cost, _ = lost_sales.average_cost(POISSON, lead, 1.0, 4.0, stock_max, order_max)
    assert cost == pytest.approx(optimum, abs=1e-3)
    orders = lost_sales.base_stock_orders(level, lead, stock_max, order_max)
    kept, _ = lost_sales.average_cost(
        POISSON, lead, 1.0, 4.0, stock_max, order_max, orders, tolerance=1e-5
    )
    assert kept == pytest.approx(base_stock, abs=2e-3)


def test_the_best_orders_followed_cost_the_optimum() -> None:
    here = lost_sales.period_cost(POISSON, 1.0, 4.0, 27)
    best, plan = lost_sales.sale_costs(POISSON, 2, here, 0.5, 0.2, 6, 14)
    followed, _ = lost_sales.sale_costs(POISSON, 2, here, 0.5, 0.2, 6, 14, plan)
    np.testing.assert_allclose(followed, best, rtol=1e-12)


def test_an_order_that_would_arrive_after_the_last_period_is_not_made() -> None:
    here = lost_sales.period_cost(POISSON, 1.0, 4.0, 27)
    _, plan = lost_sales.sale_costs(POISSON, 2, here, 0.5, 0.2, 6, 14)
    assert not plan[-1].any()
    assert not plan[-2].any()
    assert plan[-3].any()


def test_the_mass_of_a_poisson_demand_sums_to_one() -> None:
    assert POISSON.sum() == pytest.approx(1.0, abs=1e-15)
    assert POISSON @ np.arange(len(POISSON)) == pytest.approx(5.0, rel=1e-9)
