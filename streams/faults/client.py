"""What a simulated worker reaches outside (streams/outside.py): clients of the simulated broker."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from aiokafka.errors import (
    ConcurrentTransactions,
    InvalidProducerEpoch,
    InvalidTxnState,
    KafkaConnectionError,
    KafkaError,
    MessageSizeTooLargeError,
    OffsetOutOfRangeError,
    ProducerFenced,
    RequestTimedOutError,
)

from streams.codec.batches import read_batches
from streams.codec.decode import Fetch
from streams.errors import BrokerError, StateError
from streams.faults.broker import BACKOFF_S, EPOCH_MS, Broker
from streams.faults.disk import SimulatedDisk
from streams.faults.logs import Answer
from streams.faults.transactions import LogName
from streams.fetching import cut
from streams.outside import Clock, Producer
from streams.settings import Settings
from streams.state.disk import Disk
from streams.state.partition_reader import Bounds, PartitionReader
from streams.topics import EVENT_TOPICS

FETCH_BYTES_MAX: Final = 20_000
SHORT_FETCH_BYTES_MAX: Final = 400
LOST: Final = (KafkaConnectionError, RequestTimedOutError)
READ_AGAIN_S: Final = 0.05
STALL_TIMEOUT_S: Final = 60.0
AHEAD_MS_MAX: Final = 40


class Placed(NamedTuple):
    """Of a batch: what an emitter reads of aiokafka's metadata."""

    offset: int


class SimulatedProducer:
    """As aiokafka's: a lane for each log, in order; a commit flushes, and does not ask whether
    every batch was taken.
    """

    def __init__(self, broker: Broker, transactional_id: str | None, timeout_ms: int) -> None:
        self._broker = broker
        self._id = transactional_id
        self._timeout_s = timeout_ms / 1_000
        self._producer = (-1, -1)
        self._added: set[LogName] = set()
        self._lanes: dict[LogName, deque[tuple[Any, asyncio.Future[Any]]]] = {}
        self._tasks: dict[LogName, asyncio.Task[None]] = {}
        self._sequences: dict[LogName, int] = {}
        self._losses = 0  # of the connection to the coordinator, by a request that went unanswered
        self._ended_on: tuple[int, int] | None = None
        self.earlier_outcome: bool | None = None
        self.fatal: KafkaError | None = None

    async def start(self, seal: LogName | None = None) -> None:
        transactions, name = self._broker.transactions, self._id
        if name is None:
            self._producer = (transactions.new_producer_id(), 0)
            return
        while seal is not None:
            holder = await self._ask(f"look {name}", lambda: transactions.holder(name, seal))
            if holder is None:
                break
            with contextlib.suppress(InvalidProducerEpoch, InvalidTxnState, *LOST):
                await self._broker.ask(
                    f"commit {name} of {holder}", partial(transactions.end, name, holder, True)
                )
        self.earlier_outcome = await self._ask(f"look {name}", lambda: transactions.outcome(name))
        self._producer = await self._ask(
            f"init {name}", lambda: transactions.begin(name, self._timeout_s)
        )

    async def begin_transaction(self) -> None:
        self._added.clear()

    async def send_batch(self, batch: Any, topic: str, *, partition: int) -> "asyncio.Future[Any]":
        if self.fatal is not None:
            raise self.fatal
        log = topic, partition
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._lanes.setdefault(log, deque()).append((batch, future))
        if log not in self._tasks or self._tasks[log].done():
            self._tasks[log] = asyncio.create_task(self._send_lane(log))
        return future

    async def _send_lane(self, log: LogName) -> None:
        lane = self._lanes[log]
        while lane:
            batch, future = lane.popleft()
            try:
                offset = await self._send(log, batch)
            except KafkaError as error:
                if not future.done():
                    future.set_exception(error)
            else:
                if not future.done():
                    future.set_result(Placed(offset))

    async def _send(self, log: LogName, batch: Any) -> int:
        broker, name, producer = self._broker, self._id, self._producer
        if self.fatal is not None:
            raise self.fatal
        if name is not None and log not in self._added:
            await self._ask(f"add {log}", lambda: broker.transactions.add(name, producer, log))
            self._added.add(log)
        sequence = self._sequences.get(log, 0)
        self._sequences[log] = sequence + batch.record_count()
        batch._set_producer_state(*producer, sequence)
        data = batch._build()
        if broker.chance.happens("refused_batch"):
            raise MessageSizeTooLargeError

        def produce() -> int:
            if name is not None:
                broker.transactions.require_open(name, producer, log)
            return broker.logs[log].append(data)

        try:
            what = f"produce {log} {batch.record_count()}"
            return await broker.ask_until_answered(what, produce)
        except InvalidProducerEpoch:
            raise ProducerFenced from None

    async def _ask(self, what: str, act: Any) -> Any:
        """Of the coordinator, again and again; a fence ends this producer."""
        while True:
            try:
                return await self._broker.ask(what, act)
            except InvalidProducerEpoch:
                self.fatal = ProducerFenced()
                raise self.fatal from None
            except ConcurrentTransactions:
                pass
            except LOST:
                self._losses += 1
            await asyncio.sleep(BACKOFF_S)

    @property
    def _connection(self) -> tuple[int, int]:
        return self._losses, self._broker.transactions.crashes

    async def last_is_over(self) -> bool:
        transactions, name = self._broker.transactions, self._id
        assert name is not None

        def look() -> int:
            transactions.outcome(name)
            return transactions.crashes

        crashes = await self._ask(f"look {name}", look)
        return not self._added or self._ended_on == (self._losses, crashes)

    async def commit_transaction(self) -> None:
        transactions, name, producer = self._broker.transactions, self._id, self._producer
        assert name is not None
        if self._tasks:
            await asyncio.wait(list(self._tasks.values()))
        if self.fatal is not None:
            raise self.fatal
        if self._added:
            self._ended_on = self._connection
            await self._ask(f"commit {name}", lambda: transactions.end(name, producer, True))

    async def end_hanging(self, partitions: Sequence[LogName], *, commit: bool) -> None:
        transactions, name, producer = self._broker.transactions, self._id, self._producer
        assert name is not None
        await self.begin_transaction()

        def add() -> None:
            for log in partitions:
                transactions.add(name, producer, log)

        await self._ask(f"add {partitions}", add)
        self._added.update(partitions)
        self._ended_on = self._connection
        await self._ask(f"end {name}", lambda: transactions.end(name, producer, commit))

    async def discard(self) -> None:
        """What is on its way may still arrive."""
        for task in self._tasks.values():
            task.cancel()


