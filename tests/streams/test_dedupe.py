"""Duplicates against a plain list, over generations."""

import random

import numpy as np
import pytest

from streams import dedupe
from streams.dedupe import Duplicates
from streams.windows import Verdict, WindowsConfig
from streams.windows_kernel import Fingerprints, copy_fingerprints
from tests.streams.oracle import Event, verdicts
from tests.streams.stage import T0, Stage


def config(horizon: int) -> WindowsConfig:
    return WindowsConfig(
        bucket_ms=10_000,
        allowed_lateness_ms=5_000,
        future_tolerance_ms=5_000,
        dedupe_horizon_records=horizon,
        idle_timeout_ms=5_000,
    )


def event(offset: int, event_id: int) -> Event:
    return Event(offset, T0, event_id, "a", T0)


def judged(log: list[Event], horizon: int) -> dict[int, Verdict]:
    """Verdicts on clicks; carts and orders hold one event each, so that time is known."""
    stage = Stage(config(horizon), [log, [event(0, 1)], [event(0, 1)]])
    stage.run()
    return stage.verdicts[0]


def test_an_id_is_known_in_its_generation_and_the_next_and_then_forgotten() -> None:
    #           generation 0      1           2                      3
    log = [event(0, 7), event(15, 8), event(19, 7), event(20, 8), event(21, 9), event(39, 8)]
    said = judged(log, 10)
    assert [said[one.offset].name for one in log] == [
        "APPLIED",
        "APPLIED",
        "DUPLICATE",
        "DUPLICATE",
        "APPLIED",
        "DUPLICATE",  # of offset 20, which was one itself
    ]
    assert judged([event(9, 7), event(20, 7)], 10)[20] == Verdict.APPLIED
    assert judged([event(9, 7), event(19, 7)], 10)[19] == Verdict.DUPLICATE


def test_a_jump_over_generations_forgets_all() -> None:
    said = judged([event(0, 7), event(1_000_000, 7), event(1_000_001, 7)], 10)
    assert list(said.values()) == [Verdict.APPLIED, Verdict.APPLIED, Verdict.DUPLICATE]


def test_duplicates_agree_with_the_oracle_over_many_generations() -> None:
    for seed in range(5):
        print("seed", seed)
        rng = random.Random(seed)
        horizon = rng.choice([5, 40, 300])
        offset, log = 0, []
        for _ in range(600):
            offset += rng.choice([1, 1, 1, 2])
            log.append(event(offset, rng.randrange(rng.choice([20, 3_000]))))
        said = judged(log, horizon)
        expected = verdicts(log, [], 5_000, horizon)
        assert {at: said[at].name.lower() for at in said} == expected


def test_tables_grow_with_what_they_hold_and_keep_all_of_it() -> None:
    rng = np.random.default_rng(2)
    duplicates = Duplicates(100_000)
    low, high = rng.integers(0, 2**64, (2, 90_000), np.uint64)
    low[0] = high[0] = 0  # the fingerprint that would look like an empty slot
    for begin in range(0, 90_000, 9_000):
        part = slice(begin, begin + 9_000)
        duplicates.remember(np.arange(begin, begin + 9_000), low[part], high[part])
    assert duplicates.entered[0] == 90_000
    assert len(duplicates.current) <= 150_001
    duplicates.remember(np.arange(90_000, 99_000), low[:9_000], high[:9_000])
    assert duplicates.entered[0] == 90_000, "all were known"
    assert len(Duplicates(100_000_000).current) == 4_096, "nothing is taken before it is needed"


@pytest.mark.parametrize("slice_size", [100, 16_384])
def test_tables_are_written_to_before_they_are_needed(
    slice_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(4)
    duplicates = Duplicates(1_000_000)
    grown = []

    def copied(table: Fingerprints, wider: Fingerprints) -> None:
        grown.append((len(table), len(wider), duplicates._readied))
        copy_fingerprints(table, wider)

    monkeypatch.setattr(dedupe, "copy_fingerprints", copied)
    for begin in range(0, 400_000, slice_size):
        low, high = rng.integers(0, 2**64, (2, slice_size), np.uint64)
        duplicates.remember(np.arange(begin, begin + slice_size), low, high)
    assert len(grown) == 4
    assert all(wider == readied for _, wider, readied in grown)
    assert len(duplicates.current) == 1_500_001


def test_the_memory_of_what_is_forgotten_is_used_again() -> None:
    duplicates = Duplicates(10_000)
    tables = []
    for begin in range(0, 40_000, 1_000):
        ids = np.arange(begin + 1, begin + 1_001, dtype=np.uint64)
        duplicates.remember(np.arange(begin, begin + 1_000), ids << np.uint64(32), ids)
        if begin % 10_000 == 9_000:
            tables.append(duplicates.current)
            assert duplicates.entered[0] == duplicates.current.any(axis=1).sum() == 10_000
    assert tables[2] is tables[0]
    assert tables[3] is tables[1]


def test_after_a_restore_the_previous_generation_is_read_again() -> None:
    assert Duplicates.first_offset(0, 10) == 0
    assert Duplicates.first_offset(19, 10) == 0
    assert Duplicates.first_offset(20, 10) == 10
    assert Duplicates.first_offset(35, 10) == 20
