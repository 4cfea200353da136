"""What a worker reaches outside its own memory (outside.py), in earnest: Apache Kafka by aiokafka,
the clocks and the disk of this machine.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from streams.codec.decode import Fetch
from streams.denied import denied
from streams.errors import BrokerError
from streams.fetching import RawReader, client_options, isolation_level, leave
from streams.outside import Clock
from streams.producer import KafkaProducer
from streams.settings import Settings
from streams.state.disk import Disk
from streams.state.partition_reader import Bounds, PartitionReader
from streams.state.rocksdb import RocksDisk
from streams.topics import EVENT_TOPICS

FETCH_WAIT_MS: Final = 20  # a request for offsets waits behind a fetch on the same connection
COORDINATOR_TIMEOUT_S: Final = 30.0


class SystemClock:
    """This machine's clocks."""

    def monotonic_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000


class KafkaReader(PartitionReader):
    """`consumer` is started, has no group and no other user."""

    def __init__(self, settings: Settings, partition: int, consumer: AIOKafkaConsumer) -> None:
        super().__init__(partition)
        self._settings = settings
        self._consumer = consumer
        self._reader = RawReader(consumer, lambda name: name.removeprefix(settings.topic_prefix))

    async def bounds(self, names: Iterable[str]) -> dict[str, Bounds]:
        wanted = {
            TopicPartition(self._settings.topic(name), self.partition): name for name in names
        }
        try:
            # Told of all at once; it would else learn of one topic after the other, 0.1 s each.
            await self._consumer._client.set_topics([tp.topic for tp in wanted])
            starts = await self._consumer.beginning_offsets(list(wanted))
            ends = await self._consumer.end_offsets(list(wanted))
        except KafkaError as error:
            missing = ", ".join(tp.topic for tp in wanted)
            raise denied(self._settings, error, "Read") or BrokerError(
                f"no offsets of partition {self.partition} of {missing}: {error!r}"
            ) from error
        return {name: Bounds(starts[tp], ends[tp]) for tp, name in wanted.items()}

    async def read(self, topic: str, begin: int, end: int) -> AsyncIterator[Fetch]:
        name = self._settings.topic(topic)
        try:
            async for fetch in self._reader.read(name, self.partition, begin, end):
                yield fetch
        except (KafkaError, BrokerError) as error:
            raise denied(self._settings, error, "Read") or BrokerError(
                f"{name}/{self.partition} cannot be read: {error}"
            ) from error


class Cluster:
    """The broker that the settings name, and this machine."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.clock: Clock = SystemClock()
        self.disk: Disk = RocksDisk()

    def producer(self, transactional_id: str | None, transaction_timeout_ms: int) -> KafkaProducer:
        options: dict[str, Any] = {"enable_idempotence": True}
        if transactional_id is not None:
            options = {
                "transactional_id": transactional_id,
                "transaction_timeout_ms": transaction_timeout_ms,
            }
        return KafkaProducer(**client_options(self._settings), **options)

    @asynccontextmanager
    async def reader(
        self, partition: int, *, uncommitted: bool = False
    ) -> AsyncIterator[PartitionReader]:
        """With a consumer of its own, in no group."""
        settings = self._settings
        consumer = AIOKafkaConsumer(
            **client_options(settings),
            enable_auto_commit=False,
            fetch_max_wait_ms=FETCH_WAIT_MS,
            auto_offset_reset="none",  # a gap must be an error, never skipped
            isolation_level="read_uncommitted" if uncommitted else isolation_level(settings),
            check_crcs=False,  # read_batches checks them
        )
        try:
            try:
                await consumer.start()
            except KafkaError as error:
                raise BrokerError(f"{settings.bootstrap_servers}: {error!r}") from error
            yield KafkaReader(settings, partition, consumer)
        finally:
            await leave(consumer)

    async def group_offsets(self, partition: int) -> dict[str, int]:
        """Waits for a coordinator, which a new cluster has yet to appoint."""
        settings = self._settings
        group = settings.topic(settings.application)
        consumer = AIOKafkaConsumer(
            **client_options(settings), group_id=group, enable_auto_commit=False
        )
        found: dict[str, int | None] = {}
        try:
            async with asyncio.timeout(COORDINATOR_TIMEOUT_S):
                await consumer.start()
                for topic in EVENT_TOPICS:
                    tp = TopicPartition(settings.topic(topic), partition)
                    found[topic] = await consumer.committed(tp)
        except (KafkaError, TimeoutError) as error:
            raise denied(settings, error, "Read") or BrokerError(
                f"the offsets of group {group!r} cannot be read: {error!r}"
            ) from error
        finally:
            await consumer.stop()
        return {topic: offset for topic, offset in found.items() if offset is not None}

    def new_identity(self) -> bytes:
        return uuid.uuid4().bytes
