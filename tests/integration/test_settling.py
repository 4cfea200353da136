"""Transactions that a broker calls complete although it wrote no marker: a restore ends them."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from brokers import LAUNCHER, Kafka, create_topics, fresh_settings, launch
from checkpoints import PARTITION, checkpoint, emitter_of, levels, offsets, restored

from streams import topics
from streams.checkpoint import Checkpoint, Output
from streams.cluster import Cluster, KafkaProducer, SystemClock
from streams.codec.batches import iter_records
from streams.codec.write import encode_records
from streams.emit import PARTITION_TOPICS, TransactionalEmitter
from streams.errors import BrokerError
from streams.settings import Settings
from streams.state import changelog
from streams.state.local_copy import LocalCopy, Place
from streams.state.places import COPY_AGE_MS_MAX, copy_folder
from streams.state.rocksdb import RocksDisk

pytestmark = pytest.mark.kafka
SKUS = ["S1", "S2"]


@pytest.fixture(scope="module")
def lenient_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """It takes records of a transaction that its coordinator knows nothing of, as there are after
    the coordinator has forgotten them.
    """
    if not LAUNCHER:
        pytest.skip("FLASHCAST_TEST_KAFKA does not name a launcher of Apache Kafka")
    directory = tmp_path_factory.mktemp("lenient") / "broker"
    unverified = ["--set", "transaction.partition.verification.enable=false"]
    try:
        cluster = json.loads(launch("start", "--dir", str(directory), *unverified))
        yield Kafka(directory, cluster["bootstrap_servers"])
    finally:
        launch("stop", "--dir", str(directory), "--kill")


@pytest.fixture
def settings(lenient_kafka: Kafka, tmp_path: Path) -> Settings:
    fresh = fresh_settings(lenient_kafka.bootstrap_servers, tmp_path / "data")
    create_topics(fresh)
    return fresh


async def leave_open(
    settings: Settings, outputs: list[Output], sent_ms: int = 1_700_000_000_000
) -> None:
    """Records of a transaction that nobody will end: the coordinator is never told of it."""
    producer: KafkaProducer = Cluster(settings).producer(
        settings.transactional_id(f"p{PARTITION}"), 30_000
    )
    await producer.start()
    await producer.begin_transaction()
    sent = []
    for output in outputs:
        name = settings.topic(output.topic)
        producer._txn_manager._txn_partitions.add(TopicPartition(name, PARTITION))
        batch = output.batch.builder(sent_ms, transactional=True)
        sent.append(await producer.send_batch(batch, name, partition=PARTITION))
    for future in sent:
        await future
    await producer.discard()


async def ends(settings: Settings, isolation_level: str) -> dict[str, int]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.bootstrap_servers, isolation_level=isolation_level
    )
    await consumer.start()
    try:
        places = {
            TopicPartition(settings.topic(name), PARTITION): name for name in PARTITION_TOPICS
        }
        found = await consumer.end_offsets(list(places))
        return {places[place]: offset for place, offset in found.items()}
    finally:
        await consumer.stop()


async def values(settings: Settings, topic: str) -> list[bytes]:
    found: list[bytes] = []
    async with Cluster(settings).reader(PARTITION) as reader:
        (bounds,) = (await reader.bounds([topic])).values()
        async for records in reader.records(topic, *bounds):
            found += [value for _, _, value in records if value is not None]
    return found


async def last_sent_ms(settings: Settings) -> int:
    """All batches of one transaction carry the same timestamp."""
    found: list[int] = []
    async with Cluster(settings).reader(PARTITION) as reader:
        (bounds,) = (await reader.bounds([topics.CHANGELOG])).values()
        async for fetch in reader.read(topics.CHANGELOG, *bounds):
            found += [one.timestamp_ms for one in iter_records(fetch.data)]
    return found[-1]


def made(step: int) -> Checkpoint:
    return checkpoint(step, SKUS, offsets=offsets(0))


def everything(taken: Checkpoint) -> list[Output]:
    records = changelog.encode(taken, [], None).batches()
    return [*taken.outputs, *(Output(topics.CHANGELOG, batch) for batch in records)]


async def commit(settings: Settings, taken: Checkpoint) -> None:
    emitter = emitter_of(settings)
    await restored(settings, emitter)
    await emitter.commit(taken)
    await emitter.stop()


def test_a_transaction_left_open_is_taken_back_everywhere_and_done_again_once(
    settings: Settings,
) -> None:
    async def drill() -> None:
        await commit(settings, made(1))
        await leave_open(settings, everything(made(2)))
        before = await ends(settings, "read_committed")
        assert before[topics.CHANGELOG] < (await ends(settings, "read_uncommitted"))["changelog"]
        emitter = emitter_of(settings)
        state = await restored(settings, emitter)
        assert await ends(settings, "read_committed") == await ends(settings, "read_uncommitted")
        assert levels(state) == {"S1": 1.0, "S2": 1.0}
        await emitter.commit(made(2))
        await emitter.stop()
        windows = await values(settings, topics.DEMAND_WINDOWS)
        assert windows == [b"S1 at 1", b"S2 at 1", b"S1 at 2", b"S2 at 2"]

    asyncio.run(drill())


def test_outputs_left_open_by_a_transaction_whose_state_was_committed_are_committed(
    settings: Settings,
) -> None:
    (batch,) = encode_records([(b"S1", b"late", [])])

    async def drill() -> None:
        await commit(settings, made(1))
        sent_ms = await last_sent_ms(settings)
        await leave_open(settings, [Output(topics.LATE_EVENTS, batch)], sent_ms)
        assert await values(settings, topics.LATE_EVENTS) == []
        await commit(settings, made(2))
        assert await values(settings, topics.LATE_EVENTS) == [b"late"]

    asyncio.run(drill())


def test_a_local_copy_whose_checkpoint_was_taken_back_is_not_used(settings: Settings) -> None:
    """The coordinator said committed and the copy was written; then the broker lost the markers."""

    async def drill() -> None:
        await commit(settings, made(1))
        taken_back = made(2)
        await leave_open(settings, everything(taken_back))
        end = (await ends(settings, "read_uncommitted"))[topics.CHANGELOG]
        copy = LocalCopy(RocksDisk(), copy_folder(settings, PARTITION))
        copy.open()
        place = copy.place(SystemClock().wall_ms(), COPY_AGE_MS_MAX)
        assert place is not None
        copy.write(
            changelog.changes(taken_back, []),
            Place(end, end - 1, place.identity, place.identity_offset, place.written_ms),
        )
        copy.close()
        emitter = emitter_of(settings)
        state = await restored(settings, emitter)
        await emitter.stop()
        assert not state.stats.copy_used
        assert "taken back" in (state.stats.copy_problem or "")
        assert levels(state) == {"S1": 1.0, "S2": 1.0}

    asyncio.run(drill())


async def outcome_before(settings: Settings) -> bool | None:
    """As a new owner of the id is told."""
    producer = Cluster(settings).producer(settings.transactional_id(f"p{PARTITION}"), 30_000)
    try:
        await producer.start()
        return producer.earlier_outcome
    finally:
        await producer.discard()


def test_a_new_owner_is_told_how_the_last_transaction_ended(settings: Settings) -> None:
    async def drill() -> None:
        assert await outcome_before(settings) is None
        await commit(settings, made(1))
        assert await outcome_before(settings) is True
        assert await outcome_before(settings) is None, "the broker forgets it with the next owner"
        producer = Cluster(settings).producer(settings.transactional_id(f"p{PARTITION}"), 30_000)
        await producer.start()
        await producer.begin_transaction()
        (batch,) = encode_records([(b"S1", b"late", [])])
        name = settings.topic(topics.LATE_EVENTS)
        builder = batch.builder(1_700_000_000_000, transactional=True)
        await (await producer.send_batch(builder, name, partition=PARTITION))
        await producer.discard()
        assert await outcome_before(settings) is False, "it was left open, and is aborted"

    asyncio.run(drill())


def test_after_a_commit_whose_coordinator_was_lost_the_partition_is_restored(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody but a restarted broker forgets markers; that they may be forgotten is enough."""
    commit_transaction = KafkaProducer.commit_transaction

    async def lose_coordinator(self: KafkaProducer) -> None:
        await commit_transaction(self)
        self._connection().close()

    async def drill() -> None:
        await commit(settings, made(1))
        with monkeypatch.context() as patched, pytest.raises(BrokerError, match="was lost"):
            patched.setattr(KafkaProducer, "commit_transaction", lose_coordinator)
            await commit(settings, made(2))
        emitter = emitter_of(settings)
        state = await restored(settings, emitter)
        await emitter.stop()
        assert levels(state) == {"S1": 2.0, "S2": 2.0}
        windows = await values(settings, topics.DEMAND_WINDOWS)
        assert windows == [b"S1 at 1", b"S2 at 1", b"S1 at 2", b"S2 at 2"]

    asyncio.run(drill())


