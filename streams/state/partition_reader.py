"""Reads stretches of the log of one partition number, outside any group: for restores."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from streams.codec.batches import iter_records
from streams.codec.decode import Fetch
from streams.errors import BrokerError
from streams.fetching import RawReader, client_options, isolation_level, offsets_of
from streams.settings import Settings

LogRecord = tuple[int, bytes | None, bytes | None]  # offset, key, value


class PartitionReader:
    """Reads one partition number of our topics, by logical name."""

    def __init__(self, settings: Settings, partition: int, consumer: AIOKafkaConsumer) -> None:
        self._settings = settings
        self._partition = partition
        self._consumer = consumer
        self._reader = RawReader(consumer, lambda name: name.removeprefix(settings.topic_prefix))

    async def start_of(self, topic: str) -> int:
        """The offset of the log's earliest record."""
        return await self._offset(self._consumer.beginning_offsets, topic)

    async def end_of(self, topic: str) -> int:
        """The offset behind the last record that may be read: with transactions the last stable
        one.
        """
        return await self._offset(self._consumer.end_offsets, topic)

    async def read(self, topic: str, begin: int, end: int) -> AsyncIterator[Fetch]:
        """Records with begin <= offset < end. Raises BrokerError, StateError when
        the log no longer reaches back to `begin`.
        """
        name = self._settings.topic(topic)
        try:
            async for fetch in self._reader.read(name, self._partition, begin, end):
                yield fetch
        except KafkaError as error:
            raise BrokerError(f"{name}/{self._partition} cannot be read: {error!r}") from error

    async def records(self, topic: str, begin: int, end: int) -> AsyncIterator[list[LogRecord]]:
        """The same, a fetch's records at a time, decoded in a worker thread."""

        def decode(fetch: Fetch) -> list[LogRecord]:
            records = iter_records(fetch.data, fetch.first_offset)
            return [(one.offset, one.key, one.value) for one in records]

        async for fetch in self.read(topic, begin, end):
            yield await asyncio.to_thread(decode, fetch)

    async def _offset(self, lookup: Callable[..., object], topic: str) -> int:
        found = await offsets_of(lookup, self._settings.topic(topic), [self._partition])
        return found[self._partition]


@asynccontextmanager
async def reader_for(settings: Settings, partition: int) -> AsyncIterator[PartitionReader]:
    """A reader with a consumer of its own, in no group."""
    consumer = AIOKafkaConsumer(
        **client_options(settings),
        enable_auto_commit=False,
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
