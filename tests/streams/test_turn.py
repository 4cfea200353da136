"""A bucket's windows leave with what is decided at its end, one partition's before the next's."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from models.forecaster import Forecaster, PredictBatch
from models.prediction import Prediction
from streams import topics
from streams.batcher import Batcher
from streams.checkpoint import Checkpoint
from streams.cluster import Cluster
from streams.codec.batches import iter_records
from streams.emit import emitter_for
from streams.monitor import Monitor
from streams.owned import Owned
from streams.settings import load
from streams.turn import TURN_MS, Turn
from tests.streams.harness import NOW_MS, Core
from tests.streams.test_pipeline import SETTINGS, a_sale, feed_all

BUSY = 10_000  # rounds that are more than enough


class StoppedClock:
    """No time passes within a turn."""

    now_ms = 0

    def monotonic_ms(self) -> int:
        return self.now_ms

    def wall_ms(self) -> int:
        return NOW_MS


@pytest.fixture(scope="module")
def forecaster() -> Forecaster:
    return Forecaster.load(None, "cpu")


def told(checkpoint: Checkpoint, topic: str, field: str) -> set[int]:
    return {
        msgspec.json.decode(record.value or b"")[field]
        for output in checkpoint.outputs
        if output.topic == topic
        for record in iter_records(output.batch.whole(0, NOW_MS))
    }


def test_a_bucket_leaves_with_what_is_decided_at_its_end(
    forecaster: Forecaster, tmp_path: Path
) -> None:
    core = Core(SETTINGS, a_sale(seed=3), forecaster)
    feed_all(core)
    emitter = emitter_for(load(data_dir=tmp_path), Cluster(SETTINGS), 0)
    owned = Owned(0, core.pipeline, emitter, core.pipeline.offsets(), {})
    monitor = Monitor(process=False)
    turn = Turn(core.batcher, 1_000, monitor, StoppedClock())
    last_end_ms, origins, together = 0, 0, 0
    for _ in range(BUSY):
        busy = turn.run([(owned, [], {})])
        assert owned.broken is None
        taken, owned.checkpoint = owned.checkpoint, None
        if taken is not None:
            core.pipeline.committed(0)
            starts = told(taken, topics.DEMAND_WINDOWS, "bucket_start_ms")
            moments = told(taken, topics.DEMAND_FORECASTS, "origin_ms")
            ends = {start_ms + SETTINGS.bucket_ms for start_ms in starts}
            assert min(moments | starts, default=last_end_ms) >= last_end_ms
            last_end_ms = max(ends, default=last_end_ms)
            origins += len(moments)
            together += len(moments & ends)
        if not busy:
            break
    assert origins > 250 and together > 200
    applied = monitor.apply_delay_seconds.collect()[0].samples
    assert next(one.value for one in applied if one.name.endswith("_count")) > 0


def test_a_round_asks_the_model_once_for_all_partitions(
    forecaster: Forecaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cores = [Core(SETTINGS, a_sale(seed), forecaster) for seed in (4, 5)]
    batcher = Batcher(forecaster)
    asked: list[int] = []
    predict = forecaster.predict

    def counted(batches: Sequence[PredictBatch]) -> list[Prediction]:
        asked.append(len(batches))
        return predict(batches)

    monkeypatch.setattr(forecaster, "predict", counted)
    for core in cores:
        feed_all(core)
    busy = True
    while busy:
        worked = [core.pipeline.work(0, NOW_MS) for core in cores]
        before = len(asked)
        busy = batcher.tick([core.pipeline for core in cores], NOW_MS) or any(worked)
        assert len(asked) - before <= 1
    assert max(asked) == 2
    assert min(core.pipeline.decider.counts["forecast"] for core in cores) > 0


def three_sales(folder: Path) -> tuple[list[Core], list[Owned]]:
    """All of each one's events wait to be processed."""
    cores = [Core(SETTINGS, a_sale(seed)) for seed in (4, 5, 6)]
    emitter = emitter_for(load(data_dir=folder), Cluster(SETTINGS), 0)
    for core in cores:
        feed_all(core)
    return cores, [Owned(0, one.pipeline, emitter, one.pipeline.offsets(), {}) for one in cores]


def test_a_turn_takes_one_checkpoint_and_comes_to_all(tmp_path: Path) -> None:
    cores, several = three_sales(tmp_path)
    clock = StoppedClock()
    turn = Turn(Batcher(None), 1_000, Monitor(process=False), clock)
    order = []
    for _ in range(6):
        turn.run([(owned, [], {}) for owned in several])
        taken = [place for place, owned in enumerate(several) if owned.checkpoint is not None]
        assert len(taken) == 1
        order += taken
        cores[taken[0]].pipeline.committed(0)
        several[taken[0]].checkpoint = None
        clock.now_ms += 1
    assert set(order) == {0, 1, 2}


class SlowClock(StoppedClock):
    """Whatever is done takes nearly as long as a turn may."""

    def monotonic_ms(self) -> int:
        self.now_ms += TURN_MS - 1
        return self.now_ms


def test_a_turn_that_took_its_time_closes_of_no_second_partition(tmp_path: Path) -> None:
    cores, several = three_sales(tmp_path)
    for core, owned in zip(cores, several, strict=True):
        assert core.pipeline.work(0, NOW_MS)
        owned.checkpoint = core.pipeline.take()  # still in flight: no turn ends by taking one
    turn = Turn(Batcher(None), 1_000, Monitor(process=False), SlowClock())
    closings = []
    for _ in range(BUSY):
        before = [core.pipeline.counts["closed_buckets",] for core in cores]
        turn.run([(owned, [], {}) for owned in several])
        after = [core.pipeline.counts["closed_buckets",] for core in cores]
        closings.append([now - then for now, then in zip(after, before, strict=True)])
    assert max(sum(closed) for closed in closings) == 1
    assert all(sum(closed[place] for closed in closings) > 10 for place in range(3))
