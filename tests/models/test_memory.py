"""What the forecaster remembers: closed forms, moving rows about, forgetting."""

import numpy as np
import torch

from models import levels
from models.calibration import nominal
from models.forecaster import Forecaster
from models.gru import Network, NetworkConfig
from models.memory import ForecastMemory
from tests.models.sales import BUCKET_MS, START_MS, bucket_inputs


def _forecaster() -> Forecaster:
    torch.manual_seed(1)
    return Forecaster(Network(NetworkConfig()), nominal(), "test")


def _lived(rows: np.ndarray, seed: int = 2, capacity: int = 32) -> ForecastMemory:
    print("seed", seed)
    random = np.random.default_rng(seed)
    forecaster = _forecaster()
    memory = ForecastMemory(forecaster, capacity)
    for bucket in range(30):
        active = rows[random.random(len(rows)) < 0.7]
        forecaster.step([(memory, active, bucket_inputs(random, len(active), bucket))])
    left = np.full(len(rows), 690 * BUCKET_MS)
    forecaster.predict([(memory, rows, START_MS + 30 * BUCKET_MS, left)])
    return memory


def _observed(memory: ForecastMemory, buckets: list[int], share: float = 1.0) -> None:
    for bucket in buckets:
        inputs = bucket_inputs(np.random.default_rng(3), 1, bucket)
        inputs.in_stock_share = np.full(1, share)
        inputs.units = inputs.orders = np.full(1, 3.0 if share else 0.0)
        memory.observe(np.zeros(1, np.int64), inputs)


def test_idle_buckets_decay_in_closed_form() -> None:
    memory = ForecastMemory(_forecaster(), 1)
    _observed(memory, [0, 17])
    seen = (np.arange(18) == 0) | (np.arange(18) == 17)
    for k, decay in enumerate(levels.DECAYS):
        weights = decay ** np.arange(17, -1, -1)
        np.testing.assert_allclose(memory.exposure[0, k], weights.sum(), rtol=1e-5)
        counts = bucket_inputs(np.random.default_rng(3), 1).clicks[0]
        np.testing.assert_allclose(
            memory.level_sums[0, k, levels.CLICKS], counts * weights[seen].sum(), rtol=1e-5
        )


def test_asking_later_decays_like_watching_idle_buckets() -> None:
    memory = ForecastMemory(_forecaster(), 1)
    _observed(memory, [0, 1, 2])
    row, left = np.zeros(1, np.int64), np.full(1, -1)
    sooner, later = (memory.ask(row, START_MS + bucket * BUCKET_MS, left) for bucket in (3, 3 + 30))
    middle = levels.MIDDLE
    # 30 buckets are one middle half-life: sums halve, exposure goes half the way to its limit
    exposure = memory.exposure[0, middle, 1] / 2 + 0.5 / (1 - levels.DECAYS[middle])
    units = memory.level_sums[0, middle, levels.UNITS] / 2
    prior = memory.sale.per_sku()[levels.SLOW, levels.UNITS]
    np.testing.assert_allclose(
        later.components[0, middle], (units + 0.5 * prior) / (exposure + 0.5), rtol=1e-4
    )
    assert later.components[0, middle] < sooner.components[0, middle]


def test_a_row_is_asked_alike_alone_and_among_rows_of_its_own_and_of_other_sales() -> None:
    rows = np.arange(12)
    memory = _lived(rows)
    memory.sale_ms[6:] = 3_600_000
    left = np.array([-1, -1, 60_000, 60_000, 0, 0] * 2)
    origin = START_MS + 31 * BUCKET_MS
    together = memory.ask(rows, origin, left)
    for row in rows:
        alone = memory.ask(rows[row : row + 1], origin, left[row : row + 1])
        for name, column in alone._asdict().items():
            np.testing.assert_array_equal(column[0], getattr(together, name)[row], err_msg=name)


