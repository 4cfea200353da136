"""One life of one worker: the production shells, and a stand-in for Faust's consumer around them.

What `transport.py` does with aiokafka is done here with the simulated broker: join, heartbeat, take
over, keep others' partitions warm, seek, fetch with the generation, hand over, commit the group's
offsets, join again.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from models.forecaster import Forecaster
from streams.batcher import Batcher
from streams.codec.batches import read_batches
from streams.codec.decode import Fetch
from streams.core_thread import CoreThread
from streams.errors import StateError
from streams.faults.broker import BACKOFF_S, Broker
from streams.faults.client import FETCH_BYTES_MAX, SHORT_FETCH_BYTES_MAX
from streams.faults.group import Assignment, RebalanceNeededError, UnknownMemberError
from streams.faults.logs import Answer
from streams.fetching import Drained, Empty
from streams.monitor import Monitor
from streams.opening import Opening
from streams.outside import Outside
from streams.settings import Settings
from streams.standby import Standbys
from streams.worker import Worker

POLL_S: Final = (0.02, 0.25)
HEARTBEATS_A_SESSION: Final = 4
JOIN_WAIT_S: Final = 30.0

Place = tuple[str, int]  # logical topic, partition


@dataclass(frozen=True)
class Setup:
    """What all workers of a run have in common."""

    settings: Settings
    partitions: int
    forecaster: Forecaster | None
    monitor: Monitor
    hash_key: tuple[int, int]


class Member:
    """`name` is what the group knows it by."""

    def __init__(self, setup: Setup, broker: Broker, outside: Outside, name: str) -> None:
        self._setup = setup
        self._broker = broker
        self.name = name
        core = CoreThread()
        self._standbys = Standbys(
            setup.settings, outside, setup.partitions, setup.hash_key, setup.monitor
        )
        opening = Opening(
            setup.settings,
            outside,
            setup.partitions,
            setup.forecaster,
            setup.hash_key,
            core,
            setup.monitor,
            self._standbys,
        )
        self.worker = Worker(
            setup.settings,
            Batcher(setup.forecaster),
            core,
            opening.open,
            self,
            setup.monitor,
            outside.clock,
        )
        self.silent = False  # its heartbeats do not arrive
        self._generation = -1
        self._assigned: set[int] = set()
        self._keeping = asyncio.Lock()  # one change of standbys after the other, as in Faust
        self._flowing = False
        self._positions: dict[Place, int] = {}
        self._rejoin = asyncio.Event()
        self._background: list[asyncio.Task[Any]] = []

    def start(self) -> None:
        self.worker.start()
        self._background = [
            asyncio.create_task(self._belong()),
            asyncio.create_task(self._poll()),
        ]

    async def leave(self) -> None:
        """As on SIGTERM."""
        self._flowing = False
        for task in self._background:
            task.cancel()
        await self.worker.finish()
        await self._standbys.close()
        await self._commit_offsets()
        with contextlib.suppress(KafkaError):  # its session will end
            await self._broker.ask("leave", lambda: self._broker.group.leave(self.name))

    # -- what custody asks of the consumer

    async def seek(self, positions: Mapping[Place, int]) -> None:
        for place, offset in positions.items():
            if place[1] in self._assigned:
                self._positions[place] = offset

    async def owns(self, offsets: Mapping[Place, int]) -> bool:
        if not all(number in self._assigned for _, number in offsets):
            return False
        return await self._commit(dict(offsets))

    async def rejoin(self) -> None:
        self._rejoin.set()

    # -- the group

    async def _belong(self) -> None:
        group, worker = self._broker.group, self.worker
        while True:
            self._rejoin.clear()
            assignment = await self._joined()
            self._generation, self._assigned, self._positions = (
                assignment.generation,
                assignment.owned,
                {},
            )
            taking = asyncio.create_task(self._take_over(assignment))
            self._background.append(taking)
            while not await self._told_to_join():
                pass
            self._flowing = False
            await worker.hand_over()
            await self._commit_offsets()
            self._background.remove(taking)
            self._broker.trace(f"{self.name}: joins again, generation was {group.generation}")

    async def _joined(self) -> Assignment:
        loop, group = self._broker.loop, self._broker.group
        while True:
            answer: asyncio.Future[Assignment] = loop.create_future()

            def join(answer: "asyncio.Future[Assignment]" = answer) -> None:
                group.join(self.name, answer)

            try:
                await self._broker.ask("join", join)
                async with asyncio.timeout(JOIN_WAIT_S):
                    return await answer
            except (KafkaError, TimeoutError):
                await asyncio.sleep(BACKOFF_S)

    async def _told_to_join(self) -> bool:
        """One heartbeat."""
        wait_s = self._setup.settings.session_timeout_ms / 1_000 / HEARTBEATS_A_SESSION
        try:
            async with asyncio.timeout(wait_s):
                await self._rejoin.wait()
            return True
        except TimeoutError:
            pass
        if self.silent:
            return False
        group, generation = self._broker.group, self._generation
        try:
            await self._broker.ask("heartbeat", lambda: group.heartbeat(self.name, generation))
        except (RebalanceNeededError, UnknownMemberError):
            return True
        except KafkaError:
            pass
        return False

    async def _take_over(self, assignment: Assignment) -> None:
        generation, numbers, standbys = assignment
        self._broker.trace(
            f"{self.name}: assigned {sorted(numbers)}, generation {generation}"
            + (f", keeps {sorted(standbys)} warm" if standbys else "")
        )
        complete = await self.worker.take_over(numbers, generation)
        if self._generation == generation:
            await self.seek(self.worker.positions())
            self._flowing = True
        async with self._keeping:
            if complete and self._generation == generation:
                await self._standbys.keep(standbys - numbers)

    async def _commit_offsets(self) -> None:
        offsets = self.worker.committed()
        mine = {place: at for place, at in offsets.items() if place[1] in self._assigned}
        if mine:
            await self._commit(mine)

    async def _commit(self, offsets: dict[Place, int]) -> bool:
        group, generation = self._broker.group, self._generation
        if self.silent:
            return False
        try:
            await self._broker.ask(
                "commit offsets", lambda: group.commit(self.name, generation, offsets)
            )
        except (KafkaError, UnknownMemberError):
            return False
        return True

    # -- fetches

    async def _poll(self) -> None:
        chance = self._broker.chance
        while True:
            await asyncio.sleep(chance.between(*POLL_S))
            ahead = self.worker.ahead
            wanted = {place: at for place, at in self._positions.items() if place not in ahead}
            if not self._flowing or not wanted:
                continue
            generation = self._generation
            try:
                answers = await self._broker.ask("fetch", lambda: self._answers(wanted))  # noqa: B023
            except OffsetOutOfRangeError as error:
                self.worker.fail(StateError(f"a position is no longer there: {error!r}"))
                return
            except KafkaError:
                continue
            stale = generation != self._generation or not self._flowing
            if not stale or chance.happens("stale_fetch"):
                await self._deliver(self._drained(wanted, answers, generation))

    def _answers(self, wanted: Mapping[Place, int]) -> dict[Place, tuple[Answer, int]]:
        settings, found = self._setup.settings, {}
        committed = settings.processing_guarantee == "exactly_once"
        for (topic, number), position in wanted.items():
            log = self._broker.logs[settings.topic(topic), number]
            short = self._broker.chance.happens("short_fetch")
            bytes_max = SHORT_FETCH_BYTES_MAX if short else FETCH_BYTES_MAX
            end = log.stable if committed else log.end
            found[topic, number] = log.fetch(position, committed, bytes_max), end
        return found

    def _drained(
        self, asked: Mapping[Place, int], answers: dict[Place, tuple[Answer, int]], generation: int
    ) -> Drained:
        drained = Drained(generation=generation)
        for place, (answer, end) in answers.items():
            position = asked[place]
            if self._positions.get(place) != position:
                continue  # sought elsewhere meanwhile
            data, behind = read_batches(answer.data, position, answer.aborted)
            drained.lag[place] = max(0, end - behind)
            if behind > position:
                self._positions[place] = behind
                drained.fetches.append(Fetch(*place, position, behind, data))
            elif position >= end:
                drained.empties.append(Empty(*place, position))
        return drained

    async def _deliver(self, drained: Drained) -> None:
        chance = self._broker.chance
        self.worker.answered(drained)
        for fetch in drained.fetches:
            await self.worker.offer(fetch)
            if chance.happens("repeated_fetch"):
                await self.worker.offer(fetch)
