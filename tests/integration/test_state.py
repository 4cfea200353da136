"""Checkpoints and restores on a broker: what a crash, a zombie or a refusal can and cannot do."""

import asyncio
import contextlib
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import ProducerFenced
from brokers import Kafka, create_topics, fresh_settings
from checkpoints import (
    PARTITION,
    LaterClock,
    checkpoint,
    emitter_of,
    levels,
    restored,
    skus_of,
    window_output,
)
from kafka.admin import KafkaAdminClient
from kafka.structs import TopicPartition as AdminTopicPartition

from streams import topics
from streams.checkpoint import Checkpoint, Output, Restored
from streams.cluster import Cluster, SystemClock
from streams.codec.batches import iter_records
from streams.codec.write import encode_records
from streams.embedded import EmbeddedBroker
from streams.emit import TransactionalEmitter, emitter_for
from streams.errors import BrokerError, FencedError, StateError
from streams.settings import Settings
from streams.state import marker as markers
from streams.state.local_copy import LocalCopy
from streams.state.marker import CUT_KEY_PREFIX, MARKER_KEY
from streams.state.places import copy_folder
from streams.state.recovery import references, seen_before
from streams.state.rocksdb import RocksDisk

pytestmark = pytest.mark.kafka
OTHER = PARTITION + 1


