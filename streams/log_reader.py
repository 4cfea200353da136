"""Reads stretches of topic partitions record by record, outside any group: for checks and tools."""

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Final, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.record.memory_records import MemoryRecords

from streams.codec.decode import Fetch
from streams.codec.plain import Record
from streams.denied import denied, unseen
from streams.errors import BrokerError, ConfigurationError
from streams.fetch_seam import seam_problem
from streams.fetching import RawReader, client_options, isolation_level
from streams.settings import Settings
from streams.unreachable import diagnosed

FETCH_WAIT_MS: Final = 20  # requests for offsets wait behind a fetch on the same connection
METADATA_TIMEOUT_S: Final = 15.0


class LogReader:
    """`async with LogReader(settings) as reader:`; topics are given by their logical names.

    Reads committed records only, unless the guarantee is `at_least_once`. Raises BrokerError when
    the broker refuses or falls silent.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._consumer: AIOKafkaConsumer | None = None
        self._reader: RawReader | None = None

    async def __aenter__(self) -> Self:
        seam_problem()  # puts the seam in place, if it can be
        self._consumer = AIOKafkaConsumer(
            **client_options(self._settings),
            isolation_level=isolation_level(self._settings),
            enable_auto_commit=False,
            auto_offset_reset="none",
            fetch_max_wait_ms=FETCH_WAIT_MS,
            check_crcs=False,  # read_batches checks them
            max_partition_fetch_bytes=8 * 2**20,
            fetch_max_bytes=16 * 2**20,
        )
        try:
            await self._consumer.start()
        except (KafkaError, OSError) as error:
            await self._consumer.stop()
            raise await diagnosed(self._settings, error) from None
        self._reader = RawReader(self._consumer, lambda name: name)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        consumer, self._consumer = self._consumer, None
        assert consumer is not None
        await consumer.stop()

    async def partitions(self, topic: str) -> int:
        """How many partitions the topic has. Raises ConfigurationError when it is not there."""
        name = self._settings.topic(topic)
        assert self._consumer is not None
        try:
            async with asyncio.timeout(METADATA_TIMEOUT_S):
                found = (await self._consumer._client.fetch_all_metadata()).partitions_for_topic(
                    name
                )
        except (TimeoutError, KafkaError) as error:
            raise BrokerError(f"{name}: metadata cannot be read: {error}") from None
        if not found:
            raise ConfigurationError(
                f"topic {name!r} is {unseen(self._settings)}: run `flashcast topics create` first"
            )
        return len(found)

    async def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """(first offset, next offset to be written) as a reader sees them."""
        tp = TopicPartition(self._settings.topic(topic), partition)
        assert self._consumer is not None
        try:
            begin = await self._consumer.beginning_offsets([tp])
            end = await self._consumer.end_offsets([tp])
        except KafkaError as error:
            raise denied(self._settings, error, "Read") or BrokerError(
                f"{tp.topic}/{partition}: offsets cannot be read: {error}"
            ) from None
        return begin[tp], end[tp]

    async def read(
        self, topic: str, partition: int, begin: int, end: int
    ) -> AsyncIterator[list[Record]]:
        """Every record with begin <= offset < end, in slices. One that is `unreadable` stands for
        a batch. Raises BrokerError, StateError when the log no longer reaches back to `begin`.
        """
        assert self._reader is not None
        try:
            async for fetch in self._reader.read(
                self._settings.topic(topic), partition, begin, end
            ):
                if records := await asyncio.to_thread(records_of, fetch):
                    yield records
        except (KafkaError, BrokerError) as error:
            raise denied(self._settings, error, "Read") or BrokerError(
                f"{topic}/{partition}: {error}"
            ) from None


def records_of(fetch: Fetch) -> list[Record]:
    """By aiokafka's compiled parser, from bytes that have been checked. One that is `unreadable`
    stands for a batch.
    """
    found: list[Record] = []
    batches = MemoryRecords(fetch.data)
    while batches.has_next():
        found += [
            Record(
                one.offset,
                one.timestamp,
                one.key,
                one.value,
                list(one.headers),
                unreadable=fetch.unreadable.get(one.offset),
            )
            for one in batches.next_batch()
            if one.offset >= fetch.first_offset
        ]
    return found
