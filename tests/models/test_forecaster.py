"""The forecaster at its seams: batches, fallbacks, ends of sales."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from models.calibration import nominal
from models.cuda_runner import CudaRunner
from models.forecaster import Forecaster
from models.gru import Network, NetworkConfig
from models.host_runner import HostRunner
from models.memory import ForecastMemory
from models.row_state import HORIZONS_MS
from tests.models.sales import BUCKET_MS, START_MS, bucket_inputs

MINUTE_MS = 60_000


def _forecaster(seed: int = 1) -> Forecaster:
    print("seed", seed)
    torch.manual_seed(seed)
    return Forecaster(Network(NetworkConfig()), nominal(), "test")


def _run(forecaster: Forecaster, n: int = 20, buckets: int = 12) -> ForecastMemory:
    random = np.random.default_rng(2)
    memory = ForecastMemory(forecaster, n)
    for bucket in range(buckets):
        forecaster.step([(memory, np.arange(n), bucket_inputs(random, n, bucket))])
    return memory


def _origin(buckets: int = 12) -> int:
    return START_MS + buckets * BUCKET_MS


def _left(n: int, left_ms: int = 7_080_000) -> np.ndarray:
    return np.full(n, left_ms)


def test_a_forecast_is_monotone_finite_and_of_the_promised_shapes() -> None:
    forecaster = _forecaster()
    memory = _run(forecaster)
    made = forecaster.predict([(memory, np.arange(20), _origin(), _left(20))])[0]
    assert made.horizons_ms.tolist()[0] == [*HORIZONS_MS, 7_080_000]
    for array in (made.mean, made.dispersion, made.load_mean, made.load_variance):
        assert np.isfinite(array).all() and (array > 0).all()
    assert (np.diff(made.mean, axis=1) >= 0).all()
    assert (np.diff(made.quantiles, axis=1) >= 0).all()
    assert (np.diff(made.quantiles, axis=2) >= 0).all()
    assert made.quantiles.dtype == np.int64 and made.load_mean.shape == (20, 2, 3)
    assert not made.fallback.any()


def test_one_call_over_partitions_equals_a_call_for_each() -> None:
    forecaster = _forecaster()
    random = np.random.default_rng(3)
    inputs = [bucket_inputs(random, n) for n in (7, 1, 40)]
    rows = [random.permutation(50)[:n] for n in (7, 1, 40)]
    together = [ForecastMemory(forecaster, 50) for _ in inputs]
    apart = [ForecastMemory(forecaster, 50) for _ in inputs]
    forecaster.step(list(zip(together, rows, inputs, strict=True)))
    for memory, at, one in zip(apart, rows, inputs, strict=True):
        forecaster.step([(memory, at, one)])
    for a, b, at in zip(together, apart, rows, strict=True):
        np.testing.assert_allclose(a.gather(at)["hidden"], b.gather(at)["hidden"], atol=1e-6)


def test_more_rows_than_a_chunk_are_stepped_alike() -> None:
    forecaster = _forecaster()
    inputs = bucket_inputs(np.random.default_rng(4), 100)
    whole, cut = ForecastMemory(forecaster, 100), ForecastMemory(forecaster, 100)
    forecaster.step([(whole, np.arange(100), inputs)])
    forecaster.runner = HostRunner(forecaster.network, chunk_rows=33)
    forecaster.step([(cut, np.arange(100), inputs)])
    np.testing.assert_allclose(whole.hidden.numpy(), cut.hidden.numpy(), atol=1e-6)


def test_padded_batches_of_fixed_size_are_stepped_alike() -> None:
    forecaster = _forecaster()
    inputs = bucket_inputs(np.random.default_rng(4), 300)
    plain, padded = ForecastMemory(forecaster, 300), ForecastMemory(forecaster, 300)
    forecaster.step([(plain, np.arange(300), inputs)])
    forecaster.runner = CudaRunner(forecaster.network, forecaster.device, sizes=(16, 64))
    forecaster.step([(padded, np.arange(300), inputs)])
    np.testing.assert_allclose(plain.hidden.numpy(), padded.hidden.numpy(), atol=1e-6)


def test_a_cold_sku_gets_the_plain_forecast_marked_as_such() -> None:
    forecaster = _forecaster()
    memory = _run(forecaster, n=20)
    memory.grow(22)
    rows = np.array([0, 20, 21])
    forecaster.step([(memory, np.array([20]), bucket_inputs(np.random.default_rng(5), 1, 12))])
    made = forecaster.predict([(memory, rows, _origin(13), _left(3))])[0]
    assert made.fallback.tolist() == [False, True, True]
    assert made.cold.tolist() == [False, True, True]
    level = memory.sale.per_sku()[2, 3] * 6  # never seen: the sale's level, six buckets
    assert made.mean[2, 0] == pytest.approx(level)


def test_answers_that_are_not_numbers_fall_back_and_are_counted() -> None:
    forecaster = _forecaster()
    memory = _run(forecaster)
    torch.nn.init.constant_(forecaster.network.demand.out.bias, float("nan"))
    made = forecaster.predict([(memory, np.arange(20), _origin(), _left(20))])[0]
    assert made.fallback.all() and not made.cold.any()
    assert np.isfinite(made.mean).all() and (made.mean > 0).all()
    assert forecaster.failures == 20


def test_a_state_that_is_not_a_number_harms_its_row_alone_and_heals() -> None:
    forecaster = _forecaster()
    memory = _run(forecaster)
    memory.hidden[3] = float("nan")
    random = np.random.default_rng(6)
    forecaster.step([(memory, np.arange(20), bucket_inputs(random, 20, 12))])
    made = forecaster.predict([(memory, np.arange(20), _origin(13), _left(20))])[0]
    assert np.flatnonzero(made.fallback).tolist() == [3]
    assert torch.isfinite(memory.hidden).all()
    forecaster.step([(memory, np.arange(20), bucket_inputs(random, 20, 13))])
    made = forecaster.predict([(memory, np.arange(20), _origin(14), _left(20))])[0]
    assert not made.fallback.any()


def test_a_model_that_raises_leaves_the_plain_forecast() -> None:
    forecaster = _forecaster()
    memory = _run(forecaster)
    forecaster.runner.cell.input_weight = torch.zeros(3, 3)  # the shapes of another network
    forecaster.network.demand.out = torch.nn.Linear(3, 3)
    random = np.random.default_rng(7)
    forecaster.step([(memory, np.arange(20), bucket_inputs(random, 20, 12))])
    made = forecaster.predict([(memory, np.arange(20), _origin(13), _left(20))])[0]
    assert made.fallback.all() and np.isfinite(made.mean).all()
    assert forecaster.failures == 40


def test_clicks_alone_in_the_opening_are_demand_to_come() -> None:
    forecaster = _forecaster()
    memory = ForecastMemory(forecaster, 20)
    random = np.random.default_rng(9)
    nothing = np.zeros(20)
    for bucket in range(6):
        inputs = bucket_inputs(random, 20, bucket, orders=nothing, units=nothing)
        forecaster.step([(memory, np.arange(20), inputs)])
    made = forecaster.predict([(memory, np.arange(20), _origin(6), _left(20))])[0]
    assert (made.mean[:, 0] > 0.1).all()


def test_horizons_are_cut_to_the_end_of_the_sale() -> None:
    forecaster = _forecaster()
    memory = _run(forecaster)
    left = np.array([10 * MINUTE_MS, 0, -1, 3 * 60 * MINUTE_MS] * 5)
    made = forecaster.predict([(memory, np.arange(20), _origin(), left)])[0]
    minutes = made.horizons_ms[:4] // MINUTE_MS
    assert minutes.tolist() == [
        [1, 5, 10, 10, 10],
        [0, 0, 0, 0, 0],
        [1, 5, 15, 60, 60],
        [1, 5, 15, 60, 180],
    ]
    assert made.mean[1].max() == 0 and made.quantiles[1].max() == 0
    assert made.mean[0, 2] == made.mean[0, 4]
    assert made.end_known[:4].tolist() == [True, True, False, True]


def test_an_idle_sku_is_forecast_lower_the_longer_it_is_idle() -> None:
    forecaster = _forecaster()  # untrained: the mean of the plain forecasts
    memory = _run(forecaster)
    means = [
        forecaster.predict([(memory, np.arange(20), _origin(12 + idle), _left(20, -1))])[0].mean
        for idle in (0, 6, 60, 600)
    ]
    for sooner, later in pairwise(means):
        assert (later < sooner).all()


def test_buckets_out_of_stock_throughout_do_not_lower_the_forecast() -> None:
    forecaster = _forecaster()
    stocked, emptied = _run(forecaster), _run(forecaster)
    random = np.random.default_rng(8)
    for bucket in range(12, 30):
        inputs = bucket_inputs(random, 20, bucket)
        forecaster.step([(stocked, np.arange(20), inputs)])
        inputs.units = inputs.orders = np.zeros(20)
        inputs.in_stock_share = np.zeros(20)
        forecaster.step([(emptied, np.arange(20), inputs)])
    made = [
        forecaster.predict([(memory, np.arange(20), _origin(30), _left(20))])[0].mean.sum()
        for memory in (stocked, emptied)
    ]
    assert made[1] > 0.7 * made[0]  # untrained: the sale level, one of seven parts, does fall


def test_no_rows_is_no_work() -> None:
    forecaster = _forecaster()
    memory = ForecastMemory(forecaster, 4)
    none = np.zeros(0, np.int64)
    forecaster.step([(memory, none, bucket_inputs(np.random.default_rng(1), 0))])
    assert forecaster.predict([(memory, none, _origin(), none)])[0].mean.shape == (0, 5)
    forecaster.step([])
    assert forecaster.predict([]) == []
