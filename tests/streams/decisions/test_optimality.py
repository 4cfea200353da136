"""How close decisions come to the optimum: the benchmark, small."""

import math

import pytest

from benchmarks import decisions


@pytest.mark.parametrize(
    "mean, dispersion, lead, empty, stocked",
    [
        (5.0, math.inf, 1, 0.997, 0.997),
        (5.0, math.inf, 2, 0.994, 0.997),
        (5.0, 2.0, 2, 0.992, 0.995),
        (1.0, 2.0, 2, 0.970, 0.980),
    ],
)
def test_restocks_earn_nearly_the_optimum_of_the_lost_sales_programme(
    mean: float, dispersion: float, lead: int, empty: float, stocked: float
) -> None:
    shares = decisions.restock_share(mean, dispersion, lead)
    assert empty < shares[0] <= 1.0 + 1e-9
    assert stocked < shares[1] <= 1.0 + 1e-9


@pytest.mark.parametrize("stock, demand", [(1, 5.0), (5, 20.0), (20, 100.0), (20, 30.0)])
def test_prices_earn_nearly_the_upper_bound_and_more_than_one_price(
    stock: int, demand: float
) -> None:
    share = decisions.price_share(stock, demand)
    assert 0.996 < share <= 1.0 + 1e-9
    assert share > decisions.price_share(stock, demand, fixed=True)


def test_with_an_unknown_sensitivity_and_guardrails_the_sale_still_earns_its_due() -> None:
    seed = 7
    share, list_price = decisions.learning_share(seed, 100, 200.0, skus=100)
    assert share > 0.98, f"seed {seed}"
    assert share > list_price + 0.2
