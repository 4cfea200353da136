"""Windows leave before the decisions at their end, one partition's before those of the next."""

from pathlib import Path

import msgspec
import pytest

from models.forecaster import Forecaster
from streams import topics
from streams.batcher import Batcher
from streams.checkpoint import Checkpoint
from streams.cluster import Cluster
from streams.codec.batches import iter_records
from streams.emit import emitter_for
from streams.monitor import Monitor
from streams.owned import Owned
from streams.settings import load
from streams.turn import Turn
from tests.streams.harness import NOW_MS, Core
from tests.streams.test_pipeline import SETTINGS, a_sale, feed_all

BUSY = 10_000  # rounds that are more than enough


class StoppedClock:
    """No time passes within a turn."""

    def monotonic_ms(self) -> int:
        return 0

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


def test_windows_leave_before_what_is_decided_at_their_end(
    forecaster: Forecaster, tmp_path: Path
) -> None:
    core = Core(SETTINGS, a_sale(seed=3), forecaster)
    feed_all(core)
    emitter = emitter_for(load(data_dir=tmp_path), Cluster(SETTINGS), 0)
    owned = Owned(0, core.pipeline, emitter, core.pipeline.offsets(), {})
    monitor = Monitor(process=False)
    turn = Turn(core.batcher, 1_000, monitor, StoppedClock())
    last_end_ms, origins = 0, 0
    for _ in range(BUSY):
        busy = turn.run([(owned, [], {})])
        assert owned.broken is None
        taken, owned.checkpoint = owned.checkpoint, None
        if taken is not None:
            core.pipeline.committed(0)
            for origin_ms in told(taken, topics.DEMAND_FORECASTS, "origin_ms"):
                origins += 1
                starts = told(taken, topics.DEMAND_WINDOWS, "bucket_start_ms")
                assert last_end_ms <= origin_ms <= min(starts, default=origin_ms)
            for start_ms in told(taken, topics.DEMAND_WINDOWS, "bucket_start_ms"):
                last_end_ms = max(last_end_ms, start_ms + SETTINGS.bucket_ms)
        if not busy:
            break
    assert origins > 50
    applied = monitor.apply_delay_seconds.collect()[0].samples
    assert next(one.value for one in applied if one.name.endswith("_count")) > 0


def test_a_round_decides_for_one_partition_and_comes_to_all(forecaster: Forecaster) -> None:
    cores = [Core(SETTINGS, a_sale(seed), forecaster) for seed in (4, 5)]
    batcher = Batcher(forecaster)
    for core in cores:
        feed_all(core)
    decided = [0, 0]
    for _ in range(BUSY):
        worked = [core.pipeline.work(0, NOW_MS) for core in cores]
        busy = batcher.tick([core.pipeline for core in cores], NOW_MS)
        before, decided = decided, [core.pipeline.decider.counts["forecast"] for core in cores]
        assert sum(now > then for now, then in zip(decided, before, strict=True)) <= 1
        if not busy and not any(worked):
            break
    assert min(decided) > 0
