"""A whole training run in small: weights, card and page come out and agree."""

from pathlib import Path

import numpy as np

from models.baselines import fitted_dispersion, from_past
from models.fit import Exam, Lesson, beaten_by, fit
from models.forecaster import Forecaster
from models.series_sums import SeriesSums
from models.train import TrainConfig
from tests.models.sales import sale


def test_a_run_writes_weights_that_load_a_card_that_says_how_good_and_a_page(
    tmp_path: Path,
) -> None:
    path = tmp_path / "new.safetensors"
    series = sale(1, skus=8, buckets=120)
    stages: set[str] = set()
    card = fit(
        [Lesson(series, 120), Lesson(series, 120, told=False)],
        [Exam("own sale", sale(2, skus=8, buckets=120))],
        [Exam("other sale", sale(3, skus=8, buckets=120))],
        TrainConfig(seed=1, steps=4, crops=4, crop_steps=48, samples=64),
        path,
        lambda what, _done, _all: stages.add(what),
    )
    assert stages == {
        "reading lessons", "training", "calibrating: own sale", "examining: other sale",
    }  # fmt: skip
    forecaster = Forecaster.load(path, "cpu")
    assert forecaster.version == card.version
    scores = card.metrics["other sale"]["scores"]
    assert set(scores) == {"1min", "5min", "15min", "end", "load 1min", "load 5min"}
    assert set(scores["5min"]) >= {"flashcast", "naive", "mean_rate", "ewma_30", "tsb"}
    page = path.with_suffix(".md").read_text()
    assert card.sha256 in page and "| 5min | **flashcast** |" in page


def test_where_a_plain_method_wins_is_said() -> None:
    scores = {
        "5min": {
            "flashcast": {"wape": 0.5, "pinball": 2.0},
            "tsb": {"wape": 0.6, "pinball": 1.9},
            "naive": {"wape": 0.4, "pinball": 3.0},
        }
    }
    assert beaten_by(scores) == ["5min wape naive", "5min pinball tsb"]


def test_plain_forecasts_from_the_past_by_hand() -> None:
    series = sale(4, skus=3, buckets=60)
    sums = SeriesSums(series)
    units = np.zeros((3, 60))
    units[series.sku, series.bucket] = series.units
    sku, first, length = np.array([0, 1, 2]), np.array([30, 30, 5]), np.array([6, 20, 12])
    made = from_past(sums, sku, first, length, np.zeros(3, np.int64), day_buckets=25)
    assert made["naive"][0] == units[0, 24:30].sum()
    assert made["naive"][2] == units[2, :5].sum() / 5 * 12  # no more past than that
    np.testing.assert_allclose(made["mean_rate"][1], units[1, :30].mean() * 20)
    assert made["yesterday"][0] == units[0, 5:11].sum()
    assert made["yesterday"][2] == made["naive"][2]  # no day before


def test_the_dispersion_fitted_to_errors_is_found_again() -> None:
    random = np.random.default_rng(5)
    mean = random.gamma(2.0, 20.0, 40_000)
    sold = random.poisson(random.gamma(4.0, mean / 4.0))
    assert abs(fitted_dispersion(sold, mean) - 4.0) < 0.3
