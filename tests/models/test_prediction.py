"""Demand between the horizons."""

import numpy as np
import pytest

from models.negative_binomial import DISPERSION_MAX
from models.prediction import Prediction, at_horizon, dispersion_of

MINUTE_MS = 60_000


def _prediction(end_known: bool) -> Prediction:
    mean = np.array([[2.0, 10.0, 30.0, 90.0, 150.0 if end_known else 90.0]])
    minutes = [[1, 5, 15, 60, 100 if end_known else 60]]
    one = np.zeros(1, np.bool_)
    return Prediction(
        horizons_ms=np.array(minutes) * MINUTE_MS,
        mean=mean,
        dispersion=np.full((1, 5), 4.0),
        quantiles=np.zeros((1, 5, 5), np.int64),
        end_known=np.array([end_known]),
        fallback=one,
        cold=one,
        load_mean=np.zeros((1, 2, 3)),
        load_variance=np.zeros((1, 2, 3)),
    )


@pytest.mark.parametrize(
    ("minutes", "mean"), [(0, 0), (1, 2), (3, 6), (5, 10), (10, 20), (80, 120), (100, 150)]
)
def test_means_run_straight_between_horizons(minutes: int, mean: float) -> None:
    got, _ = at_horizon(_prediction(True), np.array([minutes * MINUTE_MS]))
    assert got[0] == pytest.approx(mean)


def test_at_a_horizon_the_dispersion_is_its_own() -> None:
    _, dispersion = at_horizon(_prediction(True), np.array([15 * MINUTE_MS]))
    assert dispersion[0] == pytest.approx(4.0)


def test_mean_and_spread_rise_with_the_time_asked() -> None:
    made = _prediction(False)
    asked = [at_horizon(made, np.array([m * MINUTE_MS])) for m in range(1, 180)]
    mean = np.array([one[0][0] for one in asked])
    variance = mean + mean**2 / np.array([one[1][0] for one in asked])
    assert (np.diff(mean) > 0).all() and (np.diff(variance) >= -1e-9).all()


def test_nothing_is_sold_after_the_end_but_demand_goes_on_where_none_is_known() -> None:
    asked = np.array([200 * MINUTE_MS])
    assert at_horizon(_prediction(True), asked)[0][0] == 150
    assert at_horizon(_prediction(False), asked)[0][0] == pytest.approx(300)


def test_dispersion_of_mean_and_variance_is_the_inverse() -> None:
    mean, r = np.array([0.5, 10, 400]), np.array([0.3, 4, 50])
    np.testing.assert_allclose(dispersion_of(mean, mean + mean**2 / r), r)
    assert dispersion_of(np.array([5.0]), np.array([4.0]))[0] == DISPERSION_MAX
