"""Windows, one rule at a time. What holds under all circumstances is in test_windows_exact.py."""

import dataclasses

import numpy as np
import pytest

from streams.errors import ConfigurationError, StateError
from streams.watermark import NEVER_MS, Cut
from streams.windows import Verdict, WindowsConfig
from streams.windows_kernel import REVENUE
from tests.streams.oracle import Event
from tests.streams.stage import T0, Stage

MONTH_MS = 30 * 86_400_000
CONFIG = WindowsConfig(
    bucket_ms=10_000,
    allowed_lateness_ms=5_000,
    future_tolerance_ms=5_000,
    dedupe_horizon_records=1_000,
    idle_timeout_ms=5_000,
    history=4,
)


def log(*times_ms: int, sku: str = "a", **fields: int) -> list[Event]:
    """Events at T0 + each time, with ids of their own."""
    return [
        Event(at, T0 + time_ms, at, sku, T0 + time_ms, **fields)
        for at, time_ms in enumerate(times_ms)
    ]


def run(clicks: list[Event], carts: list[Event], orders: list[Event]) -> Stage:
    stage = Stage(CONFIG, [clicks, carts, orders])
    stage.run()
    return stage


def rows_of(stage: Stage) -> np.ndarray:
    return np.arange(stage.skus.size)


def test_an_event_is_late_when_it_is_more_than_the_lateness_behind() -> None:
    stage = run(log(0, 20_000, 15_000, 14_999), log(0), log(0))
    assert [verdict.name for verdict in stage.verdicts[0].values()] == [
        "APPLIED",
        "APPLIED",
        "APPLIED",
        "LATE",
    ]
    assert stage.windows.counts[0].tolist() == [0, 3, 0, 0, 1]


def test_a_fast_client_clock_makes_nobody_else_late() -> None:
    fast = Event(1, T0, 1, "a", T0 + 5_000)
    after = Event(2, T0 + 1, 2, "a", T0 - 4_999)
    stage = run([*log(0), fast, after], log(0), log(0))
    assert stage.verdicts[0][2] == Verdict.APPLIED
    assert stage.windows.max_event_time_ms(0) == T0


def test_duplicates_and_late_events_move_the_clock_too() -> None:
    repeated = Event(1, T0 + 60_000, 0, "a", T0 + 60_000)
    stage = run([*log(0), repeated, Event(2, T0, 2, "a", T0)], log(0), log(0))
    assert stage.verdicts[0] == {0: Verdict.APPLIED, 1: Verdict.DUPLICATE, 2: Verdict.LATE}


def test_refused_records_move_nothing() -> None:
    refused = Event(1, T0 + 60_000, 9, "a", T0 + 60_000, refused=True)
    stage = run([*log(0), refused, Event(2, T0, 9, "a", T0)], log(0), log(0))
    assert stage.verdicts[0] == {0: Verdict.APPLIED, 1: Verdict.REFUSED, 2: Verdict.APPLIED}


def test_nothing_closes_before_all_three_topics_have_passed() -> None:
    stage = run(log(0, 90_000), log(0, 90_000), log(0))
    assert stage.outputs == []
    assert not stage.exhausted(0), "clicks wait for orders"
    assert stage.windows.max_event_time_ms(0) == T0 + 90_000, "but their time is known"
    stage = run(log(0, 90_000), log(0, 90_000), log(0, 25_000))
    assert [start_ms for _, start_ms, _ in stage.outputs] == [T0]


def test_a_gap_of_a_month_in_all_topics_is_jumped_over_at_once() -> None:
    stage = Stage(CONFIG, [log(0, MONTH_MS, 2 * MONTH_MS) for _ in range(3)])
    closings = 0
    for _ in range(60):
        for kind in range(3):
            stage.step(kind, 50)
        closings += stage.close()
    assert closings == 2
    assert all(stage.exhausted(kind) for kind in range(3))
    assert stage.windows.closed_through_ms == (T0 + 2 * MONTH_MS - 5_000) // 10_000 * 10_000


