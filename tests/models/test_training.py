"""A short training learns; what it sees is what is served; backtests judge fairly."""

import numpy as np
import pytest
import torch

from models.backtest import backtest
from models.calibration import nominal
from models.forecaster import Forecaster
from models.memory import ForecastMemory
from models.playback import play
from models.train import TrainConfig, train
from models.training_set import TrainingSet, build
from tests.models.sales import sale


@pytest.fixture(scope="module")
def learned() -> tuple[Forecaster, list[float]]:
    sets = [build(sale(seed), seed=seed, origin_buckets=6, truth=True) for seed in (1, 2, 3, 4)]
    losses: list[float] = []
    config = TrainConfig(seed=1, steps=60, crops=12, crop_steps=96, samples=600)
    network, trained = train(sets, config, lambda progress: losses.append(progress.loss))
    assert trained["seed"] == 1 and trained["samples_available"] > 0
    return Forecaster(network, nominal(), "test"), losses


def test_training_lowers_the_loss(learned: tuple[Forecaster, list[float]]) -> None:
    _, losses = learned
    assert losses[-1] < 0.95 * losses[0]


def test_even_a_short_training_beats_the_plain_forecasts_to_the_end(
    learned: tuple[Forecaster, list[float]],
) -> None:
    report = backtest(sale(99, skus=40), learned[0], origin_buckets=6)
    ours = report.scores["end"]["flashcast"]
    for name, plain in report.scores["end"].items():
        assert name == "flashcast" or ours["pinball"] < plain["pinball"]
    assert report.scores["5min"]["naive"]["rmsse"] == pytest.approx(1)


def test_training_sees_what_serving_computes() -> None:
    series = sale(5)
    made: TrainingSet = build(series, seed=1, origin_buckets=6)
    torch.manual_seed(0)
    network, _ = train([made], TrainConfig(seed=1, steps=1, crops=2, crop_steps=32, samples=32))
    forecaster = Forecaster(network, nominal(), "test")
    memory = ForecastMemory(forecaster, series.skus)
    for played in play(series):
        if played.inputs is not None:
            forecaster.step([(memory, played.rows, played.inputs)])
    for sku in range(series.skus):
        track = made.features[made.track_begin[sku] : made.track_begin[sku + 1]]
        with torch.inference_mode():
            hidden = network(torch.from_numpy(track)[None])[0, -1].numpy()
        np.testing.assert_allclose(memory.gather(np.array([sku]))["hidden"][0], hidden, atol=1e-5)


def test_the_same_seed_trains_the_same_network() -> None:
    sets = [build(sale(6), seed=1, origin_buckets=6)]
    config = TrainConfig(seed=3, steps=3, crops=4, crop_steps=32, samples=64)
    a, b = (train(sets, config)[0].state_dict() for _ in range(2))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_outcomes_with_an_empty_shelf_are_bounds_and_wholly_empty_ones_are_not_asked() -> None:
    columns = build(sale(7, stock=150), seed=1, origin_buckets=6).columns
    assert columns["censored"].any() and not columns["censored"].all()
    assert not (columns["asked"] & (columns["units"] == 0) & columns["censored"])[:, 0].all()
    told = build(sale(7, stock=150), seed=1, origin_buckets=6, truth=True).columns
    assert not told["censored"].any()
    assert told["units"].sum() > columns["units"].sum()