async def committed_values(settings: Settings, topic: str) -> list[bytes]:
    """What a read_committed subscriber sees of the partition, up to the last stable offset."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.bootstrap_servers, isolation_level="read_committed"
    )
    await consumer.start()
    try:
        tp = TopicPartition(settings.topic(topic), PARTITION)
        consumer.assign([tp])
        end = (await consumer.end_offsets([tp]))[tp]
        consumer.seek(tp, 0)
        values: list[bytes] = []
        while await consumer.position(tp) < end:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                values += [record.value for record in records]
        return values
    finally:
        await consumer.stop()


async def publish(
    settings: Settings, topic: str, records: Sequence[tuple[bytes, bytes | None]]
) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=settings.bootstrap_servers)
    await producer.start()
    try:
        for key, value in records:
            for partition in (PARTITION, OTHER):
                await producer.send_and_wait(
                    settings.topic(topic), value, key=key, partition=partition
                )
    finally:
        await producer.stop()


async def fill_inputs(settings: Settings, count: int) -> None:
    """`count` records on each event topic, so that offsets up to there exist."""
    for topic in topics.EVENT_TOPICS:
        await publish(settings, topic, [(b"A", b"%d" % i) for i in range(count)])


async def test_a_restore_finds_what_the_last_checkpoint_left(kafka_settings: Settings) -> None:
    await fill_inputs(kafka_settings, 3)
    emitter = emitter_of(kafka_settings)
    first = await restored(kafka_settings, emitter)
    assert first.marker is None
    assert not first.names
    cut = (CUT_KEY_PREFIX + b"carts|2", b"{}")
    one = await emitter.commit(checkpoint(1, ["A", "B", "C"]))
    two = await emitter.commit(checkpoint(2, ["B", "D"], cuts=[cut]))
    await emitter.stop()
    assert one.output_offsets == [0, 1, 2]
    assert two.output_offsets == [4, 5]  # offset 3 is the first transaction's control record

    from_copy = await taken(kafka_settings)
    assert from_copy.stats.copy_used
    assert from_copy.stats.changelog_records == 0
    assert levels(from_copy) == {"A": 1, "B": 2, "C": 1, "D": 2}
    assert from_copy.marker == checkpoint(2, []).marker
    assert from_copy.cuts == [cut]
    assert from_copy.history == [b"A at 1", b"B at 1", b"C at 1", b"B at 2", b"D at 2"]

    shutil.rmtree(copy_folder(kafka_settings, PARTITION))
    from_changelog = await taken(kafka_settings)
    assert not from_changelog.stats.copy_used
    assert from_changelog.stats.copy_problem is None
    assert contents(from_changelog) == contents(from_copy)
    again = await taken(kafka_settings)
    assert again.stats.copy_used
    assert contents(again) == contents(from_copy)


async def test_a_copy_left_behind_reads_only_what_it_lacks(kafka_settings: Settings) -> None:
    await fill_inputs(kafka_settings, 9)
    await commit_all(kafka_settings, [checkpoint(1, [f"S{i}" for i in range(50)])])
    folder = copy_folder(kafka_settings, PARTITION)
    shutil.copytree(folder, folder.with_name("older"))
    emitter = emitter_of(kafka_settings)
    await restored(kafka_settings, emitter)
    emitter.forget([b"S9"])
    await emitter.commit(checkpoint(2, ["S1", "S2"]))
    await emitter.stop()
    newest = await taken(kafka_settings)
    shutil.rmtree(folder)
    folder.with_name("older").rename(folder)
    behind = await taken(kafka_settings)
    assert behind.stats.copy_used
    assert behind.stats.changelog_records == 4  # S9 forgotten, S1, S2, the marker
    assert contents(behind) == contents(newest)
    assert "S9" not in levels(behind)


@pytest.mark.parametrize("harm", ["bytes", "manifest", "current", "old", "locked", "ahead"])
async def test_a_copy_that_cannot_be_trusted_is_read_anew_from_the_changelog(
    kafka_settings: Settings, harm: str
) -> None:
    await fill_inputs(kafka_settings, 9)
    await commit_all(kafka_settings, [checkpoint(1, [f"S{i}" for i in range(50)])])
    await commit_all(kafka_settings, [checkpoint(2, ["S1", "S2"])])
    folder = copy_folder(kafka_settings, PARTITION)
    later_ms = 0
    held = LocalCopy(RocksDisk(), folder)
    if harm == "bytes":
        table = max(folder.glob("*.sst"), key=lambda path: path.stat().st_size)
        data = bytearray(table.read_bytes())
        data[len(data) // 3 : len(data) // 3 + 8] = b"damaged!"
        table.write_bytes(data)
    elif harm == "manifest":
        next(folder.glob("MANIFEST-*")).write_bytes(b"garbage")
    elif harm == "current":
        (folder / "CURRENT").write_text("MANIFEST-999999\n")
    elif harm == "old":
        later_ms = 25 * 3_600_000
    else:
        held.open()
        if harm == "ahead":
            place = held.place(int(time.time() * 1_000), 60_000)
            assert place is not None
            held.write([], msgspec.structs.replace(place, offset=place.offset + 1_000))
            held.close()
    state = await taken(kafka_settings, later_ms)
    assert not state.stats.copy_used
    assert state.stats.copy_problem
    assert levels(state) == {f"S{i}": 2 if i in (1, 2) else 1 for i in range(50)}
    held.close()


@contextlib.contextmanager
def refusing_disk(folder: Path, how: str) -> Iterator[None]:
    """A disk that takes nothing (root may write anywhere, so not by permissions), or nothing more:
    no file may grow, which is what a full one says to a write.
    """
    if how == "taken":
        shutil.rmtree(folder.parent)
        folder.parent.write_text("a file where the folder should be")
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("how", ["taken", "full"])
async def test_a_disk_that_refuses_the_copy_fails_no_checkpoint_and_no_restore(
    kafka_settings: Settings, how: str
) -> None:
    await fill_inputs(kafka_settings, 9)
    skus = [f"S{i}" for i in range(50)]
    await commit_all(kafka_settings, [checkpoint(1, skus)])
    emitter = emitter_of(kafka_settings)
    folder = copy_folder(kafka_settings, PARTITION)
    if how == "full":
        await restored(kafka_settings, emitter)
    with refusing_disk(folder, how):
        if how == "taken":
            state = await restored(kafka_settings, emitter)
            assert state.stats.copy_problem
            assert levels(state) == dict.fromkeys(skus, 1)
        for step in (2, 3):
            await emitter.commit(checkpoint(step, skus))
        await emitter.stop()
    assert emitter.copy_failures == (how == "full")
    if how == "taken":
        folder.parent.unlink()
    state = await taken(kafka_settings)
    assert not state.stats.copy_used
    assert levels(state) == dict.fromkeys(skus, 3)


async def test_a_copy_of_another_changelog_is_not_used(kafka_settings: Settings) -> None:
    await fill_inputs(kafka_settings, 9)
    await commit_all(kafka_settings, [checkpoint(1, ["A", "B"])])
    await commit_all(kafka_settings, [checkpoint(step, ["C"]) for step in (2, 3, 4)], OTHER)
    folder, other = copy_folder(kafka_settings, PARTITION), copy_folder(kafka_settings, OTHER)
    shutil.rmtree(other)
    shutil.move(folder, other)  # as on a disk that has served another cluster
    state = await taken(kafka_settings, partition=OTHER)
    assert not state.stats.copy_used
    assert "another changelog" in (state.stats.copy_problem or "")
    assert levels(state) == {"C": 4}


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


async def test_state_that_is_lost_refuses_to_start_anew(kafka_settings: Settings) -> None:
    await fill_inputs(kafka_settings, 2)
    group = kafka_settings.topic(kafka_settings.application)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=kafka_settings.bootstrap_servers, group_id=group, enable_auto_commit=False
    )
    await consumer.start()
    tp = TopicPartition(kafka_settings.topic(topics.CARTS), PARTITION)
    consumer.assign([tp])
    await consumer.commit({tp: 1})
    await consumer.stop()
    with pytest.raises(StateError, match=rf"no checkpoint, but group '{group}' .*--delete"):
        await taken(kafka_settings)


async def test_input_that_retention_took_before_it_was_processed_refuses_to_start(
    kafka_settings: Settings,
) -> None:
    await fill_inputs(kafka_settings, 5)
    await commit_all(kafka_settings, [checkpoint(2, ["A"])])
    admin = KafkaAdminClient(bootstrap_servers=kafka_settings.bootstrap_servers)
    admin.delete_records({AdminTopicPartition(kafka_settings.topic(topics.ORDERS), PARTITION): 4})
    admin.close()
    with pytest.raises(StateError, match=r"offset 2, but the log now begins at 4.*retention\.ms"):
        await taken(kafka_settings)


async def test_a_checkpoint_ahead_of_its_input_refuses_to_start(kafka_settings: Settings) -> None:
    await fill_inputs(kafka_settings, 3)
    await commit_all(kafka_settings, [checkpoint(4, ["A"])])
    with pytest.raises(
        StateError, match=r"clicks/1: the checkpoint ends at offset 4, .* ends at 3"
    ):
        await taken(kafka_settings)


async def test_a_cut_goes_when_the_input_it_cut_has_gone(kafka_settings: Settings) -> None:
    await fill_inputs(kafka_settings, 5)
    cuts = [(CUT_KEY_PREFIX + b"orders|%d" % at, b"{}") for at in (1, 3)]
    await commit_all(kafka_settings, [checkpoint(4, ["A"], cuts=cuts)])
    admin = KafkaAdminClient(bootstrap_servers=kafka_settings.bootstrap_servers)
    admin.delete_records({AdminTopicPartition(kafka_settings.topic(topics.ORDERS), PARTITION): 2})
    admin.close()
    emitter = emitter_of(kafka_settings)
    state = await restored(kafka_settings, emitter)
    assert (state.cuts, state.stats.cuts_expired) == (cuts[1:], 1)
    await emitter.commit(checkpoint(5, ["A"]))
    await emitter.stop()
    shutil.rmtree(copy_folder(kafka_settings, PARTITION))
    state = await taken(kafka_settings)
    assert (state.cuts, state.stats.cuts_expired) == (cuts[1:], 0)


async def test_reference_topics_are_read_from_their_start_to_their_end(
    kafka_settings: Settings,
) -> None:
    levels_of_stock = [(b"A", b"old"), (b"B", b"b"), (b"A", None)]
    await publish(kafka_settings, topics.STOCK_LEVELS, levels_of_stock)
    found: dict[str, list[tuple[bytes | None, bytes | None]]] = {}
    read_on: dict[str, int] = {}
    async with Cluster(kafka_settings).reader(PARTITION) as reader:
        async for fetch in references(reader):
            for one in iter_records(fetch.data, fetch.first_offset):
                found.setdefault(fetch.topic, []).append((one.key, one.value))
            read_on[fetch.topic] = fetch.next_offset
    assert found == {topics.STOCK_LEVELS: levels_of_stock}
    assert read_on == dict.fromkeys(topics.REFERENCE_TOPICS, 0) | {topics.STOCK_LEVELS: 3}


async def test_duplicates_are_looked_for_in_this_generation_and_the_one_before(
    kafka_settings: Settings,
) -> None:
    await fill_inputs(kafka_settings, 25)
    marker = checkpoint(23, []).marker
    async with Cluster(kafka_settings).reader(PARTITION) as reader:
        seen: dict[str, list[int]] = {}
        async for fetch in seen_before(reader, marker, 10):
            offsets_read = [r.offset for r in iter_records(fetch.data, fetch.first_offset)]
            seen.setdefault(fetch.topic, []).extend(offsets_read)
    assert seen == {topic: list(range(10, 23)) for topic in topics.EVENT_TOPICS}


async def test_history_that_retention_took_is_counted(kafka_settings: Settings) -> None:
    await fill_inputs(kafka_settings, 5)
    await commit_all(kafka_settings, [checkpoint(1, ["A", "B", "C"])])
    admin = KafkaAdminClient(bootstrap_servers=kafka_settings.bootstrap_servers)
    admin.delete_records(
        {AdminTopicPartition(kafka_settings.topic(topics.DEMAND_WINDOWS), PARTITION): 2}
    )
    admin.close()
    state = await taken(kafka_settings)
    assert (state.history, state.stats.history_missing) == ([b"C at 1"], 2)


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


async def commit_all(
    settings: Settings, checkpoints: Sequence[Checkpoint], partition: int = PARTITION
) -> None:
    """One worker's life: restore, these checkpoints, a clean stop."""
    emitter = emitter_of(settings, partition)
    await restored(settings, emitter)
    for one in checkpoints:
        await emitter.commit(one)
    await emitter.stop()


