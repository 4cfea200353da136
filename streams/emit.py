"""Makes checkpoints durable: outputs, changed rows, cuts and marker of one partition, together.

    commit:  begin -> outputs, changelog records -> every answer awaited -> commit -> local copy

An Emitter lives from one restore to the next failure. Once anything fails, or its outcome is
unknown, it raises and is of no more use: the partition forgets what it had in memory, a new Emitter
restores it, and nothing is sent again from memory.
"""

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog
from aiokafka.errors import (
    InvalidProducerEpoch,
    InvalidTimestampError,
    MessageSizeTooLargeError,
    ProducerFenced,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)

from streams import topics
from streams.checkpoint import Checkpoint, Output
from streams.cloud_events import rfc3339
from streams.composing import steps_of
from streams.denied import causes_of, may_not
from streams.errors import (
    BrokerError,
    ConfigurationError,
    FencedError,
    FlashcastError,
    StateError,
)
from streams.outside import Outside, Producer
from streams.settings import Settings
from streams.state import changelog
from streams.state.local_copy import LocalCopy, Place

log = structlog.get_logger("flashcast.emit")

DELIVERY_TIMEOUT_S: Final = 20.0  # of one whole checkpoint
COPY_PAUSE_S: Final = 0.5  # before the local copy is written: other partitions close at this time
START_TIMEOUT_S: Final = 30.0
TRANSACTION_TIMEOUT_MS: Final = 30_000  # the broker then aborts what a dead worker left open
ENDING_TIMEOUT_MS: Final = 600_000  # what it must not abort; brokers allow 900,000 by default
assert DELIVERY_TIMEOUT_S * 1_000 < TRANSACTION_TIMEOUT_MS

PARTITION_TOPICS: Final = (  # what the worker that owns a partition writes there
    *(topic for topic in topics.OUTPUT_TOPICS if topic != topics.CAPACITY_FORECASTS),
    *topics.INTERNAL_TOPICS,
)
TOO_LARGE: Final = (MessageSizeTooLargeError, RecordListTooLargeError)
FENCED: Final = (ProducerFenced, InvalidProducerEpoch)


@dataclass(frozen=True, slots=True)
class CommitResult:
    """Where one checkpoint came to lie: `first_offsets` of its outputs, by topic, and
    `changelog_offset`, the one behind its marker.
    """

    first_offsets: dict[str, int]
    changelog_offset: int


