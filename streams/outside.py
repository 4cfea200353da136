"""All that the shells of a worker reach outside its own memory: clocks, the broker, the disk.

They are given it, so that the same code runs on Kafka and this machine (cluster.py) and wherever
else somebody keeps to what is written here.
"""

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from streams.state.disk import Disk
from streams.state.partition_reader import PartitionReader


class Clock(Protocol):
    """Nobody else says what time it is."""

    def monotonic_ms(self) -> int:
        """For durations: never set back."""

    def wall_ms(self) -> int:
        """Milliseconds since 1970."""


class Producer(Protocol):
    """What an emitter asks of `AIOKafkaProducer`, and raises as that does; and more (producer.py).

    `earlier_outcome`, after the start: whether the last transaction that somebody had under the
    same id was committed; None: there was none, or the broker does not know.
    """

    @property
    def earlier_outcome(self) -> bool | None: ...

    async def start(self, seal: tuple[str, int] | None = None) -> None:
        """An open transaction of an earlier producer under the same id is aborted; but one that
        includes the topic partition `seal` is committed.
        """

    async def begin_transaction(self) -> None: ...
    async def commit_transaction(self) -> None: ...

    async def last_is_over(self) -> bool:
        """Waits until the coordinator has ended the last transaction on all its partitions. False:
        the connection to it was lost since, and one that comes back may have forgotten some.
        """

    async def end_hanging(self, partitions: Sequence[tuple[str, int]], *, commit: bool) -> None:
        """A transaction without records: its markers end whatever the same producer left open on
        these topic partitions.
        """

    async def send_batch(self, batch: Any, topic: str, *, partition: int) -> "asyncio.Future[Any]":
        """`batch` is a BatchBuilder; the future holds the `offset` of its first record."""

    async def discard(self) -> None:
        """Sends nothing more, and lets go of the broker; what is unanswered stays so."""


class Outside(Protocol):
    """Of one worker. Topics are named as on the broker by producers, else logically."""

    clock: Clock
    disk: Disk

    def producer(self, transactional_id: str | None, transaction_timeout_ms: int) -> Producer:
        """Idempotent; with an id, transactional. Not started yet."""

    def reader(
        self, partition: int, *, uncommitted: bool = False
    ) -> AbstractAsyncContextManager[PartitionReader]:
        """Reads the logs of one partition number; with `uncommitted` also what no transaction has
        committed. Entering it raises BrokerError.
        """

    async def group_offsets(self, partition: int) -> dict[str, int]:
        """What the group has committed of the event topics, by logical name; those it has not are
        left out. Raises BrokerError.
        """

    def new_identity(self) -> bytes:
        """16 bytes that nobody had before, for a new changelog."""