async def taken(settings: Settings, later_ms: int = 0, partition: int = PARTITION) -> Restored:
    """What a worker finds that is given the partition, and gives it back at once."""
    emitter = emitter_of(settings, partition)
    try:
        return await restored(settings, emitter, later_ms)
    finally:
        await emitter.stop()


def contents(state: Restored) -> tuple[Any, ...]:
    """Everything but how it was read."""
    order = sorted(range(len(state.names)), key=state.names.__getitem__)
    rows = [(state.names[i], state.rows[i].tobytes()) for i in order]
    return rows, state.marker, sorted(state.cuts), state.history


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
        with pytest.raises(BrokerError, match="cannot start"):
            await emitter_of(kafka_settings).start()
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


async def test_a_row_that_fails_its_checksum_gives_way_to_the_newest_intact_one(
    kafka_settings: Settings,
) -> None:
    await fill_inputs(kafka_settings, 9)
    await commit_all(kafka_settings, [checkpoint(step, ["A", "B", "C"]) for step in (1, 2)])
    await put_in_changelog(kafka_settings, {b"A": b"garbage", b"B": b"\0" * 700})
    state = await taken(kafka_settings)
    assert levels(state) == {"A": 2, "B": 2, "C": 2}
    assert state.mended == (b"A", b"B")
    shutil.rmtree(kafka_settings.data_dir)
    state = await taken(kafka_settings)
    assert levels(state) == {"A": 2, "B": 2, "C": 2}
    await commit_all(kafka_settings, [checkpoint(3, ["A", "B"])])
    state = await taken(kafka_settings)
    assert levels(state) == {"A": 3, "B": 3, "C": 2}
    assert not state.mended


