"""Intervals become honest whatever the model says."""

import numpy as np
import pytest

from models.calibration import Calibrator, nominal
from models.negative_binomial import nb_quantile_at
from models.prediction import QUANTILES

ROUNDS, SKUS = 400, 50


def _coverage(calibrator: Calibrator, truth: float, claimed: float, spread: float) -> list[float]:
    """Share of outcomes below each quantile, over the second half of a long run."""
    random = np.random.default_rng(9)
    mean, r = np.full(SKUS, claimed), np.full(SKUS, 1_000.0)
    horizon = np.zeros(SKUS, np.int64)
    below = np.zeros(len(QUANTILES))
    for turn in range(ROUNDS):
        p = spread / (spread + truth)
        sold = random.negative_binomial(spread, p, SKUS)
        right, dispersion, scores = calibrator.at(
            *(np.repeat(a[:, None], 5, axis=1) for a in (mean, r))
        )
        quantiles = nb_quantile_at(right[:, 0], dispersion[:, 0], scores[:, 0])
        if turn >= ROUNDS // 2:
            # ties count as far as the level reaches into the step: use the middle of both
            below += ((sold[:, None] < quantiles) * 0.5 + (sold[:, None] <= quantiles) * 0.5).mean(
                0
            )
        calibrator.update(horizon, mean, r, sold)
    return (below / (ROUNDS // 2)).tolist()


@pytest.mark.parametrize(
    ("truth", "claimed", "spread"), [(60, 60, 3.0), (60, 45, 8.0), (8, 12, 2.0)]
)
def test_a_model_too_sure_of_itself_is_put_right(
    truth: float, claimed: float, spread: float
) -> None:
    found = _coverage(Calibrator(nominal()), truth, claimed, spread)
    assert found == pytest.approx(QUANTILES, abs=0.05)


def test_a_mean_that_is_always_too_low_is_raised_in_its_own_group_alone() -> None:
    calibrator = Calibrator(nominal())
    _coverage(calibrator, truth=60, claimed=45, spread=8.0)
    ratio = calibrator.ratio()
    assert ratio[2, 0] == pytest.approx(60 / 45, rel=0.05)
    ratio[2, 0] = 1
    assert (ratio == 1).all()


def test_an_honest_model_is_left_alone() -> None:
    calibrator = Calibrator(nominal())
    found = _coverage(calibrator, 60, 60, 1_000.0)
    assert found == pytest.approx(QUANTILES, abs=0.05)
    assert np.abs(calibrator.levels - nominal()[..., 3:]).max() < 0.05


def test_levels_stay_ordered_and_survive_a_snapshot() -> None:
    calibrator = Calibrator(nominal())
    _coverage(calibrator, 5, 50, 2.0)
    assert (np.diff(calibrator.levels, axis=2) >= 0).all()
    other = Calibrator(nominal())
    other.restore(calibrator.meta())
    np.testing.assert_array_equal(other.state, calibrator.state)
    np.testing.assert_array_equal(other.seen, calibrator.seen)
