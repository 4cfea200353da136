"""The measures on numbers worked by hand."""

import math

import numpy as np
import pytest

from models import accuracy

Y, F = np.array([10.0, 0.0, 4.0, 6.0]), np.array([8.0, 1.0, 4.0, 9.0])


def test_measures_by_hand() -> None:
    assert accuracy.wape(Y, F) == pytest.approx(6 / 20)
    assert accuracy.bias(Y, F) == pytest.approx(2 / 20)
    assert accuracy.rmse(Y, F) == pytest.approx(math.sqrt(14 / 4))
    assert accuracy.rmsse(Y, F, F) == pytest.approx(1)
    assert accuracy.coverage(Y, F - 1, F + 1) == pytest.approx(2 / 4)


def test_pinball_is_not_doubled() -> None:
    assert accuracy.pinball(Y, F, 0.5) == pytest.approx(np.abs(Y - F).mean() / 2)
    assert accuracy.pinball(np.array([10.0]), np.array([8.0]), 0.9) == pytest.approx(1.8)
    assert accuracy.pinball(np.array([8.0]), np.array([10.0]), 0.9) == pytest.approx(0.2)


def test_nothing_sold_has_no_share_of_error() -> None:
    assert math.isnan(accuracy.wape(np.zeros(3), np.ones(3)))