async def test_a_row_of_which_no_intact_record_is_left_refuses_to_start_until_it_is_given_up(
    kafka_settings: Settings,
) -> None:
    await fill_inputs(kafka_settings, 9)
    await commit_all(kafka_settings, [checkpoint(1, ["A"])])
    await put_in_changelog(kafka_settings, {b"Z": b"garbage"})
    assert levels(await taken(kafka_settings)) == {"A": 1}, "no marker vouches for it"
    marker = markers.encode(checkpoint(1, ["A"]).marker)
    await put_in_changelog(kafka_settings, {MARKER_KEY: marker})
    with pytest.raises(StateError, match=r"1 SKUs \('Z'\).*write a record without value"):
        await taken(kafka_settings)
    await put_in_changelog(kafka_settings, {b"Z": None})
    state = await taken(kafka_settings)
    assert levels(state) == {"A": 1}
    assert not state.mended


async def put_in_changelog(settings: Settings, records: dict[bytes, bytes | None]) -> None:
    """As somebody who is no worker would."""
    producer = AIOKafkaProducer(bootstrap_servers=settings.bootstrap_servers)
    await producer.start()
    for key, value in records.items():
        await producer.send_and_wait(settings.topic(topics.CHANGELOG), value, key, PARTITION)
    await producer.stop()
