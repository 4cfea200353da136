"""The batch transport on a real broker: every record once, in order, whatever the group does."""

import asyncio
import contextlib
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.protocol.group import LeaveGroupRequest
from brokers import Kafka, create_topics, fresh_settings

from streams import fetch_seam, transport
from streams.agents import ConsumerGroup, FlashcastApp, build_app
from streams.codec.batches import iter_records
from streams.codec.decode import Fetch
from streams.fetching import Drained
from streams.settings import Settings
from streams.topics import CATALOG, CLICKS, INPUT_TOPICS, ORDERS, REFERENCE_TOPICS

pytestmark = pytest.mark.kafka
PARTITIONS = 4


@dataclass
class Shelf:
    """What all workers of a group have seen of the log, as checkpoints would keep it."""

    records: dict[tuple[str, int], list[tuple[int, bytes | None]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    positions: dict[tuple[str, int], int] = field(default_factory=dict)


class Collector:
    """The smallest worker: keeps records, goes on where the shelf says."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self.ahead: frozenset[tuple[str, int]] = frozenset()
        self.assigned: set[int] = set()
        self.assignments: list[set[int]] = []
        self.empties: set[tuple[str, int, int]] = set()
        self.changed = asyncio.Event()
        self.failure: Exception | None = None

    async def offer(self, fetch: Fetch) -> None:
        name = (fetch.topic, fetch.partition)
        assert fetch.partition in self.assigned
        expected = self.shelf.positions.get(name, 0)
        if fetch.first_offset != expected:
            return
        for record in iter_records(fetch.data, fetch.first_offset):
            self.shelf.records[name].append((record.offset, record.value))
        self.shelf.positions[name] = fetch.next_offset
        self.changed.set()

    def answered(self, drained: Drained) -> None:
        for empty in drained.empties:
            self.empties.add((empty.topic, empty.partition, empty.position))
        if drained.empties:
            self.changed.set()

    def positions(self) -> dict[tuple[str, int], int]:
        names = [(topic, number) for topic in INPUT_TOPICS for number in self.assigned]
        return {name: self.shelf.positions.get(name, 0) for name in names}

    def committed(self) -> dict[tuple[str, int], int]:
        return {name: at for name, at in self.positions().items() if at}

    async def take_over(self, partitions: set[int], generation: int) -> bool:
        self.assigned = set(partitions)
        self.assignments.append(set(partitions))
        self.changed.set()
        return True

    async def hand_over(self) -> None:
        self.assigned = set()

    async def finish(self) -> None:
        self.assigned = set()

    def fail(self, error: Exception) -> None:
        self.failure = error
        self.changed.set()

    async def until(self, reached: Any, timeout_s: float = 30.0) -> None:
        async with asyncio.timeout(timeout_s):
            while not reached():
                self.changed.clear()
                await self.changed.wait()


@contextlib.asynccontextmanager
async def running(
    settings: Settings,
    shelf: Shelf,
    raw: bool = True,
    worker: Collector | None = None,
    commit_interval_s: float = 1.0,
) -> AsyncIterator[tuple[FlashcastApp, Collector]]:
    assert fetch_seam.seam_problem() is None
    app = build_app(settings, raw)
    app.conf.broker_commit_interval = commit_interval_s
    collector = worker or Collector(shelf)
    app.worker = collector
    starting = asyncio.create_task(app.start())
    try:
        yield app, collector
    finally:
        await app.stop()
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)


async def publish(
    settings: Settings, topic: str, partition: int, values: list[bytes], **options: Any
) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=settings.bootstrap_servers, **options)
    await producer.start()
    try:
        for value in values:  # a compacted topic wants keys
            await producer.send(settings.topic(topic), value, key=value, partition=partition)
    finally:
        await producer.stop()


def numbered(count: int, mark: str = "") -> list[bytes]:
    return [f"{mark}{number}".encode() for number in range(count)]


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "record by record"])
async def test_every_record_arrives_once_and_in_order(kafka_settings: Settings, raw: bool) -> None:
    shelf = Shelf()
    for number in range(PARTITIONS):
        await publish(kafka_settings, CLICKS, number, numbered(500), compression_type="lz4")
    await publish(kafka_settings, ORDERS, 2, numbered(100))
    async with running(kafka_settings, shelf, raw) as (_, collector):
        await collector.until(lambda: sum(map(len, shelf.records.values())) >= 2_100)
    for number in range(PARTITIONS):
        assert [value for _, value in shelf.records[CLICKS, number]] == numbered(500)
    assert [value for _, value in shelf.records[ORDERS, 2]] == numbered(100)


async def test_what_a_transaction_aborted_is_never_seen(kafka_settings: Settings) -> None:
    shelf = Shelf()
    producer = AIOKafkaProducer(
        bootstrap_servers=kafka_settings.bootstrap_servers, transactional_id=f"t-{uuid.uuid4()}"
    )
    await producer.start()
    topic = kafka_settings.topic(CLICKS)
    for mark in ("kept", "aborted", "kept too"):
        await producer.begin_transaction()
        for value in numbered(50, mark):
            await producer.send(topic, value, partition=1)
        await (producer.abort_transaction() if mark == "aborted" else producer.commit_transaction())
    await producer.stop()
    async with running(kafka_settings, shelf) as (_, collector):
        await collector.until(lambda: shelf.positions.get((CLICKS, 1)) == 153)  # 3 control records
    values = [value for _, value in shelf.records[CLICKS, 1]]
    assert values == numbered(50, "kept") + numbered(50, "kept too")


async def test_a_topic_partition_at_its_end_is_answered_empty(kafka_settings: Settings) -> None:
    shelf = Shelf()
    await publish(kafka_settings, CLICKS, 0, numbered(7))
    async with running(kafka_settings, shelf) as (_, collector):
        await collector.until(
            lambda: {(CLICKS, 0, 7), (ORDERS, 0, 0), (CLICKS, 3, 0)} <= collector.empties
        )


async def test_a_partition_that_is_ahead_is_not_fetched(kafka_settings: Settings) -> None:
    shelf = Shelf()
    async with running(kafka_settings, shelf) as (app, collector):
        await collector.until(lambda: (ORDERS, 0, 0) in collector.empties)
        fetcher = app.consumer.thread._consumer._fetcher
        assert fetcher._fetch_max_wait_ms == transport.FETCH_WAIT_MS
        collector.ahead = frozenset({(CLICKS, 0)})
        await publish(kafka_settings, ORDERS, 0, numbered(1))
        await collector.until(lambda: (ORDERS, 0, 1) in collector.empties)
        await publish(kafka_settings, CLICKS, 0, numbered(5))
        await publish(kafka_settings, ORDERS, 0, numbered(5))
        await collector.until(lambda: (ORDERS, 0, 6) in collector.empties)
        assert (CLICKS, 0) not in shelf.records
        # what has room again waits for the answer to the fetch in flight, so that one is short
        assert fetcher._fetch_max_wait_ms < transport.FETCH_WAIT_MS
        collector.ahead = frozenset()
        await collector.until(lambda: len(shelf.records[CLICKS, 0]) == 5)


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "record by record"])
async def test_while_any_is_ahead_reference_topics_are_asked_for_seldom_and_read_all_the_same(
    kafka_settings: Settings, raw: bool
) -> None:
    shelf = Shelf()
    async with running(kafka_settings, shelf, raw) as (app, collector):
        await collector.until(lambda: (ORDERS, 0, 0) in collector.empties)
        consumer = app.consumer.thread._consumer
        references = {
            TopicPartition(kafka_settings.topic(name), number)
            for name in REFERENCE_TOPICS
            for number in range(PARTITIONS)
        }
        assert not consumer.paused()
        collector.ahead = frozenset({(CLICKS, 0)})
        for count in range(1, 4):
            await collector.until(lambda: references < consumer.paused())
            await publish(kafka_settings, CATALOG, 2, numbered(1))
            await collector.until(lambda count=count: len(shelf.records[CATALOG, 2]) == count)
        collector.ahead = frozenset()
        await collector.until(lambda: not consumer.paused())


async def test_two_workers_share_partitions_whole_and_miss_nothing(
    kafka_settings: Settings,
) -> None:
    shelf = Shelf()
    stop = asyncio.Event()

    async def keep_publishing() -> int:
        sent = 0
        producer = AIOKafkaProducer(bootstrap_servers=kafka_settings.bootstrap_servers)
        await producer.start()
        while not stop.is_set():
            for number in range(PARTITIONS):
                topic = kafka_settings.topic(CLICKS)
                await producer.send_and_wait(topic, str(sent).encode(), partition=number)
            sent += 1
        await producer.stop()
        return sent

    publishing = asyncio.create_task(keep_publishing())
    async with running(kafka_settings, shelf) as (_, first):
        await first.until(lambda: first.assigned == set(range(PARTITIONS)))
        async with running(kafka_settings, shelf) as (_, second):
            await second.until(lambda: len(second.assigned) == PARTITIONS // 2)
            await first.until(lambda: len(first.assigned) == PARTITIONS // 2)
            assert first.assigned | second.assigned == set(range(PARTITIONS))
        await first.until(lambda: len(first.assigned) == PARTITIONS)
        stop.set()
        sent = await publishing
        await first.until(
            lambda: all(len(shelf.records[CLICKS, n]) == sent for n in range(PARTITIONS))
        )
    for number in range(PARTITIONS):
        assert [value for _, value in shelf.records[CLICKS, number]] == numbered(sent)


class Slow(Collector):
    """Gives up what it has once `let_go` is set."""

    def __init__(self, shelf: Shelf) -> None:
        super().__init__(shelf)
        self.let_go = asyncio.Event()
        self.let_go.set()

    async def hand_over(self) -> None:
        await self.let_go.wait()
        await super().hand_over()


class Committing(Collector):
    """Calls `on_commit` whenever it is asked what to commit."""

    on_commit: Callable[[], None] = staticmethod(lambda: None)

    def committed(self) -> dict[tuple[str, int], int]:
        self.on_commit()
        return {(topic, number): at for (topic, number), at in self.shelf.positions.items() if at}


async def test_offsets_are_not_committed_while_others_are_waited_for_to_join(
    kafka_settings: Settings,
) -> None:
    shelf = Shelf()
    for number in range(PARTITIONS):
        await publish(kafka_settings, CLICKS, number, numbered(5))
    committing, slow = Committing(shelf), Slow(shelf)
    async with contextlib.AsyncExitStack() as both:
        first = running(kafka_settings, shelf, worker=committing, commit_interval_s=0.01)
        app, _ = await both.enter_async_context(first)
        await committing.until(lambda: len(committing.assigned) == PARTITIONS)  # so it leads
        await both.enter_async_context(running(kafka_settings, shelf, worker=slow))
        for one in (committing, slow):
            await one.until(lambda one=one: len(one.assigned) == PARTITIONS // 2)
        await committing.until(lambda: len(shelf.records) == PARTITIONS)
        coordinator = app.consumer.thread._consumer._coordinator
        joining = 0  # commits that fell due while the other was waited for

        def count() -> None:
            nonlocal joining
            joining += coordinator._performed_join_prepare
            if joining == 5:
                slow.let_go.set()

        member, generation = coordinator.member_id, coordinator.generation
        assignments = len(committing.assignments)
        slow.let_go.clear()
        committing.on_commit = count
        await app.consumer.thread.rejoin()
        await committing.until(lambda: len(committing.assignments) > assignments)
        assert joining >= 5
        # a commit that fails, its generation being over by then, asks to join again
        assert not coordinator._rejoin_needed_fut.done()
        assert (coordinator.member_id, coordinator.generation) == (member, generation + 1)


class Asking(Collector):
    """Asks the group before it gives anything up, as a worker does that uses no transactions."""

    group: ConsumerGroup
    answer: bool | None = None

    async def hand_over(self) -> None:
        self.answer = await self.group.owns(self.committed())
        await super().hand_over()


async def test_whoever_was_thrown_out_of_the_group_is_no_owner_though_nobody_else_is_there(
    kafka_settings: Settings,
) -> None:
    shelf = Shelf()
    await publish(kafka_settings, CLICKS, 0, numbered(5))
    asking = Asking(shelf)
    async with running(kafka_settings, shelf, worker=asking) as (app, _):
        asking.group = ConsumerGroup(app)
        await asking.until(lambda: (CLICKS, 0, 5) in asking.empties)
        assert await asking.group.owns(asking.committed())
        coordinator = app.consumer.thread._consumer._coordinator

        async def throw_out() -> None:
            await coordinator._send_req(
                LeaveGroupRequest(coordinator.group_id, coordinator.member_id)
            )

        await app.consumer.thread.call_thread(throw_out)
        await asking.until(lambda: len(asking.assignments) == 2)
        assert asking.answer is False


async def test_offsets_that_could_not_be_committed_are_committed_later(
    kafka_settings: Settings,
) -> None:
    shelf = Shelf()
    await publish(kafka_settings, CLICKS, 0, numbered(5))
    async with running(kafka_settings, shelf, commit_interval_s=60) as (app, collector):
        await collector.until(lambda: (CLICKS, 0, 5) in collector.empties)
        coordinator = app.consumer.thread._consumer._coordinator
        generation, coordinator.generation = coordinator.generation, -1
        assert not await app.consumer.commit()
        coordinator.generation = generation
        assert await app.consumer.commit()


async def test_a_position_that_retention_took_is_a_failure_and_not_a_gap(
    kafka: Kafka, tmp_path: Any
) -> None:
    settings = fresh_settings(kafka.bootstrap_servers, tmp_path)
    create_topics(settings)
    shelf = Shelf(positions={(CLICKS, 0): 1_000})
    async with running(settings, shelf) as (_, collector):
        await collector.until(lambda: collector.failure is not None)
    assert "offset 1000 is no longer on the broker" in str(collector.failure)