def test_a_bucket_holds_sums_and_the_mean_price_rounded_half_up() -> None:
    clicks = [Event(0, T0, 0, "a", T0, price_cents=100), Event(1, T0, 1, "b", T0)]
    carts = [Event(0, T0, 0, "a", T0 + 1, price_cents=101, quantity=7)]
    orders = [
        Event(0, T0, 0, "a", T0 + 2, price_cents=100, quantity=3),
        Event(1, T0, 1, "a", T0 + 3, price_cents=101, quantity=2),
    ]
    late = 100_000
    end = [Event(9, T0 + late, 9, "z", T0 + late)]
    stage = run(clicks + end, carts + end, orders + end)
    assert stage.outputs == [
        ("a", T0, (1, 1, 2, 5, 502, 101)),
        ("b", T0, (1, 0, 0, 0, 0, 100)),
    ]


def test_revenue_beyond_64_bits_stays_at_the_top() -> None:
    stage = Stage(CONFIG, [log(0, 90_000), log(0, 90_000), log(0, 1, 2, 90_000)])
    for kind in range(3):
        stage.step(kind, 1)
    cells = stage.windows._rows.arrays.cells
    assert cells[0].sum(axis=0)[REVENUE] == 100
    cells[:, :, REVENUE][cells[:, :, REVENUE] > 0] = 2**63 - 150
    stage.run()
    assert stage.outputs[0][2][4] == 2**63 - 1


def test_a_cut_counts_from_the_middle_of_a_slice() -> None:
    stage = Stage(CONFIG, [log(0, 1, 2, 3, 40_000), log(0, 90_000), log(0, 90_000)])
    stage.windows.add_cuts([Cut(position=2, through_ms=T0 + 3, kind=0)])
    stage.run()
    said = stage.verdicts[0]
    assert [said[at].name for at in range(4)] == ["APPLIED", "APPLIED", "LATE", "APPLIED"]


def test_silent_topics_let_the_last_buckets_close() -> None:
    stage = run(log(0, 12_000), log(3_000), [])
    assert stage.outputs == []
    cuts = []
    for second in range(40):
        for kind in range(3):
            if stage.exhausted(kind):
                stage.windows.empty(kind, stage.end_offset(kind), second * 1_000)
        cuts += stage.windows.idle_cuts(second * 1_000)
        stage.run()
    assert [start_ms - T0 for _, start_ms, _ in stage.outputs] == [0, 10_000]
    assert {cut.kind for cut in cuts} == {0, 1, 2}
    assert max(cut.through_ms for cut in cuts) == T0 + 20_000, "no further than need be"


def test_a_topic_with_a_waiting_record_is_not_idle() -> None:
    stage = run(log(0), log(0), log(0, 90_000))
    for second in range(60):
        stage.windows.empty(2, 2, second * 1_000)
        assert stage.windows.idle_cuts(second * 1_000) == []


@pytest.mark.parametrize("bucket_ms", [100, 1_000, 10_000, 3_600_000])
@pytest.mark.parametrize("span_ms", [0, 1, 99, 5_000, 10_000, 100_000])
def test_there_are_cells_enough_that_no_three_topics_wait_for_each_other(
    bucket_ms: int, span_ms: int
) -> None:
    config = WindowsConfig(bucket_ms, span_ms // 2, span_ms - span_ms // 2, 1_000, 5_000)
    # the slowest topic's record is at most span_ms ahead of its watermark, wherever that falls
    for watermark_ms in (T0, T0 + bucket_ms - 1):
        ahead = (watermark_ms + span_ms) // bucket_ms - watermark_ms // bucket_ms
        assert ahead < config.cells
    assert config.cells & (config.cells - 1) == 0


def test_lateness_of_too_many_buckets_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="FLASHCAST_ALLOWED_LATENESS_MS 600000"):
        WindowsConfig(100, 600_000, 5_000, 1_000, 5_000)


def test_a_row_that_came_after_the_last_event_can_be_asked_about() -> None:
    stage = run(log(0), log(0), log(0))
    rows = stage.skus.insert_all([b"n%d" % number for number in range(3_000)])
    assert stage.windows.units_between(rows, 0).sum() == 0
    assert stage.windows.open_units(rows).sum() == 0
    assert (stage.windows.gather(rows)["stamps"] == -1).all()
    stage.windows.dirty[rows] = True


