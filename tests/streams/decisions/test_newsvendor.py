"""The newsvendor's closed forms against stockpyl."""

import numpy as np
import pytest
from stockpyl.newsvendor import newsvendor_normal

from streams.decisions.newsvendor import base_stock_normal, critical_ratio


def test_normal_demand_has_the_base_stock_and_cost_of_the_textbook() -> None:
    level, cost = base_stock_normal(0.18, 0.70, 50.0, 8.0)
    assert level == pytest.approx(56.60395592743389, abs=1e-9)
    assert cost == pytest.approx(1.9976051931766445, abs=1e-9)


@pytest.mark.parametrize("holding, penalty", [(1.0, 1.0), (1.0, 99.0), (7.0, 0.5)])
def test_stockpyl_agrees_at_other_costs(holding: float, penalty: float) -> None:
    ours = base_stock_normal(holding, penalty, 120.0, 30.0)
    assert ours == pytest.approx(newsvendor_normal(holding, penalty, 120.0, 30.0), rel=1e-9)


def test_the_critical_ratio_is_zero_without_a_margin_and_one_without_a_cost() -> None:
    ratio = critical_ratio(np.array([3.0, -1.0, 5.0, 0.0]), np.array([1.0, 1.0, 0.0, 0.0]))
    assert ratio.tolist() == [0.75, 0.0, 1.0, 0.0]