class SimulatedReader(PartitionReader):
    """Asks for one topic after the other."""

    def __init__(
        self, settings: Settings, broker: Broker, partition: int, uncommitted: bool = False
    ) -> None:
        super().__init__(partition)
        self._settings = settings
        self._broker = broker
        self.committed = settings.processing_guarantee == "exactly_once" and not uncommitted

    async def bounds(self, names: Iterable[str]) -> dict[str, Bounds]:
        logs = {name: self._broker.logs[self._settings.topic(name), self.partition]
                for name in names}  # fmt: skip
        ask = self._broker.ask_until_answered
        starts = await ask("starts", lambda: {name: log.start for name, log in logs.items()})
        ends = await ask(
            "ends",
            lambda: {name: log.stable if self.committed else log.end for name, log in logs.items()},
        )
        return {name: Bounds(starts[name], ends[name]) for name in logs}

    async def read(self, topic: str, begin: int, end: int) -> AsyncIterator[Fetch]:
        position, silent_since_s = begin, self._broker.loop.now_s
        while position < end:
            answer = await self._fetch(topic, position)
            data, behind = read_batches(answer.data, position, answer.aborted)
            if behind > position:
                fetch = Fetch(topic, self.partition, position, behind, data)
                position, silent_since_s = behind, self._broker.loop.now_s
                yield fetch if behind <= end else cut(fetch, end)
                continue
            if self._broker.loop.now_s - silent_since_s > STALL_TIMEOUT_S:
                raise BrokerError(f"nothing came of {topic}/{self.partition} at {position}")
            await asyncio.sleep(READ_AGAIN_S)

    async def _fetch(self, topic: str, position: int) -> Answer:
        log = self._broker.logs[self._settings.topic(topic), self.partition]
        short = self._broker.chance.happens("short_fetch")
        bytes_max = SHORT_FETCH_BYTES_MAX if short else FETCH_BYTES_MAX
        try:
            return await self._broker.ask(
                f"read {topic}/{self.partition} at {position}",
                lambda: log.fetch(position, self.committed, bytes_max),
            )
        except OffsetOutOfRangeError:
            raise StateError(f"{topic}/{self.partition}: {position} is not there") from None
        except KafkaError as error:
            raise BrokerError(f"{topic}/{self.partition} cannot be read: {error!r}") from error


class SimulatedClock:
    """Moves on a little when it is looked at, as clocks do while a core works."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._monotonic_ms = 0
        self.wrong_by_ms = 0

    def monotonic_ms(self) -> int:
        now_ms = int(self._broker.loop.now_s * 1_000)
        self._monotonic_ms = max(self._monotonic_ms, now_ms)
        rng = self._broker.chance.rng
        if self._monotonic_ms - now_ms < AHEAD_MS_MAX and rng.random() < 0.2:
            self._monotonic_ms += rng.randrange(8)
        return self._monotonic_ms

    def wall_ms(self) -> int:
        return EPOCH_MS + int(self._broker.loop.now_s * 1_000) + self.wrong_by_ms


class SimulatedOutside:
    """Of one host."""

    def __init__(self, settings: Settings, broker: Broker, disk: SimulatedDisk) -> None:
        self._settings = settings
        self.broker = broker
        self.clock: Clock = SimulatedClock(broker)
        self.disk: Disk = disk

    def producer(self, transactional_id: str | None, transaction_timeout_ms: int) -> Producer:
        """Not started yet."""
        return SimulatedProducer(self.broker, transactional_id, transaction_timeout_ms)

    @contextlib.asynccontextmanager
    async def reader(
        self, partition: int, *, uncommitted: bool = False
    ) -> AsyncIterator[PartitionReader]:
        yield SimulatedReader(self._settings, self.broker, partition, uncommitted)

    async def group_offsets(self, partition: int) -> dict[str, int]:
        offsets = self.broker.group.offsets
        return await self.broker.ask_until_answered(
            "group offsets",
            lambda: {
                topic: offsets[topic, partition]
                for topic in EVENT_TOPICS
                if (topic, partition) in offsets
            },
        )

    def new_identity(self) -> bytes:
        return self.broker.chance.bytes(16)