def test_rows_are_dirty_when_counted_and_when_closed() -> None:
    stage = run(log(0), log(0), log(0))
    assert np.flatnonzero(stage.windows.dirty).tolist() == [0]
    stage.windows.dirty[:] = False
    stage.logs = [log(0, MONTH_MS, sku="b")[1:]] * 3
    stage._read = [0, 0, 0]
    assert all([stage.step(kind, 1) for kind in range(3)])  # noqa: C419 - each must step
    assert np.flatnonzero(stage.windows.dirty).tolist() == []
    assert stage.close()
    assert np.flatnonzero(stage.windows.dirty).tolist() == [0]


def test_units_are_known_of_open_and_of_closed_buckets() -> None:
    orders = [*log(0, 12_000, 31_000, quantity=3), Event(7, T0 + 31_000, 7, "b", T0 + 31_000)]
    stage = run(log(0, 31_000), log(0, 31_000), orders)
    rows = rows_of(stage)
    assert stage.windows.units_between(rows, T0).tolist() == [6, 0]
    assert stage.windows.units_between(rows, T0 + 5_001).tolist() == [3, 0]
    assert stage.windows.open_units(rows).tolist() == [3, 1]


def test_what_was_gathered_can_be_scattered_elsewhere() -> None:
    stage = run(log(0, 12_000, 13_000), log(0, 12_000), log(0, 12_000))
    other = Stage(CONFIG, stage.logs)
    rows = other.skus.insert_all([stage.skus.name(row) for row in rows_of(stage)])
    state = stage.windows.gather(rows_of(stage))
    other.windows.restore_meta(stage.windows.meta())
    other.windows.scatter(rows, state)
    for name, array in other.windows.gather(rows).items():
        assert np.array_equal(array, state[name]), name
    assert other.windows.meta() == stage.windows.meta()
    assert sum(array.nbytes for array in state.values()) <= 208 * len(rows)


def test_state_of_other_settings_is_refused() -> None:
    stage = run(log(0), log(0), log(0, 90_000))
    other = Stage(WindowsConfig(100, 5_000, 5_000, 1_000, 5_000), stage.logs)  # 128 cells, not 4
    with pytest.raises(StateError, match="FLASHCAST_BUCKET_MS = 10000"):
        other.windows.restore_meta(stage.windows.meta())
    with pytest.raises(StateError, match="set them back"):
        other.windows.scatter(
            np.array([other.skus.insert(b"a")]), stage.windows.gather(np.array([0]))
        )


def test_a_row_that_contradicts_its_marker_is_reported() -> None:
    stage = run(log(0), log(0), log(0))
    stage.windows._rows.arrays.cells[:, :, 0] = 17
    with pytest.raises(StateError, match="clicks offset 1: the row of SKU 'a'"):
        stage.logs = [log(0, 12_000), log(0, 12_000), log(0, 12_000)]
        stage.run()


def test_what_is_closed_stays_closed_when_the_lateness_is_raised() -> None:
    stage = run(log(0, 40_000), log(0, 40_000), log(0, 40_000))
    config = dataclasses.replace(CONFIG, allowed_lateness_ms=15_000)
    restored = Stage(config, [[Event(2, T0 + 40_000, 2, "a", T0 + 29_000)], [], []])
    restored.windows.restore_meta(stage.windows.meta())
    restored.step(0, 1)
    assert restored.verdicts[0] == {2: Verdict.LATE}


