"""Every active SKU is forecast once an interval, at its own moment, and the loads add up."""

import zlib

import numpy as np
import pytest

from models.forecaster import Forecaster
from models.memory import ForecastMemory
from models.prediction import Prediction
from streams.codec.columns import NameArrays
from streams.origins import Origin, Origins
from streams.partition_load import PartitionLoad

BUCKET_MS, INTERVAL_MS, SKUS = 10_000, 60_000, 50
START_MS = 1_700_000_040_000
SKU_NAMES = [f"SKU-{number}".encode() for number in range(SKUS)]
NAMES = NameArrays.of(SKU_NAMES)
ALL = np.arange(SKUS)


def origins(interval_ms: int = INTERVAL_MS) -> Origins:
    made = Origins(BUCKET_MS, interval_ms)
    made.grow(SKUS)
    return made


def drained(several: Origins, through_ms: int) -> list[Origin]:
    found = []
    while (origin := several.due(through_ms, NAMES)) is not None:
        found.append(origin)
    return found


def test_each_sku_has_its_own_moment_of_the_interval() -> None:
    several = origins()
    moments: dict[int, list[int]] = {row: [] for row in range(SKUS)}
    for bucket in range(30):
        end_ms = START_MS + (bucket + 1) * BUCKET_MS
        several.note(ALL, end_ms)
        for origin in drained(several, end_ms):
            assert origin.at_ms == end_ms
            for row in origin.rows.tolist():
                moments[row].append(end_ms)
    for row, at_ms in moments.items():
        assert len(at_ms) == 5
        assert set(np.diff(at_ms)) == {INTERVAL_MS}
        assert at_ms[0] // BUCKET_MS % 6 == zlib.crc32(SKU_NAMES[row]) % 6


def test_whoever_was_active_once_is_forecast_once_however_silent_it_then_is() -> None:
    several = origins()
    several.note(ALL[::2], START_MS)
    found = drained(several, START_MS + 10**9)
    assert [origin.at_ms for origin in found] == [START_MS + n * BUCKET_MS for n in range(6)]
    assert sorted(np.concatenate([origin.rows for origin in found])) == ALL[::2].tolist()
    assert drained(several, START_MS + 10**9) == []
    assert not several.awaited(ALL).any()


def test_one_slot_is_all_at_every_bucket() -> None:
    several = origins(interval_ms=BUCKET_MS)
    several.note(ALL, START_MS)
    (origin,) = drained(several, START_MS)
    assert origin.rows.tolist() == ALL.tolist()


def test_a_restart_goes_on_in_the_middle_of_an_interval() -> None:
    whole, broken = origins(), origins()
    for one in (whole, broken):
        one.note(ALL, START_MS)
        drained(one, START_MS + 2 * BUCKET_MS)
    restored = origins()
    restored.scatter(ALL, broken.gather(ALL))
    restored.restore_meta(broken.meta())
    expected, found = (drained(one, START_MS + 10**6) for one in (whole, restored))
    assert [origin.at_ms for origin in found] == [origin.at_ms for origin in expected]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.rows, other.rows)


def test_a_row_that_another_sku_moves_into_has_the_moment_of_that() -> None:
    several = origins()
    several.note(ALL, START_MS)
    drained(several, START_MS + 10**6)
    several.reset(ALL)
    moved = NameArrays.of(SKU_NAMES[::-1])
    several.note(ALL, START_MS)
    origin = several.due(START_MS, moved)
    assert origin is not None
    slot = START_MS // BUCKET_MS % 6
    assert [zlib.crc32(SKU_NAMES[SKUS - 1 - row]) % 6 for row in origin.rows] == (
        [slot] * len(origin.rows)
    )
    assert len(origin.rows)


def test_an_end_that_no_snapshot_can_have_said_is_cut() -> None:
    several = origins()
    several.restore_meta({"next_ms": START_MS, "last_ms": 10**15})
    assert len(drained(several, START_MS + 10**12)) == 6


# -- the loads


@pytest.fixture(scope="module")
def memory() -> ForecastMemory:
    return ForecastMemory(Forecaster.load(None, "cpu"), SKUS)


def prediction(rate: float, n: int) -> Prediction:
    none = np.zeros(n, np.bool_)
    return Prediction(
        horizons_ms=np.zeros((n, 5), np.int64),
        mean=np.zeros((n, 5)),
        dispersion=np.ones((n, 5)),
        quantiles=np.zeros((n, 5, 5), np.int64),
        end_known=none,
        fallback=none,
        cold=none,
        load_mean=np.full((n, 2, 3), rate),
        load_variance=np.full((n, 2, 3), 2 * rate),
    )


def at(slot: int) -> Origin:
    return Origin(START_MS + slot * BUCKET_MS, slot, np.zeros(0, np.int64))


def test_a_load_is_told_once_every_slot_has_been_forecast(memory: ForecastMemory) -> None:
    load = PartitionLoad(3, memory)
    load.put(at(1), prediction(5.0, 4))
    load.put(at(2), None)
    assert load.told() is None
    load.put(at(0), prediction(1.0, 2))
    told = load.told()
    assert told is not None
    np.testing.assert_allclose(told[0], np.full((2, 3), 22.0))
    shared = memory.common.squared * 22.0**2  # what the SKUs err together
    np.testing.assert_allclose(told[1], 44.0 + shared)
    load.put(at(1), None)
    np.testing.assert_allclose(load.told()[0], np.full((2, 3), 2.0))


def test_the_sum_is_judged_once_an_interval(memory: ForecastMemory) -> None:
    memory.common.open.clear()
    load = PartitionLoad(2, memory)
    for _ in range(3):
        load.put(at(1), prediction(1.0, 1))
        load.put(at(0), prediction(1.0, 1))
    assert len(memory.common.open) == 2 * 3  # two leads each


def test_a_load_survives_a_restart_and_begins_anew_with_other_slots(
    memory: ForecastMemory,
) -> None:
    load = PartitionLoad(2, memory)
    load.put(at(0), prediction(1.0, 1))
    load.put(at(1), prediction(2.0, 1))
    same, other = PartitionLoad(2, memory), PartitionLoad(3, memory)
    for one in (same, other):
        one.restore_meta(load.meta())
    assert same.told() == load.told()
    assert other.told() is None
