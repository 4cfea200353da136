"""Checkpoints on a broker: what a crash, a zombie or a refusal can and cannot do."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from aiokafka.errors import ProducerFenced
from brokers import Kafka, create_topics, fresh_settings
from checkpoints import (
    PARTITION,
    LaterClock,
    checkpoint,
    commit_all,
    committed_values,
    contents,
    emitter_of,
    fill_inputs,
    levels,
    restored,
    skus_of,
    taken,
    window_output,
)

from streams import topics
from streams.checkpoint import Output
from streams.cluster import Cluster, SystemClock
from streams.codec.write import encode_records
from streams.embedded import EmbeddedBroker
from streams.emit import TransactionalEmitter, emitter_for
from streams.errors import BrokerError, FencedError
from streams.settings import Settings
from streams.state.marker import CUT_KEY_PREFIX
from streams.state.places import copy_folder

pytestmark = pytest.mark.kafka


async def test_a_zombie_is_fenced_and_its_open_transaction_never_seen(
    kafka_settings: Settings,
) -> None:
    await fill_inputs(kafka_settings, 9)
    zombie = emitter_of(kafka_settings)
    await restored(kafka_settings, zombie)
    await zombie.commit(checkpoint(1, ["A"]))
    assert zombie._producer is not None
    await zombie._producer.begin_transaction()  # the worker stalls here, its records sent
    await zombie._send([window_output(b"A", 666)], transactional=True)

    owner = emitter_of(kafka_settings)
    state = await restored(kafka_settings, owner)
    assert state.stats.copy_problem is not None  # the zombie, in this very process, holds it open
    assert levels(state) == {"A": 1}
    await owner.commit(checkpoint(2, ["A"]))
    with pytest.raises(ProducerFenced):
        await zombie._producer.commit_transaction()
    await zombie.stop()
    await owner.stop()
    assert await committed_values(kafka_settings, topics.DEMAND_WINDOWS) == [b"A at 1", b"A at 2"]


async def test_a_zombie_between_checkpoints_is_fenced_at_its_next(
    kafka_settings: Settings,
) -> None:
    await fill_inputs(kafka_settings, 9)
    zombie = emitter_of(kafka_settings)
    await restored(kafka_settings, zombie)
    await zombie.commit(checkpoint(1, ["A"]))
    owner = emitter_of(kafka_settings)
    await restored(kafka_settings, owner)
    with pytest.raises(FencedError, match="another worker has taken over"):
        await zombie.commit(checkpoint(666, ["A"]))
    with pytest.raises(BrokerError, match="stopped"):
        await zombie.commit(checkpoint(667, ["A"]))
    await zombie.stop()
    await owner.commit(checkpoint(2, ["A"]))
    await owner.stop()
    assert levels(await taken(kafka_settings)) == {"A": 2}
    assert await committed_values(kafka_settings, topics.DEMAND_WINDOWS) == [b"A at 1", b"A at 2"]


class CrashingEmitter(TransactionalEmitter):
    """Sends everything and stops short of the commit, as a killed worker does."""

    async def _deliver(self, steps: Sequence[Sequence[Output]]) -> list[int]:
        assert self._producer is not None
        await self._producer.begin_transaction()
        await self._send([one for step in steps for one in step], transactional=True)
        raise KeyboardInterrupt


async def test_a_torn_checkpoint_is_invisible(kafka_settings: Settings) -> None:
    await fill_inputs(kafka_settings, 9)
    await commit_all(kafka_settings, [checkpoint(1, ["A", "B"])])
    crashing = CrashingEmitter(kafka_settings, Cluster(kafka_settings), PARTITION)
    await restored(kafka_settings, crashing)
    with pytest.raises(KeyboardInterrupt):
        await crashing.commit(
            checkpoint(666, ["A", "C"], cuts=[(CUT_KEY_PREFIX + b"carts|1", b"")])
        )
    await crashing.stop()
    state = await taken(kafka_settings)
    assert (levels(state), state.cuts) == ({"A": 1, "B": 1}, [])
    assert state.marker == checkpoint(1, []).marker
    assert await committed_values(kafka_settings, topics.DEMAND_WINDOWS) == [b"A at 1", b"B at 1"]


async def test_an_output_above_the_brokers_limit_fails_the_checkpoint_and_says_so(
    kafka_settings: Settings,
) -> None:
    await fill_inputs(kafka_settings, 9)
    emitter = emitter_of(kafka_settings)
    await restored(kafka_settings, emitter)
    huge = Output(topics.DEAD_LETTERS, encode_records([(b"A", bytes(9_000_000), [])])[0])
    name = kafka_settings.topic(topics.DEAD_LETTERS)
    with pytest.raises(BrokerError, match=rf"{name} refused a batch .*max\.message\.bytes"):
        await emitter.commit(checkpoint(1, ["A"], outputs=[window_output(b"A", 1), huge]))
    await emitter.stop()
    state = await taken(kafka_settings)
    assert state.marker is None
    assert not state.names
    assert await committed_values(kafka_settings, topics.DEMAND_WINDOWS) == []


async def test_a_clock_too_far_ahead_of_the_brokers_fails_the_checkpoint_and_says_so(
    kafka_settings: Settings,
) -> None:
    cluster = Cluster(kafka_settings)
    cluster.clock = LaterClock(2 * 3_600_000)
    emitter = emitter_for(kafka_settings, cluster, PARTITION)
    await restored(kafka_settings, emitter)
    with pytest.raises(BrokerError, match=r"refused records of .*set the clock"):
        await emitter.commit(checkpoint(1, ["A"]))
    await emitter.stop()
    assert (await taken(kafka_settings)).marker is None


async def test_a_missing_output_topic_fails_the_checkpoint_and_is_named(
    kafka_settings: Settings,
) -> None:
    emitter = emitter_of(kafka_settings)
    emitter.delivery_timeout_s = 1.0
    await restored(kafka_settings, emitter)
    output = Output("no-such-topic", window_output(b"A", 1).batch)
    with pytest.raises(BrokerError, match=r"no answer .*no-such-topic"):
        await emitter.commit(checkpoint(1, ["A"], outputs=[output]))
    await emitter.stop()


async def test_stopping_fails_a_checkpoint_that_is_being_sent_at_once(
    kafka_settings: Settings,
) -> None:
    emitter = emitter_of(kafka_settings)
    await restored(kafka_settings, emitter)
    unsendable = Output("no-such-topic", window_output(b"A", 1).batch)
    commit = asyncio.create_task(emitter.commit(checkpoint(1, ["A"], outputs=[unsendable])))
    _, waiting = await asyncio.wait([commit], timeout=0.5)
    assert waiting
    await emitter.stop()
    async with asyncio.timeout(1.0):
        with pytest.raises(BrokerError, match="stopped meanwhile"):
            await commit


async def test_at_least_once_writes_the_marker_last_and_loses_nothing(
    kafka_settings: Settings,
) -> None:
    plain = kafka_settings.model_copy(update={"processing_guarantee": "at_least_once"})
    await fill_inputs(plain, 9)
    await commit_all(plain, [checkpoint(1, ["A", "B"])])
    huge = Output(topics.DEAD_LETTERS, encode_records([(b"A", bytes(9_000_000), [])])[0])
    emitter = emitter_of(plain)
    await restored(plain, emitter)
    with pytest.raises(BrokerError, match=r"max\.message\.bytes"):
        await emitter.commit(checkpoint(2, ["A"], outputs=[window_output(b"A", 2), huge]))
    await emitter.stop()
    state = await taken(plain)
    assert state.marker == checkpoint(1, []).marker
    assert levels(state) == {"A": 1, "B": 1}  # rows come after outputs
    assert state.history[:2] == [b"A at 1", b"B at 1"]
    await commit_all(plain, [checkpoint(2, ["A"])])
    from_copy = await taken(plain)
    shutil.rmtree(copy_folder(plain, PARTITION))
    assert contents(await taken(plain)) == contents(from_copy)
    assert levels(from_copy) == {"A": 2, "B": 1}


async def test_at_least_once_sends_nothing_that_another_owner_may_have_sent_meanwhile(
    kafka_settings: Settings,
) -> None:
    """A worker that stood still for longer than its session lasts, and goes on."""
    plain = kafka_settings.model_copy(update={"processing_guarantee": "at_least_once"})
    await fill_inputs(plain, 9)
    emitter = emitter_of(plain)
    await restored(plain, emitter)
    now_ms = SystemClock().monotonic_ms()
    emitter.owner_at_ms = now_ms
    await emitter.commit(checkpoint(1, ["A"]))
    emitter.owner_at_ms = now_ms - plain.session_timeout_ms
    with pytest.raises(FencedError, match="FLASHCAST_SESSION_TIMEOUT_MS 10000"):
        await emitter.commit(checkpoint(666, ["A"]))
    await emitter.stop()
    state = await taken(plain)
    assert levels(state) == {"A": 1}
    assert state.history == [b"A at 1"]


@pytest.mark.parametrize("keep_copy", [True, False])
async def test_workers_killed_at_any_moment_leave_every_checkpoint_whole_and_once(
    kafka_settings: Settings, keep_copy: bool
) -> None:
    await fill_inputs(kafka_settings, 1)
    for lived in (3, 1, 8):  # checkpoints that each worker says it has made before it is killed
        last = killed_after(kafka_settings, lived)
        if not keep_copy:
            shutil.rmtree(copy_folder(kafka_settings, PARTITION))
    state = await taken(kafka_settings)
    assert state.marker is not None
    steps = state.marker.core["step"]
    assert last <= steps <= last + 1  # the one in flight may have been committed, or not
    expected: dict[str, float] = {}
    for step in range(1, steps + 1):
        expected |= dict.fromkeys(skus_of(step), step)
    assert levels(state) == expected
    assert state.stats.copy_used is keep_copy
    assert await committed_values(kafka_settings, topics.DEMAND_WINDOWS) == [
        b"%s at %d" % (sku.encode(), step) for step in range(1, steps + 1) for sku in skus_of(step)
    ]


def killed_after(settings: Settings, checkpoints: int) -> int:
    """Runs a worker until it has made as many checkpoints, then SIGKILL; the last it told of."""
    program = Path(__file__).with_name("checkpoints.py")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "KAFKA_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "FLASHCAST_TOPIC_PREFIX": settings.topic_prefix,
        "FLASHCAST_DATA_DIR": str(settings.data_dir),
    }
    command = [sys.executable, str(program)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        told = [worker.stdout.readline() for _ in range(checkpoints)]
        worker.kill()
        return int([*told, *worker.stdout.readlines()][-1])


async def test_a_broker_that_goes_away_fails_the_checkpoint_and_nothing_is_lost(
    kafka: Kafka, kafka_settings: Settings
) -> None:
    await fill_inputs(kafka_settings, 9)
    emitter = emitter_of(kafka_settings)
    emitter.delivery_timeout_s = 1.0
    await restored(kafka_settings, emitter)
    await emitter.commit(checkpoint(1, ["A", "B"]))
    kafka.stop(kill=True)
    try:
        with pytest.raises(BrokerError, match=kafka_settings.bootstrap_servers):
            await emitter.commit(checkpoint(2, ["A"]))
        await emitter.stop()
        another = emitter_of(kafka_settings)
        another.start_timeout_s = 1.0
        with pytest.raises(BrokerError, match="cannot start"):
            await another.start()
    finally:
        kafka.start()
    state = await taken(kafka_settings)
    assert levels(state) in ({"A": 1, "B": 1}, {"A": 2, "B": 1})
    await commit_all(kafka_settings, [checkpoint(3, ["A"])])
    assert levels(await taken(kafka_settings)) == {"A": 3, "B": 1}


@pytest.mark.embedded
async def test_the_embedded_broker_keeps_state_too(
    embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    plain = fresh_settings(
        embedded.bootstrap_servers, tmp_path / "data", processing_guarantee="at_least_once"
    )
    create_topics(plain)
    await fill_inputs(plain, 3)
    await commit_all(plain, [checkpoint(1, ["A", "B"]), checkpoint(2, ["B"])])
    from_copy = await taken(plain)
    assert from_copy.stats.copy_used
    assert levels(from_copy) == {"A": 1, "B": 2}
    assert from_copy.history == [b"A at 1", b"B at 1", b"B at 2"]
    shutil.rmtree(copy_folder(plain, PARTITION))
    assert contents(await taken(plain)) == contents(from_copy)