def test_out_of_stock_buckets_lower_no_demand_level() -> None:
    memory = ForecastMemory(_forecaster(), 1)
    _observed(memory, list(range(20)))
    before = memory.level_sums[0, :, levels.UNITS] / memory.exposure[0, :, levels.IN_STOCK]
    _observed(memory, list(range(20, 40)), share=0.0)
    after = memory.level_sums[0, :, levels.UNITS] / memory.exposure[0, :, levels.IN_STOCK]
    np.testing.assert_allclose(after, before, rtol=1e-3)


def test_gathered_rows_scattered_elsewhere_go_on_alike() -> None:
    rows = np.arange(10)
    memory = _lived(rows)
    forecaster = _forecaster()
    other = ForecastMemory(forecaster, 16)
    moved = rows + 5
    other.scatter(moved, memory.gather(rows))
    other.restore_meta(memory.meta())
    random = np.random.default_rng(4)
    inputs = bucket_inputs(random, 10, 31)
    forecaster.step([(memory, rows, inputs)])
    forecaster.step([(other, moved, inputs)])
    for name, column in memory.gather(rows).items():
        np.testing.assert_array_equal(column, other.gather(moved)[name], err_msg=name)
    left = np.full(10, 680 * BUCKET_MS)
    origin = START_MS + 32 * BUCKET_MS
    a, b = (
        forecaster.predict([(m, r, origin, left)])[0] for m, r in ((memory, rows), (other, moved))
    )
    np.testing.assert_array_equal(a.mean, b.mean)
    np.testing.assert_array_equal(a.quantiles, b.quantiles)


def test_another_models_hidden_states_start_anew_while_levels_stay() -> None:
    rows = np.arange(10)
    memory = _lived(rows)
    for rows_first in (True, False):
        newer = _forecaster()
        newer.version = "newer"
        other = ForecastMemory(newer, 10)
        steps = [
            lambda to=other: to.scatter(rows, memory.gather(rows)),
            lambda to=other: to.restore_meta(memory.meta()),
        ]
        for step in steps if rows_first else reversed(steps):
            step()
        assert not other.hidden.any()
        np.testing.assert_array_equal(other.level_sums, memory.level_sums[rows])


def test_growing_keeps_rows_and_adds_empty_ones() -> None:
    memory = _lived(np.arange(10), capacity=10)
    before = memory.gather(np.arange(10))
    memory.grow(50)
    for name, column in memory.gather(np.arange(10)).items():
        np.testing.assert_array_equal(column, before[name])
    fresh = ForecastMemory(_forecaster(), 40).gather(np.arange(40))
    for name, column in memory.gather(np.arange(10, 50)).items():
        np.testing.assert_array_equal(column, fresh[name])


def test_a_reset_row_is_a_new_row() -> None:
    memory = _lived(np.arange(10))
    memory.reset(np.array([3]))
    fresh = ForecastMemory(_forecaster(), 1).gather(np.array([0]))
    for name, column in memory.gather(np.array([3])).items():
        np.testing.assert_array_equal(column, fresh[name])
    assert memory.sale.skus == 9


def test_a_row_is_small() -> None:
    state = ForecastMemory(_forecaster(), 1).gather(np.array([0]))
    assert sum(column.nbytes for column in state.values()) <= 420


def test_an_open_forecast_is_judged_when_its_time_is_over_or_dropped_when_the_shelf_empties() -> (
    None
):
    rows = np.arange(4)
    memory = _lived(rows)
    assert (memory.due_ms[rows, 0] == START_MS + 36 * BUCKET_MS).all()
    random = np.random.default_rng(6)
    inputs = bucket_inputs(random, 4, 31, in_stock_share=np.array([1, 1, 1, 0.5]))
    memory.observe(rows, inputs)
    np.testing.assert_array_equal(memory.due_sold[rows[:3], 0], inputs.units[:3])
    assert memory.due_ms[3].max() == -1
    memory.judge(rows, START_MS + 36 * BUCKET_MS)
    assert memory.calibrator.seen[:, 0].sum() == 3
    assert (memory.due_ms[rows, 0] == -1).all()
