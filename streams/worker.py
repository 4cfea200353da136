"""The shell around the pipelines of one worker.

    offer --> inbox --turn, on the core thread--> pipelines, batcher --> checkpoint --> emitter
                                                              (one in flight a partition)

Everything pure runs in turns of some ten milliseconds on the core thread; between two turns the
loop owns all state, so nothing is locked but the turn itself.
"""

import asyncio
import contextlib
from typing import Final

import structlog

from streams import stats
from streams.batcher import Batcher
from streams.codec.decode import Fetch
from streams.core_thread import CoreThread
from streams.custody import Custody, Group, Opener, Positions
from streams.fetching import Drained
from streams.monitor import Monitor
from streams.outside import Clock
from streams.owned import Owned
from streams.settings import Settings
from streams.topics import INPUT_TOPICS
from streams.turn import Turn

log = structlog.get_logger("flashcast.worker")

IDLE_TURN_S: Final = 0.02
REPORT_MS: Final = 1_000
STUCK_MS: Final = 120_000  # a turn takes milliseconds; a first compilation, seconds
UNANSWERED_MS_MAX: Final = 5_000  # an idle topic partition is answered five times a second
LEAVE_TIMEOUT_S: Final = 5.0  # of the ten in which a worker must be gone


class Worker:
    """Has partitions between `take_over` and `hand_over`. `open_partition` restores one."""

    def __init__(
        self,
        settings: Settings,
        batcher: Batcher,
        core: CoreThread,
        open_partition: Opener,
        group: Group,
        monitor: Monitor,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._core = core
        self._group = group
        self._monitor = monitor
        self._clock = clock
        self._turn = Turn(batcher, settings.checkpoint_interval_ms, monitor, clock)
        self._custody = Custody(core, open_partition, group, monitor, clock)
        self._generation = -1
        self._flowing = False  # the assignment holds: turns may run
        self._lag: Positions = {}
        self._answered_ms = 0
        self._turning = asyncio.Lock()
        self._turn_began_ms: int | None = None
        self._loop_task: asyncio.Task[None] | None = None
        self._finished = False

    # -- life

    def start(self) -> None:
        """Begin to turn."""
        self._loop_task = asyncio.create_task(self._run(), name="worker")
        self._loop_task.add_done_callback(self._custody.fail_with)

    async def finish(self) -> None:
        """Leave: last checkpoints, bounded in time, then everything is let go. Once."""
        if self._finished:
            return
        self._finished = True
        await self.hand_over(LEAVE_TIMEOUT_S)
        if self._loop_task is not None:
            self._loop_task.cancel()
        await self._custody.close()
        self._core.close()

    def fail(self, error: Exception) -> None:
        """This worker cannot go on; whoever runs it awaits `failed`."""
        self._custody.fail(error)

    @property
    def failed(self) -> asyncio.Event:
        return self._custody.failed

    @property
    def failure(self) -> Exception | None:
        return self._custody.failure

    # -- what the transport asks

    @property
    def ahead(self) -> frozenset[tuple[str, int]]:
        """Topic partitions not to be fetched for now; may be read from any thread."""
        return self._custody.ahead

    async def offer(self, fetch: Fetch) -> None:
        """One fetch, from the agent of its topic."""
        owned = self._custody.owned.get(fetch.partition)
        if owned is None:
            return  # being restored: it is fetched again from where the marker says
        if owned.accept(fetch):
            self._custody.see_if_ahead(owned, fetch.topic)
            self._custody.changed.set()
        elif owned.gap:
            await self._go_back(owned)

    async def _go_back(self, owned: Owned) -> None:
        owned.gap = False
        log.info("what was missed is fetched again", partition=owned.partition)
        await self._group.seek(self._custody.positions([owned]))

    def answered(self, drained: Drained) -> None:
        """Fetches that were answered with nothing, and the lag of all."""
        self._lag = dict(drained.lag)
        for (topic, number), records in drained.lag.items():
            if number in self._custody.owned:
                self._custody.owned[number].lag[topic] = records
        if drained.fetches or drained.empties:
            self._answered_ms = self._clock.monotonic_ms()
        for empty in drained.empties:
            owned = self._custody.owned.get(empty.partition)
            if owned is not None:
                owned.note_empty(empty.topic, empty.position, self._clock.monotonic_ms())
                if owned.gap:
                    self._custody.spawn(self._go_back(owned))

    def positions(self) -> Positions:
        """Where every input of every owned partition goes on."""
        return self._custody.positions()

    def committed(self) -> Positions:
        """What the group's offsets should say."""
        return self._custody.committed()

    def owns(self, partition: int) -> bool:
        """Whether the partition is ours now, and ready."""
        return self._flowing and partition in self._custody.owned

    # -- assignments

    async def take_over(self, partitions: set[int], generation: int) -> bool:
        """These partitions are ours now. True when all are restored and can be fetched, False when
        another change of the assignment, or the end of this worker, came first.

        One that was ours in the generation before goes on from memory: nobody else had it.
        """
        self._monitor.rebalances.inc()
        custody = self._custody
        followed = generation - self._generation in (0, 1)
        self._generation, custody.assigned = generation, set(partitions)
        term = custody.new_term()
        for number, owned in list(custody.owned.items()):
            if followed and number in partitions:
                owned.resumed = True
            else:
                await custody.drop(owned)
        await custody.restore_all(partitions - custody.owned.keys(), term)
        if custody.term != term:
            return False
        custody.see_who_is_ahead()
        self._flowing = True
        self._answered_ms = self._clock.monotonic_ms()
        custody.changed.set()
        log.info("assigned", partitions=sorted(partitions), generation=generation)
        return True

    async def hand_over(self, timeout_s: float | None = None) -> None:
        """Partitions may go to others: a last checkpoint of each, while they are still ours.

        A partition whose commit does not end in time is discarded, its outcome being unknown.
        """
        wait_s = self._settings.session_timeout_ms / 2_000 if timeout_s is None else timeout_s
        self._flowing = False
        self._custody.new_term()
        # Whole, whoever stops waiting for it: what a checkpoint took must be committed or dropped.
        await asyncio.shield(self._custody.spawn(self._hand_over(wait_s)))

    async def _hand_over(self, wait_s: float) -> None:
        custody = self._custody
        async with self._turning:
            if not await self._may_still_write():
                for owned in list(custody.owned.values()):
                    await custody.drop(owned, "hand_over")
            several = list(custody.owned.values())
            by_s = asyncio.get_running_loop().time() + wait_s
            await asyncio.gather(*(custody.last_checkpoint(one, by_s) for one in several))
            await asyncio.gather(*(self._give_up(one) for one in several if one.commit is not None))

    async def _give_up(self, owned: Owned) -> None:
        """A last checkpoint did not end in time."""
        if owned.commit is not None and self._custody.has(owned):
            log.warning("a last checkpoint did not end in time", partition=owned.partition)
            owned.commit.cancel()
            await self._custody.drop(owned, "hand_over")

    async def _may_still_write(self) -> bool:
        """Where no transaction shuts out a former owner, the group must say that we are not one."""
        if self._settings.processing_guarantee == "exactly_once":
            return True
        committed = self._custody.committed()
        return not committed or await self._group.owns(committed)

    # -- turns

    async def _run(self) -> None:
        reported_ms = 0
        while True:
            self._custody.changed.clear()  # before the turn: what comes during it is not slept over
            async with self._turning:
                busy = self._flowing and await self._turn_once()
                if self._clock.monotonic_ms() - reported_ms > REPORT_MS:
                    reported_ms = self._clock.monotonic_ms()
                    await self._report()
            if not busy:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._custody.changed.wait(), IDLE_TURN_S)

    async def _turn_once(self) -> bool:
        custody = self._custody
        several = list(custody.owned.values())
        arrived = [(owned, *owned.take_inbox()) for owned in several]
        self._turn_began_ms = self._clock.monotonic_ms()
        busy = await self._core(self._turn.run, arrived)
        self._turn_began_ms = None
        for owned in several:
            if owned.broken is not None:
                custody.spawn(custody.replace(owned, owned.broken))
            elif owned.checkpoint is not None and owned.commit is None:
                custody.begin_commit(owned)
        custody.see_who_is_ahead()
        return busy

    async def _report(self) -> None:
        several = list(self._custody.owned.values())
        self._monitor.partitions_owned.set(len(self._custody.assigned))
        now = self._clock.monotonic_ms(), self._clock.wall_ms()
        await self._core(stats.report, self._monitor, several, self._lag, *now)

    # -- what the web says

    def not_alive(self) -> list[str]:
        """Why this process should be restarted."""
        if self.failure is not None:
            return [str(self.failure)]
        if self._loop_task is not None and self._loop_task.done() and not self._finished:
            return ["the worker's loop has ended"]
        began_ms = self._turn_began_ms
        if began_ms is not None and self._clock.monotonic_ms() - began_ms > STUCK_MS:
            return [f"a turn has not ended for {STUCK_MS // 1_000} s"]
        return []

    def not_ready(self) -> list[str]:
        """What it waits for."""
        missing = sorted(self._custody.assigned - self._custody.owned.keys())
        if missing:
            return [f"partition {number} is being restored" for number in missing]
        if not self._flowing:
            return ["waiting for the group's assignment"]
        return self._unanswered()

    def _unanswered(self) -> list[str]:
        """Whether fetches go unanswered, as they do before anything else fails when the broker is
        away; unless none is being asked for.
        """
        since_ms = self._clock.monotonic_ms() - self._answered_ms
        asked_for = len(self._custody.owned) * len(INPUT_TOPICS) - len(self._custody.ahead)
        if asked_for > 0 and since_ms > UNANSWERED_MS_MAX:
            return [f"no fetch was answered for {since_ms // 1_000} s: is the broker up?"]
        return []
