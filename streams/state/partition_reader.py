"""Reads stretches of the log of one partition number, outside any group: for restores."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable
from typing import NamedTuple

from aiokafka.errors import KafkaError
from aiokafka.record.memory_records import MemoryRecords

from streams.codec.decode import Fetch
from streams.errors import CodecError, StateError
from streams.row_bounds import REMEDY
from streams.topics import CHANGELOG

LogRecord = tuple[int, bytes | None, bytes | None]  # offset, key, value


class Bounds(NamedTuple):
    """Of one log: the earliest offset, and the one behind the last that may be read."""

    start: int
    end: int


class PartitionReader(ABC):
    """Of our topics, by logical name. Only committed records, where the broker has transactions."""

    def __init__(self, partition: int) -> None:
        self.partition = partition

    @abstractmethod
    async def bounds(self, names: Iterable[str]) -> dict[str, Bounds]:
        """Where the logs of these topics begin and end now. With transactions the end is the last
        stable offset: what comes behind it cannot be read yet. Raises BrokerError.
        """

    @abstractmethod
    def read(self, topic: str, begin: int, end: int) -> AsyncIterator[Fetch]:
        """Records with begin <= offset < end. Raises BrokerError, StateError when
        the log no longer reaches back to `begin`.
        """

    async def records(self, topic: str, begin: int, end: int) -> AsyncIterator[list[LogRecord]]:
        """The same, a fetch's records at a time, decoded in a worker thread. Raises StateError too,
        when batches of the changelog cannot be read.
        """
        async for fetch in self.read(topic, begin, end):
            if fetch.unreadable and topic == CHANGELOG:
                offset, why = next(iter(fetch.unreadable.items()))
                raise StateError(
                    f"{topic}/{self.partition}: the batch at offset {offset} "
                    f"cannot be read ({why}): {REMEDY}"
                )
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
