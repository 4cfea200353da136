"""The partitions in this worker's hands: restored, checkpointed, and replaced when anything fails.

A commit that fails, or whose outcome is not known, discards the partition's memory and its
producer; both are restored from the last marker, and nothing is sent again from memory.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Any, Final, Protocol

import structlog

from streams.checkpoint import Checkpoint
from streams.core_thread import CoreThread
from streams.errors import BrokerError, ConfigurationError, FencedError, StateError
from streams.monitor import Monitor
from streams.outside import Clock
from streams.owned import Owned
from streams.pipeline import Pipeline
from streams.topics import DEMAND_WINDOWS, INPUT_TOPICS

log = structlog.get_logger("flashcast.worker")

RETRY_FIRST_S: Final = 0.5
RETRY_MAX_S: Final = 5.0
FAULTS_MAX: Final = 5  # in a row, of a partition whose state or code, not the broker, is at fault
RESTORES_MAX: Final = 4  # at once
QUEUE_BYTES_MAX: Final = 4 * 2**20  # of one topic partition; beyond it is not fetched
QUEUE_BYTES_RESUME: Final = 3 * 2**20  # a catch-up must not use it up before more is here

Positions = dict[tuple[str, int], int]
Opener = Callable[[int], Awaitable[Owned]]


class Group(Protocol):
    """What is asked of the consumer. Topics are logical names."""

    async def seek(self, positions: Mapping[tuple[str, int], int]) -> None: ...

    async def owns(self, offsets: Mapping[tuple[str, int], int]) -> bool:
        """Whether a commit of these offsets goes through, as it does for the owner alone."""

    async def rejoin(self) -> None: ...


class Custody:
    """`owned` are the partitions ready to work; of `assigned`, the others are being restored.

    A `term` is the time between two changes of the assignment: what was begun in one is void in
    the next.
    """

    def __init__(
        self,
        core: CoreThread,
        open_partition: Opener,
        group: Group,
        monitor: Monitor,
        clock: Clock,
    ) -> None:
        self._core = core
        self._open_partition = open_partition
        self._group = group
        self._monitor = monitor
        self._clock = clock
        self.owned: dict[int, Owned] = {}
        self.assigned: set[int] = set()
        self.term = 0
        self.ahead: frozenset[tuple[str, int]] = frozenset()
        self.failed = asyncio.Event()
        self.failure: Exception | None = None
        self.changed = asyncio.Event()
        self._faults: dict[int, int] = {}
        self._ended: Positions = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._opening: set[asyncio.Task[Owned]] = set()  # until they have let go of everything
        self._wanted: set[asyncio.Task[Owned]] = set()  # of these, what nobody has cancelled yet

    def fail(self, error: Exception) -> None:
        """This worker cannot go on; whoever runs it awaits `failed`."""
        if self.failure is None:
            log.error("the worker cannot go on", error=str(error) or repr(error))
            self.failure = error
            self.failed.set()

    def has(self, owned: Owned) -> bool:
        return self.owned.get(owned.partition) is owned

    def positions(self, several: Iterable[Owned] | None = None) -> Positions:
        """Where every input goes on, of all partitions or of some."""
        return {
            (topic, owned.partition): offset
            for owned in (self.owned.values() if several is None else several)
            for topic, offset in owned.expected.items()
        }

    def committed(self) -> Positions:
        """The offsets of all last committed markers: what the group's offsets should say."""
        return {
            (topic, owned.partition): offset
            for owned in self.owned.values()
            for topic, offset in owned.committed.items()
        } or self._ended

    def see_who_is_ahead(self) -> None:
        """Nothing is fetched of a full queue, nor for a partition that is being restored."""
        missing = self.assigned - self.owned.keys()
        ahead = {(topic, number) for number in missing for topic in INPUT_TOPICS}
        for owned in self.owned.values():
            for topic in INPUT_TOPICS:
                name = (topic, owned.partition)
                limit = QUEUE_BYTES_RESUME if name in self.ahead else QUEUE_BYTES_MAX
                if owned.waiting_bytes(topic) > limit:
                    ahead.add(name)
        self.ahead = frozenset(ahead)

    def see_if_ahead(self, owned: Owned, topic: str) -> None:
        """While the core is at work, too: however long it takes, a full queue takes no more."""
        if owned.waiting_bytes(topic) > QUEUE_BYTES_MAX:
            self.ahead |= {(topic, owned.partition)}

    # -- restoring

    def new_term(self) -> int:
        """What was being opened is no longer wanted."""
        self.term += 1
        for task in self._wanted:
            task.cancel()
        self._wanted.clear()  # once: cancelled anew, one would not put back what it has
        return self.term

    async def restore_all(self, numbers: Iterable[int], term: int) -> None:
        """Returns when all are there, or the term is over."""
        limit = asyncio.Semaphore(RESTORES_MAX)
        await asyncio.gather(*(self.restore(number, term, limit) for number in numbers))

    async def restore(self, number: int, term: int, limit: asyncio.Semaphore) -> bool:
        """Tries until the partition is there, the term is over, or it cannot be had at all."""
        delay_s = RETRY_FIRST_S
        while self.term == term and self.failure is None:
            began_ms = self._clock.monotonic_ms()
            async with limit:
                opening = asyncio.ensure_future(self._open_partition(number))
                self._opening.add(opening)
                self._wanted.add(opening)
                await asyncio.wait([opening])
                self._opening.discard(opening)
                self._wanted.discard(opening)
            if opening.cancelled():
                return False
            error = opening.exception()
            if error is None:
                self._monitor.restore_duration_seconds.observe(self._since_s(began_ms))
                return await self._keep(opening.result(), term)
            if not isinstance(error, BrokerError):
                self.fail(error if isinstance(error, Exception) else RuntimeError(repr(error)))
                return False
            log.warning("a restore failed, trying again", partition=number, error=str(error))
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, RETRY_MAX_S)
        return False

    async def _keep(self, owned: Owned, term: int) -> bool:
        if self.term != term:
            await owned.emitter.stop()
            return False
        self.owned[owned.partition] = owned
        self.changed.set()
        return True

    # -- checkpoints

    def begin_commit(self, owned: Owned) -> None:
        """Make `owned.checkpoint` durable, beside all else."""
        owned.commit = self.spawn(self._commit(owned))

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task that is not forgotten."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(self.fail_with)
        return task

    def fail_with(self, task: asyncio.Task[None]) -> None:
        """Of a task that has ended: if by an error, the worker does not stand still but ends."""
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            self.fail(error)

    async def _commit(self, owned: Owned) -> None:
        checkpoint = owned.checkpoint
        assert checkpoint is not None
        began_ms = self._clock.monotonic_ms()
        try:
            await self._prove_owner(owned)
            result = await owned.emitter.commit(checkpoint)
        except Exception as error:  # whatever it is: a partition without commits would stand still
            if not isinstance(error, BrokerError | ConfigurationError):
                log.exception("a checkpoint could not be made", partition=owned.partition)
            self._monitor.checkpoints.labels("failed").inc()
            self.spawn(self.replace(owned, error))
            return
        windows_offset = result.first_offsets.get(DEMAND_WINDOWS)
        left = await self._core(owned.pipeline.committed, windows_offset)
        owned.emitter.forget(left)  # before the next checkpoint can be taken
        owned.committed = dict(checkpoint.marker.offsets)
        owned.checkpoint = owned.commit = None
        self._faults.pop(owned.partition, None)
        self._monitor.checkpoints.labels("committed").inc()
        self._monitor.checkpoint_duration_seconds.observe(self._since_s(began_ms))
        self._monitor.checkpoint_rows.observe(len(checkpoint.names))
        self.changed.set()

    async def last_checkpoint(self, owned: Owned, by_s: float) -> None:
        """All processed so far, durable when this returns, or still being committed at `by_s` of
        the loop's time; `owned` is gone if that failed.
        """
        loop = asyncio.get_running_loop()
        if owned.commit is not None:
            await asyncio.wait([owned.commit], timeout=by_s - loop.time())
        if owned.commit is None and self.has(owned) and owned.broken is None:
            owned.checkpoint = await self._core(_take_if_pending, owned.pipeline)
            if owned.checkpoint is not None:
                self.begin_commit(owned)
                assert owned.commit is not None
                await asyncio.wait([owned.commit], timeout=by_s - loop.time())

    def _since_s(self, began_ms: int) -> float:
        return (self._clock.monotonic_ms() - began_ms) / 1_000

    # -- failures

    async def replace(self, owned: Owned, error: Exception) -> None:
        """Forget what the partition had in memory, and restore it if it is still ours."""
        if not self.has(owned):
            return
        term = self.term
        log.warning(
            "a partition is discarded and restored", partition=owned.partition, error=str(error)
        )
        await self.drop(owned, _reason(error))
        if isinstance(error, ConfigurationError):  # a right that was withdrawn: no time mends it
            self.fail(error)
            return
        if not isinstance(error, BrokerError) and not self._forgivable(owned.partition, error):
            return
        if isinstance(error, FencedError) and not await self._still_ours(owned):
            log.warning("another worker may own it, asking the group", partition=owned.partition)
            await self._group.rejoin()
        elif await self.restore(owned.partition, term, asyncio.Semaphore(1)):
            await self._group.seek(self.positions([self.owned[owned.partition]]))

    async def drop(self, owned: Owned, reason: str | None = None) -> None:
        """Let go of a partition; with a `reason`, it is counted as discarded."""
        if self.has(owned):
            del self.owned[owned.partition]
        self.see_who_is_ahead()
        if reason is not None:
            self._monitor.partitions_discarded.labels(reason).inc()
        await owned.emitter.stop()

    def _forgivable(self, partition: int, error: Exception) -> bool:
        """Faults that no broker explains are tried again a few times only."""
        self._faults[partition] = self._faults.get(partition, 0) + 1
        if self._faults[partition] <= FAULTS_MAX:
            return True
        self.fail(error)
        return False

    async def _prove_owner(self, owned: Owned) -> None:
        """Where no transaction shuts out a former owner, the group is asked before anything is
        sent. Raises FencedError. Before a first checkpoint there are no offsets to ask with.
        """
        if owned.emitter.shuts_out_others or not owned.committed:
            return
        asked_ms = self._clock.monotonic_ms()
        if not await self._still_ours(owned):
            raise FencedError(f"partition {owned.partition}: the group does not say it is ours")
        owned.emitter.owner_at_ms = asked_ms

    async def _still_ours(self, owned: Owned) -> bool:
        """Brokers fence on time-outs, too, so a fence alone does not say that another has it."""
        offsets = {(topic, owned.partition): at for topic, at in owned.committed.items()}
        return bool(offsets) and await self._group.owns(offsets)

    async def close(self) -> None:
        """Let go of everything; `committed` still says where it ended."""
        self.new_term()
        self._ended = self.committed()
        for task in list(self._tasks):
            task.cancel()
        several = list(self.owned.values())
        self.owned.clear()
        stops = (one.emitter.stop() for one in several)
        await asyncio.gather(*stops, *self._opening, return_exceptions=True)


def _take_if_pending(pipeline: Pipeline) -> Checkpoint | None:
    return pipeline.take() if pipeline.pending else None


def _reason(error: Exception) -> str:
    """The label under which a discarded partition is counted."""
    if isinstance(error, FencedError):
        return "fenced"
    if isinstance(error, BrokerError):
        return "broker"
    return "state" if isinstance(error, StateError | ConfigurationError) else "fault"