class Emitter(ABC):
    """Writes for one partition number, in order, one checkpoint at a time.

    `role` names a single owner other than the partition's state, such as the sum over partitions.
    """

    delivery_timeout_s: float = DELIVERY_TIMEOUT_S
    start_timeout_s: float = START_TIMEOUT_S
    shuts_out_others: bool  # whether the broker refuses what a former owner sends
    # when the group was last asked whether the partition is ours, and said so; None: never
    owner_at_ms: int | None = None

    def __init__(
        self, settings: Settings, outside: Outside, partition: int, role: str | None = None
    ) -> None:
        self._settings = settings
        self._outside = outside
        self._partition = partition
        self._role = role or f"p{partition}"
        self.writes = PARTITION_TOPICS if role is None else (topics.CAPACITY_FORECASTS,)
        foreign = topics.CAPACITY_FORECASTS if role is None else topics.CAPACITY_SHARES
        self._seal = settings.topic(foreign), 0
        self._producer: Producer | None = None
        self._copy: LocalCopy | None = None
        self._copying: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()  # the local copy is waited for
        self._identity: tuple[bytes, int] | None = None  # of the changelog, and its offset
        self._forgotten: list[bytes] = []
        self._unanswered: set[str] = set()  # topics, in a delivery
        self._deadline: asyncio.Timeout | None = None  # of what is being sent
        self.copy_failures = 0

    @property
    def partition(self) -> int:
        return self._partition

    async def start(self) -> None:
        """Connects; from here on any earlier owner is shut out, where the broker has transactions.
        Raises BrokerError.
        """
        await self._start(TRANSACTION_TIMEOUT_MS)

    async def _start(self, transaction_timeout_ms: int) -> None:
        assert self._producer is None, "it has started"
        self._producer = self._outside.producer(self._transactional_id(), transaction_timeout_ms)
        async with self._bounded("cannot start", self.start_timeout_s):
            await self._producer.start(self._seal)

    def attach(self, copy: LocalCopy | None, identity: tuple[bytes, int] | None) -> None:
        """After a restore: the local copy to keep, and which changelog it was read from (identity,
        its offset); without one the next commit gives the changelog its identity.
        """
        self._copy = copy
        self._identity = identity

    def forget(self, keys: Sequence[bytes]) -> None:
        """Removes changelog keys, with the next commit and before its rows."""
        self._forgotten += keys

    async def commit(self, checkpoint: Checkpoint) -> CommitResult:
        """Returns when all of it is durable and, with transactions, visible. Raises BrokerError or
        FencedError; whether it is durable is then unknown, and the emitter is stopped.
        """
        forgotten, self._forgotten = self._forgotten, []
        drawn = self._outside.new_identity() if self._identity is None else None
        compression, marker_apart = self._settings.compression, not self.shuts_out_others
        steps = await asyncio.to_thread(
            steps_of, checkpoint, forgotten, drawn, compression, marker_apart=marker_apart
        )
        async with self._bounded("checkpoint failed", self.delivery_timeout_s):
            offsets = await self._deliver(steps)
        if drawn is not None:
            self._identity = (drawn, offsets[0])
        end = offsets[-1] + steps[-1][-1].batch.count
        await self._keep(checkpoint, forgotten, end)
        outputs = steps[1]
        placed = zip(outputs, offsets[len(steps[0]) :][: len(outputs)], strict=True)
        first_offsets = {output.topic: offset for output, offset in reversed(list(placed))}
        return CommitResult(first_offsets, end)

    async def publish(self, outputs: Sequence[Output]) -> list[int]:
        """Outputs that belong to no checkpoint; the offset of each one's first record. Fails like
        `commit`.
        """
        async with self._bounded("output failed", self.delivery_timeout_s):
            return await self._deliver([outputs])

    async def stop(self) -> None:
        """Ends the producer, and closes the local copy once it holds the last checkpoint. What is
        being sent fails at once.
        """
        if self._deadline is not None and not self._deadline.expired():
            self._deadline.reschedule(0.0)
        await self._discard()
        await self._copied()
        if self._copy is not None:
            await asyncio.to_thread(self._copy.close)
            self._copy = None

    @abstractmethod
    def _transactional_id(self) -> str | None:
        """The producer's; None without transactions."""

    @abstractmethod
    async def _deliver(self, steps: Sequence[Sequence[Output]]) -> list[int]:
        """Sends and awaits all; the offset of each one's first record, over all steps in order."""

    async def _send(self, outputs: Sequence[Output], *, transactional: bool) -> list[int]:
        """Sends batches, those of one topic in order, and awaits the answer to each."""
        lanes: dict[str, list[int]] = defaultdict(list)  # by topic
        for index, output in enumerate(outputs):
            lanes[output.topic].append(index)
        offsets = [-1] * len(outputs)
        now_ms = self._outside.clock.wall_ms()

        async def send(topic: str, indexes: list[int]) -> None:
            sent: list[asyncio.Future[Any]] = []
            try:
                for index in indexes:
                    builder = outputs[index].batch.builder(now_ms, transactional=transactional)
                    sent.append(await self._send_batch(topic, builder))
                for index, future in zip(indexes, sent, strict=True):
                    offsets[index] = (await future).offset
                self._unanswered.discard(self._settings.topic(topic))
            except TopicAuthorizationFailedError:
                name = self._settings.topic(topic)
                raise may_not(self._settings, "Write", f"topic {name}") from None
            except InvalidTimestampError:
                raise BrokerError(
                    f"{self._settings.topic(topic)} refused records of {rfc3339(now_ms)}: this "
                    "machine's clock is ahead of the broker's by more than the topic's "
                    "message.timestamp.after.max.ms, an hour by default; set the clock"
                ) from None
            except TOO_LARGE:
                size = max(outputs[index].batch.size_bytes for index in indexes)
                raise BrokerError(
                    f"{self._settings.topic(topic)} refused a batch of up to {size} bytes: raise "
                    "the topic's max.message.bytes"
                ) from None
            finally:
                for future in sent:
                    if not future.cancel() and not future.cancelled():
                        future.exception()  # what nobody awaits any more is not to be logged

        self._unanswered = {self._settings.topic(topic) for topic in lanes}
        async with asyncio.TaskGroup() as group:
            for topic, indexes in lanes.items():
                group.create_task(send(topic, indexes))
        if min(offsets, default=0) < 0:
            raise BrokerError("the broker did not say at which offset a batch lies")
        return offsets

    async def _send_batch(self, topic: str, builder: Any) -> "asyncio.Future[Any]":
        assert self._producer is not None
        sent: asyncio.Future[Any] = await self._producer.send_batch(
            builder, self._settings.topic(topic), partition=self._partition
        )
        return sent

    @contextlib.asynccontextmanager
    async def _bounded(self, what: str, timeout_s: float) -> AsyncIterator[None]:
        """Whatever goes wrong inside, or takes too long, ends the producer and is a BrokerError or
        FencedError.
        """
        try:
            if self._producer is None:
                raise BrokerError("the emitter is stopped")
            async with asyncio.timeout(timeout_s) as self._deadline:
                try:
                    yield
                finally:
                    self._deadline = None  # at once: one that is over cannot be moved
        except BaseException as error:
            named = self._named(what, error)
            await self._discard()
            if not isinstance(error, Exception):
                raise
            raise named from error

    def _named(self, what: str, error: BaseException) -> FlashcastError:
        causes = list(causes_of(error))
        where = f"partition {self._partition}: {what}"
        owner = self._settings.transactional_id(self._role)
        if any(isinstance(cause, FENCED) for cause in causes):
            return FencedError(f"{where}: another worker has taken over {owner!r}")
        for cause in causes:
            if isinstance(cause, TransactionalIdAuthorizationFailed):
                return may_not(self._settings, "Write", f"transactional id {owner}")
            if isinstance(cause, ConfigurationError):
                return cause
            if isinstance(cause, BrokerError):
                return type(cause)(f"{where}: {cause}")
        if isinstance(error, TimeoutError) and self._producer is None:
            return BrokerError(f"{where}: the emitter was stopped meanwhile")
        if isinstance(error, TimeoutError):
            topic_names = ", ".join(sorted(self._unanswered)) or "the transaction coordinator"
            return BrokerError(
                f"{where}: no answer from {self._settings.bootstrap_servers} for {topic_names}; "
                "is the broker up, and do the topics exist (`flashcast topics check`)?"
            )
        return BrokerError(f"{where}: {causes[-1]!r}")

    async def _discard(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.discard()

    async def _keep(self, checkpoint: Checkpoint, forgotten: Sequence[bytes], offset: int) -> None:
        """Soon writes the checkpoint to the local copy, beside what comes next."""
        await self._copied()
        copy, identity = self._copy, self._identity
        if copy is None or identity is None:
            return
        place = Place(
            offset, offset - 1, identity[0].hex(), identity[1], self._outside.clock.wall_ms()
        )

        def write() -> None:
            copy.write(changelog.changes(checkpoint, forgotten), place)

        async def write_soon() -> None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), COPY_PAUSE_S)
            await asyncio.to_thread(write)

        self._hurry.clear()
        self._copying = asyncio.create_task(write_soon())

    async def _copied(self) -> None:
        """Awaits the local copy. One that fails is discarded: the changelog has it all."""
        copying, self._copying = self._copying, None
        if copying is None or self._copy is None:
            return
        self._hurry.set()
        try:
            await copying
        except StateError as error:
            log.warning("local copy discarded", partition=self._partition, error=str(error))
            self.copy_failures += 1
            await asyncio.to_thread(self._copy.discard)
            self._copy = None


