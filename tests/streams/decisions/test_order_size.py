"""What restock decisions are worked out with."""

import math

import numpy as np
import pytest

from streams.decisions.order_size import _exceeds_at_most, orders


def exceeds(units: int, mean: float, over: float) -> float:
    """P(D > units), summed unit by unit."""
    size = mean / (over - 1.0) if over > 1.0 else math.inf
    log_mass = [-mean if math.isinf(size) else -size * math.log(over)]
    for count in range(units):
        rise = mean if math.isinf(size) else mean / over * (1.0 + count / size)
        log_mass.append(log_mass[-1] + math.log(rise / (count + 1)))
    return 1.0 - float(np.exp(log_mass).sum())


@pytest.mark.parametrize("over", [1.0, 1.2, 4.0, 40.0])
@pytest.mark.parametrize("mean", [0.2, 5.0, 60.0, 400.0])
def test_a_demand_exceeds_a_position_no_more_often_than_the_bound_says(
    mean: float, over: float
) -> None:
    deviation = math.sqrt(mean * over)
    for deviations in (0.3, 1.0, 2.0, 3.0):
        units = math.ceil(mean + deviations * deviation)
        exact, bound = exceeds(units, mean, over), _exceeds_at_most(units, mean, over)
        assert exact - 1e-12 <= bound < 1.0
        assert bound < 30 * exact or over == 40.0, "or it would seldom spare anything"


def test_nothing_exceeds_a_position_where_nothing_is_expected() -> None:
    assert _exceeds_at_most(3.0, 0.0, 1.0) == 0.0


def test_nothing_is_ordered_for_a_thin_margin_that_a_near_miss_cannot_earn() -> None:
    """A unit more sells one time in ten here, and would have to four times; only Cantelli's bound
    says so.
    """
    needed = 50.918 / (78.997 + 50.918)
    over = 1.0 + 11_728.064 / 102_427.31
    assert _exceeds_at_most(11_872, 11_728.064, over) > needed
    of = [np.array([value]) for value in (
        11_872, 5_570.567, 11_728.064, 102_427.31, 156_286.69, 102_427.31, 0.0693, 78.997, 50.918,
        50.0,
    )]  # fmt: skip
    point, quantity = orders(*of, 0.0)
    assert quantity[0] == 0
    assert point[0] < 11_872
