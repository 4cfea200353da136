"""The partitions that this worker keeps warm for others, each followed by a task of its own.

They are nobody's state yet: whatever goes wrong with one, it is dropped, counted and begun anew,
and the partitions that are owned notice nothing but the time it takes, which is bounded.
"""

import asyncio
from typing import Final

import structlog

from streams.codec.siphash import HashKey
from streams.core_thread import CoreThread
from streams.errors import BrokerError
from streams.monitor import Monitor
from streams.outside import Outside
from streams.settings import Settings
from streams.state.following import Follower
from streams.state.places import READ_TOPICS
from streams.warm import Warm

log = structlog.get_logger("flashcast.standby")

LOOK_S: Final = 1.0  # between two looks at the logs: what a takeover may have to read
CATCH_UP_BYTES_S: Final = 16 * 2**20  # over all partitions of this worker
RETRY_FIRST_S: Final = 1.0
RETRY_MAX_S: Final = 30.0


class Standbys:
    """`hash_key` is that of the pipelines which are to go on with what is kept."""

    def __init__(
        self,
        settings: Settings,
        outside: Outside,
        partitions: int,
        hash_key: HashKey,
        monitor: Monitor,
    ) -> None:
        self._settings = settings
        self._outside = outside
        self._partitions = partitions
        self._hash_key = hash_key
        self._monitor = monitor
        self._thread = CoreThread()
        self._pace = asyncio.Lock()
        self._followers: dict[int, Follower] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._ending: set[asyncio.Task[None]] = set()

    async def keep(self, numbers: set[int]) -> None:
        """Follow these partitions from now on, and no others."""
        wanted = {number for number in numbers if number < self._partitions}
        if not self._settings.standby_replicas:
            wanted = set()
        for number in (self._tasks.keys() | self._followers.keys()) - wanted:
            follower = self.promoted(number)
            if follower is not None:
                await follower.close()
        for number in wanted - self._tasks.keys():
            self._tasks[number] = asyncio.create_task(self._run(number), name=f"standby-{number}")
        self._report()

    def promoted(self, number: int) -> Follower | None:
        """What was kept of a partition, the caller's from now on; None: nothing."""
        task = self._tasks.pop(number, None)
        if task is not None:
            task.cancel()
            self._ending.add(task)  # it has a connection to close
            task.add_done_callback(self._ending.discard)
        follower = self._followers.pop(number, None)
        self._report()
        return follower

    async def put_back(self, follower: Follower) -> None:
        """It could not be taken over just now, or was for nothing; `keep`, or the next attempt,
        goes on with it. Nobody touches it any more.
        """
        await follower.take_back()
        if not follower.begun or follower.partition in self._followers:
            await follower.close()
        else:
            self._followers[follower.partition] = follower
        self._report()

    async def close(self) -> None:
        """Let go of everything."""
        await self.keep(set())
        if self._ending:
            await asyncio.wait(self._ending, timeout=LOOK_S)
        self._thread.close()

    async def _run(self, number: int) -> None:
        delay_s = RETRY_FIRST_S
        while True:
            try:
                async with self._outside.reader(number) as reader:
                    while True:
                        following = self._followers.get(number) or self._made(number)
                        if not following.begun:
                            await following.begin(reader)
                        bounds = await reader.bounds(READ_TOPICS)
                        await following.catch_up(reader, bounds, self._paced)
                        self._report()
                        self._monitor.standby_catch_ups.inc()
                        delay_s = RETRY_FIRST_S
                        await asyncio.sleep(LOOK_S)
            except BrokerError as error:
                log.info("a standby waits for the broker", partition=number, error=str(error))
                follower = self._followers.get(number)
                if follower is not None and not follower.begun:
                    await self._drop(number)
            except Exception as error:
                log.warning("a standby is begun anew", partition=number, error=repr(error))
                self._monitor.standby_failures.inc()
                await self._drop(number)
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, RETRY_MAX_S)

    def _made(self, number: int) -> Follower:
        warm = Warm(self._settings, number, self._partitions, self._hash_key)
        follower = Follower(self._settings, self._outside, number, warm, self._thread)
        self._followers[number] = follower
        return follower

    async def _drop(self, number: int) -> None:
        follower = self._followers.pop(number, None)
        if follower is not None:
            await follower.close()

    async def _paced(self, size_bytes: int) -> None:
        """Catching up takes no more than its share of the broker and of this machine."""
        self._report()
        async with self._pace:
            await asyncio.sleep(size_bytes / CATCH_UP_BYTES_S)

    def _report(self) -> None:
        followers = self._followers.values()
        self._monitor.partitions_standby.set(len(followers))
        self._monitor.standby_lag_records.set(sum(one.lag_records for one in followers))