class TransactionalEmitter(Emitter):
    """Exactly once: all of a checkpoint becomes visible at one moment, or none of it.

    What a broker left open of a transaction that it had decided is ended by one without records,
    under a producer that has no other. If this one is to commit, it includes a topic partition
    that the emitter never writes to, its seal: should the worker die in between, a next one knows
    it by that, and commits it too, whereas all other open transactions are to be aborted.
    """

    shuts_out_others = True

    @property
    def earlier_outcome(self) -> bool | None:
        """After the start: whether the last transaction of an earlier owner was committed; None:
        there was none, or the broker does not know.
        """
        assert self._producer is not None
        return self._producer.earlier_outcome

    def _transactional_id(self) -> str:
        return self._settings.transactional_id(self._role)

    async def _deliver(self, steps: Sequence[Sequence[Output]]) -> list[int]:
        producer = self._producer
        assert producer is not None
        await producer.begin_transaction()
        outputs = [one for step in steps for one in step]
        # Every answer before the commit: aiokafka commits even after a batch was refused.
        offsets = await self._send(outputs, transactional=True)
        await producer.commit_transaction()
        if not await producer.last_is_over():
            raise BrokerError(
                "the coordinator was lost while it committed: what it forgot will be seen to"
            )
        return offsets

    async def end_hanging(self, names: Iterable[str], *, commit: bool) -> None:
        """Ends what an earlier transaction under the same id left open on these topics, and starts
        anew. Fails like `commit`.
        """
        places = sorted((self._settings.topic(name), self._partition) for name in names)
        if commit:
            places.append(self._seal)
        await self._discard()
        await self._start(ENDING_TIMEOUT_MS)
        async with self._bounded("cannot end an open transaction", self.delivery_timeout_s):
            assert self._producer is not None
            over = False
            while not over:
                await self._producer.end_hanging(places, commit=commit)
                over = await self._producer.last_is_over()
        await self._discard()
        await self.start()


