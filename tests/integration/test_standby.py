"""What a standby keeps of a partition, on Apache Kafka: the same as a restore finds, or nothing."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from checkpoints import PARTITION, checkpoint, contents, emitter_of, fill_inputs, restored

from streams import topics
from streams.checkpoint import Checkpoint, Output, Restored
from streams.cluster import Cluster
from streams.codec.write import encode_records
from streams.emit import Emitter
from streams.monitor import Monitor
from streams.records import DemandWindow
from streams.settings import Settings
from streams.standby import Standbys
from streams.state.following import Follower
from streams.state.marker import MARKER_KEY
from streams.state.places import copy_folder
from streams.state.recovery import restore

pytestmark = pytest.mark.kafka

START_MS = 1_700_000_000_000
SKUS = [f"S{i}" for i in range(40)]


@pytest.fixture
def settings(kafka_settings: Settings) -> Settings:
    return kafka_settings.model_copy(update={"standby_replicas": 1, "partitioner": "none"})


def closed(step: int, skus: list[str], offset: int) -> Checkpoint:
    """A checkpoint at `offset` of every topic, with a real window of each SKU."""
    windows = [
        DemandWindow(sku, START_MS + 10_000 * step, 10_000, 0, 0, 0, step, 0, 100, 0, 10_000)
        for sku in skus
    ]
    records = [(one.sku.encode(), msgspec.json.encode(one), []) for one in windows]
    outputs = [Output(topics.DEMAND_WINDOWS, batch) for batch in encode_records(records)]
    at = dict.fromkeys(topics.EVENT_TOPICS, offset) | dict.fromkeys(topics.REFERENCE_TOPICS, 0)
    return checkpoint(step, skus, outputs=outputs, offsets=at)


@contextlib.asynccontextmanager
async def standing_by(settings: Settings, disk: Path) -> AsyncIterator[tuple[Standbys, Monitor]]:
    """Standbys of another worker, with a disk of its own."""
    other = settings.model_copy(update={"data_dir": disk})
    monitor = Monitor(process=False)
    standbys = Standbys(other, Cluster(other), settings.partitions, (5, 7), monitor)
    try:
        yield standbys, monitor
    finally:
        await standbys.close()


async def until(reached: Callable[[], bool], timeout_s: float = 60.0) -> None:
    for _ in range(int(timeout_s / 0.05)):
        if reached():
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"not within {timeout_s} s")


async def caught_up(monitor: Monitor) -> None:
    """A look has begun and ended since now."""
    looks = monitor.standby_catch_ups._value.get()
    await until(lambda: monitor.standby_catch_ups._value.get() >= looks + 2)


async def taken_over(settings: Settings, standbys: Standbys) -> tuple[Follower, Emitter, Restored]:
    """By the worker whose standby it is; the emitter has started."""
    follower = standbys.promoted(PARTITION)
    assert follower is not None
    taker = emitter_of(settings)
    async with Cluster(settings).reader(PARTITION) as reader:
        found = await restore(settings, Cluster(settings), taker, reader, follower)
    return follower, taker, found


async def test_a_standby_hands_over_what_a_restore_would_have_found(
    settings: Settings, tmp_path: Path
) -> None:
    await fill_inputs(settings, 9)
    owner = emitter_of(settings)
    await restored(settings, owner)
    await owner.commit(closed(1, SKUS, 2))
    other = settings.model_copy(update={"data_dir": tmp_path / "other"})
    async with standing_by(settings, other.data_dir) as (standbys, monitor):
        await standbys.keep({PARTITION})
        await caught_up(monitor)
        await owner.commit(closed(2, SKUS[:5], 4))
        await caught_up(monitor)
        owner.forget([b"S39"])
        await owner.commit(closed(3, SKUS[:3], 7))  # perhaps not followed yet
        follower, taker, warm = await taken_over(other, standbys)
        assert warm.stats.standby_used
        assert follower.given
        assert warm.history == []  # it is in the rings
        rows = follower.warm.skus.insert_all([b"S0", b"S4", b"S20"])
        units = follower.warm.history.of(rows).units
        assert units.sum(axis=1).tolist() == [1 + 2 + 3, 1 + 2, 1]
        assert follower.warm.event_offsets == dict.fromkeys(topics.EVENT_TOPICS, 7)
    await taker.stop()
    await owner.stop()
    from_copy = await taken(other)
    assert from_copy.stats.copy_used, "the standby's copy, and none but that, is on this disk"
    shutil.rmtree(copy_folder(other, PARTITION))
    cold = await taken(other)
    assert contents(cold)[:3] == contents(warm)[:3] == contents(from_copy)[:3]


async def test_what_was_handed_over_for_nothing_is_kept_on_and_handed_over_again(
    settings: Settings, tmp_path: Path
) -> None:
    await fill_inputs(settings, 9)
    owner = emitter_of(settings)
    await restored(settings, owner)
    await owner.commit(closed(1, SKUS, 2))
    other = settings.model_copy(update={"data_dir": tmp_path / "other"})
    async with standing_by(settings, other.data_dir) as (standbys, monitor):
        await standbys.keep({PARTITION})
        await caught_up(monitor)
        for step in (2, 3):
            follower, taker, warm = await taken_over(other, standbys)
            assert warm.stats.standby_used
            assert warm.stats.copy_used
            await taker.stop()
            follower.warm.skus.insert_all([b"C%d" % number for number in range(3_000)])  # a catalog
            await standbys.put_back(follower)
            await owner.stop()
            owner = emitter_of(settings)
            await restored(settings, owner)
            await owner.commit(closed(step, SKUS[:step], 3 + step))
            await standbys.keep({PARTITION})
            await caught_up(monitor)
        follower, taker, warm = await taken_over(other, standbys)
        rows = follower.warm.skus.insert_all([b"S0", b"S2", b"S20"])
        units = follower.warm.history.of(rows).units
        assert units.sum(axis=1).tolist() == [1 + 2 + 3, 1 + 3, 1]
    await taker.stop()
    await owner.stop()
    from_copy = await taken(other)
    assert from_copy.stats.copy_used
    assert contents(from_copy)[:3] == contents(warm)[:3]


async def spoil_marker(settings: Settings, partition: int) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=settings.bootstrap_servers)
    await producer.start()
    try:
        changelog = settings.topic(topics.CHANGELOG)
        await producer.send_and_wait(changelog, b"no marker", MARKER_KEY, partition)
    finally:
        await producer.stop()


async def test_a_standby_that_fails_is_dropped_and_begun_anew_and_the_others_go_on(
    settings: Settings, tmp_path: Path
) -> None:
    await fill_inputs(settings, 9)
    owners: list[Emitter] = []
    junk, sound = PARTITION, PARTITION + 1
    for partition in (junk, sound):
        owners.append(emitter_of(settings, partition))
        await restored(settings, owners[-1])
    for owner in owners:
        await owner.commit(closed(1, SKUS, 2))
    await spoil_marker(settings, junk)
    async with standing_by(settings, tmp_path / "other") as (standbys, monitor):
        await standbys.keep({junk, sound})
        await until(lambda: monitor.standby_failures._value.get() >= 2)
        await caught_up(monitor)
        follower = standbys.promoted(sound)
        assert follower is not None
        assert len(follower.warm.image.rows) == len(SKUS)
        await follower.close()
    for owner in owners:
        await owner.commit(closed(2, SKUS, 3))
        await owner.stop()


async def test_a_changelog_made_anew_is_noticed_at_the_takeover(
    settings: Settings, tmp_path: Path
) -> None:
    """What was kept is of another log: it is left, and all is read."""
    await fill_inputs(settings, 9)
    owner = emitter_of(settings)
    await restored(settings, owner)
    await owner.commit(closed(1, SKUS, 2))
    async with standing_by(settings, tmp_path / "other") as (standbys, monitor):
        await standbys.keep({PARTITION})
        await caught_up(monitor)
        follower = standbys.promoted(PARTITION)
        assert follower is not None
        follower.warm.image.identity = bytes(16)
        other = settings.model_copy(update={"data_dir": tmp_path / "other"})
        taker = emitter_of(other)
        async with Cluster(other).reader(PARTITION) as reader:
            found = await restore(other, Cluster(other), taker, reader, follower)
    assert not follower.given
    assert not found.stats.standby_used
    assert len(found.names) == len(SKUS)
    await taker.stop()
    await owner.stop()


async def taken(settings: Settings) -> Restored:
    emitter = emitter_of(settings)
    try:
        return await restored(settings, emitter)
    finally:
        await emitter.stop()