@pytest.mark.parametrize("committed", [True, False])
def test_a_worker_that_dies_while_it_ends_an_open_transaction_leaves_it_as_it_was_decided(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    async def die(self: KafkaProducer) -> None:
        while self._txn_manager.partitions_to_add():  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)  # until the coordinator has them
        raise BrokerError("killed")

    async def drill() -> None:
        await commit(settings, made(1))
        await leave_open(settings, everything(made(2)))
        dying = emitter_of(settings)
        await dying.start()
        assert isinstance(dying, TransactionalEmitter)
        end = "commit_transaction" if committed else "abort_transaction"
        with monkeypatch.context() as patched, pytest.raises(BrokerError, match="killed"):
            patched.setattr(KafkaProducer, end, die)
            await dying.end_hanging(PARTITION_TOPICS, commit=committed)
        emitter = emitter_of(settings)
        state = await restored(settings, emitter)
        await emitter.stop()
        assert levels(state) == ({"S1": 2.0, "S2": 2.0} if committed else {"S1": 1.0, "S2": 1.0})
        assert await ends(settings, "read_committed") == await ends(settings, "read_uncommitted")
        windows = await values(settings, topics.DEMAND_WINDOWS)
        assert windows[2:] == ([b"S1 at 2", b"S2 at 2"] if committed else [])

    asyncio.run(drill())