class PlainEmitter(Emitter):
    """At least once, for brokers without transactions: each step is acknowledged before the next,
    the marker last, so that a crash repeats outputs and loses none.

    A former owner must stop by itself. The group gives a partition to nobody else within a session
    time-out of the owner's last sign of life, so nothing is sent later than that after
    `owner_at_ms`.
    """

    shuts_out_others = False

    def _transactional_id(self) -> None:
        return None

    async def _deliver(self, steps: Sequence[Sequence[Output]]) -> list[int]:
        offsets: list[int] = []
        for step in steps:
            async with asyncio.timeout(self._owner_for_s()):
                offsets += await self._send(step, transactional=False)
        return offsets

    def _owner_for_s(self) -> float | None:
        """Seconds in which nobody else can have been given the partition. Raises FencedError."""
        if self.owner_at_ms is None:
            return None
        since_ms = self._outside.clock.monotonic_ms() - self.owner_at_ms
        left_ms = self._settings.session_timeout_ms - since_ms
        if left_ms <= 0:
            raise FencedError(
                f"the group was last heard {since_ms} ms ago, and may have given the partition to "
                f"another worker after FLASHCAST_SESSION_TIMEOUT_MS "
                f"{self._settings.session_timeout_ms}"
            )
        return left_ms / 1_000


def emitter_for(
    settings: Settings, outside: Outside, partition: int, role: str | None = None
) -> Emitter:
    """The kind that `processing_guarantee` asks for."""
    exact = settings.processing_guarantee == "exactly_once"
    return (TransactionalEmitter if exact else PlainEmitter)(settings, outside, partition, role)