def test_a_bucket_that_a_row_has_closed_is_not_opened_again() -> None:
    stage = run(log(0), log(0), log(0))
    state = stage.windows.gather(np.array([0]))
    newer = {**state, "open_bucket": 0 * state["open_bucket"], "last_bucket": [T0 // 10_000 + 1]}
    events = [Event(at, T0 + 20_000, at, "a", T0 + ms) for at, ms in ((7, 19_999), (9, 20_000))]
    restored = Stage(CONFIG, [events, [], []])
    restored.windows.restore_meta(stage.windows.meta())
    restored.windows.scatter(np.array([restored.skus.insert(b"a")]), newer)
    restored.step(0, 2)
    assert list(restored.verdicts[0].values()) == [Verdict.LATE, Verdict.APPLIED]


def test_history_leaves_out_what_is_yet_to_close_again() -> None:
    stage = run(log(0, 12_000, 40_000), log(0, 40_000), log(0, 12_000, 40_000))
    state, meta = stage.windows.gather(np.array([0])), stage.windows.meta()
    restored = Stage(CONFIG, stage.logs)
    row = restored.skus.insert_all([b"a"])
    restored.windows.restore_meta(meta)
    restored.windows.scatter(row, state)
    starts = T0 + np.array([0, 0, 10_000, 20_000, 30_000])
    fives = np.full(5, 5)
    rows = np.repeat(row, 5)
    restored.windows.load_history(rows, starts, fives)
    held = restored.windows.history.of(row)
    assert held.bucket_start_ms.tolist() == [[0, 0, T0, T0 + 10_000]]
    assert restored.windows.history_start_ms == T0


def test_history_starts_where_the_rings_are_sure_to_reach() -> None:
    stage = run(log(0, 100_000), log(0, 100_000), log(0, 100_000))
    assert stage.windows.closed_through_ms == T0 + 90_000
    assert stage.windows.history_start_ms == T0 + 50_000
    assert Stage(CONFIG, [[], [], []]).windows.history_start_ms == NEVER_MS


class TestRelease:
    """A row is freed when nothing can be lost by it: at (a) all is settled; SKU b keeps going."""

    def stage(self) -> Stage:
        clicks = [*log(0), Event(5, T0 + 40_000, 5, "b", T0 + 40_000)]
        stage = Stage(CONFIG, [clicks, log(40_000, sku="b"), log(40_000, sku="b")])
        stage.run()
        stage.windows.dirty[:] = False
        return stage

    def test_a_settled_row_is_freed_and_given_to_another_sku(self) -> None:
        stage = self.stage()
        row = stage.skus.row_of(b"a")
        assert stage.windows.release([row], stage.windows.meta()) == [(row, b"a")]
        assert stage.skus.insert(b"c") == row
        assert stage.windows.gather(np.array([row]))["stamps"].tolist() == [[-1, -1, -1]]
        assert stage.windows.units_between(np.array([row]), 0).tolist() == [0]

    def test_a_row_with_an_open_bucket_stays(self) -> None:
        stage = self.stage()
        assert stage.windows.release([stage.skus.row_of(b"b")], stage.windows.meta()) == []

    def test_a_row_with_changes_that_are_not_durable_stays(self) -> None:
        stage = self.stage()
        row = stage.skus.row_of(b"a")
        older = stage.windows.meta()
        older["topics"] = [{**topic, "position": 0} for topic in older["topics"]]
        assert stage.windows.release([row], older) == [], "a restart would read its events again"
        older = {**stage.windows.meta(), "closed_through_ms": T0}
        assert stage.windows.release([row], older) == [], "and close its bucket again"
        stage.windows.dirty[row] = True
        assert stage.windows.release([row], stage.windows.meta()) == []

    def test_a_row_that_a_waiting_record_names_stays(self) -> None:
        stage = self.stage()
        stage.logs = [[*stage.logs[0], Event(6, T0 + MONTH_MS, 6, "a", T0 + MONTH_MS)], [], []]
        stage.run()
        assert stage.windows.release([stage.skus.row_of(b"a")], stage.windows.meta()) == []


def test_a_topic_that_never_speaks_does_not_hold_up_a_backlog() -> None:
    hour_ago_ms = T0 - 3_600_000
    clicks = [
        Event(at, hour_ago_ms, at, "a", hour_ago_ms - 30_000 * (999 - at)) for at in range(999)
    ]
    stage = Stage(CONFIG, [clicks, [], []])
    for second in range(7):  # the time-out, once
        stage.run()
        for kind in (1, 2):
            stage.windows.empty(kind, 0, second * 1_000)
        for _ in range(600):  # as fast as the core turns
            stage.windows.idle_cuts(second * 1_000, now_ms=T0)
            stage.run()
    assert stage.exhausted(0)
    assert len(stage.outputs) == 998, "all but the last, which is open"
