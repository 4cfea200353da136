"""Reads stretches of the log of one partition number, outside any group: for restores."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.record.memory_records import MemoryRecords

from streams.codec.decode import Fetch
from streams.errors import BrokerError, CodecError
from streams.fetching import RawReader, client_options, isolation_level
from streams.settings import Settings

FETCH_WAIT_MS: Final = 20  # a request for offsets waits behind a fetch on the same connection

LogRecord = tuple[int, bytes | None, bytes | None]  # offset, key, value


class Bounds(NamedTuple):
    """Of one log: the earliest offset, and the one behind the last that may be read."""

    start: int
    end: int


class PartitionReader:
    """Reads one partition number of our topics, by logical name."""

    def __init__(self, settings: Settings, partition: int, consumer: AIOKafkaConsumer) -> None:
        self._settings = settings
        self.partition = partition
        self._consumer = consumer
        self._reader = RawReader(consumer, lambda name: name.removeprefix(settings.topic_prefix))

    async def bounds(self, names: Iterable[str]) -> dict[str, Bounds]:
        """Where the logs of these topics begin and end now. With transactions the end is the last
        stable offset: what comes behind it cannot be read yet.
        """
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
            raise BrokerError(
                f"no offsets of partition {self.partition} of {missing}: {error!r}"
            ) from error
        return {name: Bounds(starts[tp], ends[tp]) for tp, name in wanted.items()}

    async def read(self, topic: str, begin: int, end: int) -> AsyncIterator[Fetch]:
        """Records with begin <= offset < end. Raises BrokerError, StateError when
        the log no longer reaches back to `begin`.
        """
        name = self._settings.topic(topic)
        try:
            async for fetch in self._reader.read(name, self.partition, begin, end):
                yield fetch
        except KafkaError as error:
            raise BrokerError(f"{name}/{self.partition} cannot be read: {error!r}") from error

    async def records(self, topic: str, begin: int, end: int) -> AsyncIterator[list[LogRecord]]:
        """The same, a fetch's records at a time, decoded in a worker thread."""
        async for fetch in self.read(topic, begin, end):
            yield await asyncio.to_thread(log_records, fetch)


def log_records(fetch: Fetch) -> list[LogRecord]:
    """The records of one fetch, by aiokafka's compiled parser: under 1 us each, where ours in
    Python, made to say what is wrong with a record, takes ten. Raises CodecError.
    """
    found: list[LogRecord] = []
    batches = MemoryRecords(fetch.data)
    try:
        while batches.has_next():
            found += [
                (one.offset, one.key, one.value)
                for one in batches.next_batch()
                if one.offset >= fetch.first_offset
            ]
    except (KafkaError, ValueError, IndexError) as error:
        where = f"{fetch.topic}/{fetch.partition} at offset {fetch.first_offset}"
        raise CodecError(f"records of {where} cannot be read: {error!r}") from error
    return found


@asynccontextmanager
async def reader_for(settings: Settings, partition: int) -> AsyncIterator[PartitionReader]:
    """A reader with a consumer of its own, in no group."""
    consumer = AIOKafkaConsumer(
        **client_options(settings),
        enable_auto_commit=False,
        fetch_max_wait_ms=FETCH_WAIT_MS,
        auto_offset_reset="none",  # a gap must be an error, never skipped
        isolation_level=isolation_level(settings),
        check_crcs=False,  # read_batches checks them
    )
    try:
        try:
            await consumer.start()
        except KafkaError as error:
            raise BrokerError(f"{settings.bootstrap_servers}: {error!r}") from error
        yield PartitionReader(settings, partition, consumer)
    finally:
        await consumer.stop()
