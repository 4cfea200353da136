"""One seed: workers on hosts, a broker, an input, faults; and whether all is as it must be then."""

import asyncio
import contextvars
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from streams.faults.broker import Broker
from streams.faults.chance import Chance
from streams.faults.client import SimulatedClock, SimulatedOutside
from streams.faults.disk import SimulatedDisk
from streams.faults.judge import Judge
from streams.faults.loop import PROCESS, Life, Process, VirtualLoop
from streams.faults.member import Member, Setup
from streams.faults.publishing import Publishing
from streams.faults.retelling import shipped
from streams.faults.scenario import Scenario, scenario_of
from streams.faults.shop import KEPT_MS
from streams.monitor import Monitor, TakeoverFrom
from streams.settings import Settings
from streams.state.marker import MARKER_KEY
from streams.topics import INPUT_TOPICS, INTERNAL_TOPICS, OUTPUT_TOPICS

OutsideFactory = Callable[[Settings, Broker, SimulatedDisk], SimulatedOutside]

STEPS_MAX: Final = 2_500  # a life that is to end by a crash does so within as many
RESTART_S: Final = (0.1, 3.0)
LOOK_S: Final = 1.0
SETTLE_S_MAX: Final = 90.0
BURIAL_S_MAX: Final = 600.0


@dataclass
class Outcome:
    """Of one seed. `violations` is empty when all was as it must be."""

    seed: int
    violations: list[str] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    events: int = 0
    lives: int = 0
    forecasts: int = 0
    decisions: int = 0
    virtual_s: float = 0.0
    trace: list[str] = field(default_factory=list)


@dataclass
class Host:
    """A machine, on which one worker after the other lives."""

    name: str
    disk: SimulatedDisk
    outside: SimulatedOutside
    crashes: int
    process: Process | None = None
    member: Member | None = None
    lives: int = 0
    wanted: bool = True


class Run:
    """`outside` stands in for the right one where a test breaks it on purpose."""

    def __init__(
        self,
        seed: int,
        traced: bool = False,
        outside: OutsideFactory = SimulatedOutside,
    ) -> None:
        self.outcome = Outcome(seed)
        self._traced = traced
        self._chance = Chance(seed)
        self._scenario: Scenario = scenario_of(self._chance)
        settings = self._scenario.settings
        self._loop = VirtualLoop(self._chance.rng)
        names = [
            (settings.topic(topic), number)
            for topic in (*INPUT_TOPICS, *OUTPUT_TOPICS, *INTERNAL_TOPICS)
            for number in range(self._scenario.partitions)
        ]
        self._broker = Broker(
            self._loop,
            self._chance,
            names,
            self._scenario.partitions,
            settings.standby_replicas,
            settings.session_timeout_ms / 1_000,
            self.trace,
        )
        forecaster = shipped() if settings.forecasting else None
        self._setup = Setup(settings, self._scenario.partitions, forecaster, _MONITOR, (11, 13))
        self._publishing = Publishing(self._broker)
        self._new_outside = outside
        self._processes: list[Process] = []
        self._hosts = [self._host(index) for index in range(self._scenario.hosts)]

    def trace(self, line: str) -> None:
        """What happened, for a reader."""
        if self._traced:
            self.outcome.trace.append(f"{self._loop.now_s:9.4f}  {line}")

    def result(self) -> Outcome:
        """Runs it. Deterministic in the seed."""
        asyncio.set_event_loop(self._loop)
        warm_before = _taken_from_standby()
        try:
            self._loop.run_until_complete(self._run())
        finally:
            asyncio.set_event_loop(None)
            self._loop.close()
        outcome = self.outcome
        outcome.faults = Counter(self._chance.counts)
        outcome.faults["fenced"] = self._broker.transactions.fenced
        outcome.faults["transaction_timed_out"] = self._broker.transactions.timed_out
        outcome.faults["evicted"] = self._broker.group.evicted
        outcome.faults["taken_from_standby"] = _taken_from_standby() - warm_before
        outcome.events = self._publishing.events
        outcome.lives = len(self._processes)
        outcome.virtual_s = self._loop.now_s
        return outcome

    # -- the run

    async def _run(self) -> None:
        self._plan()
        await asyncio.sleep(self._scenario.faults_until_s)
        await self._settle()
        self._bury()
        await self._unwind()

    def _plan(self) -> None:
        chance, until_s = self._chance, self._scenario.faults_until_s
        for told in self._scenario.told:
            if told.at_s:
                self._loop.later(told.at_s, self._publishing.tell, told)
            else:  # before any worker lives
                self._publishing.tell(told)
        for batch in self._scenario.batches:
            self._loop.later(batch.at_s, self._publishing.events_of, batch)
        for host in self._hosts:
            self._loop.later(chance.between(0.0, 0.5), self._begin_life, host)
        moments: list[tuple[str, Callable[[Host], None]]] = [
            ("freeze", self._freeze),
            ("silence", self._silence),
            ("leave", self._leave),
            ("outage", self._outage),
            ("clock_step", self._clock_step),
            ("transaction_killed", self._kill_transaction),
        ]
        for kind, work in moments:
            for _ in range(chance.times(kind)):
                host = chance.one_of(self._hosts)
                self._loop.later(chance.between(0.2, until_s), self._moment, kind, work, host)
        for second in range(1, int(until_s)):
            if chance.happens("compaction"):
                self._loop.later(float(second), self._compact)

    def _moment(self, kind: str, work: Callable[[Host], None], host: Host) -> None:
        if not self._chance.quiet:
            work(host)
            self._chance.note(kind)
            self.trace(f"{host.name}: {kind}")

    async def _settle(self) -> None:
        """Faults end; all must be processed and closed."""
        self._chance.quiet = True
        self._broker.down_until_s = min(self._broker.down_until_s, self._loop.now_s)
        self.trace("faults end")
        for host in self._hosts:
            host.crashes = 0
            if host.process is not None:
                host.process.thaw()
                host.process.dies_at = None
            if host.member is not None:
                host.member.silent = False
        publishing = self._publishing
        judge = Judge(
            self._scenario.settings, self._broker.logs, publishing.placed, publishing.told
        )
        numbers = range(self._scenario.partitions)
        give_up_s = self._loop.now_s + SETTLE_S_MAX
        wrong: list[str] = []
        while self._loop.now_s < give_up_s:
            await asyncio.sleep(LOOK_S)
            behind = [number for number in numbers if not judge.processed(number)]
            wrong = [f"partition {number}: not all input is processed" for number in behind]
            wrong = wrong or [one for number in numbers for one in judge.violations(number)]
            if not wrong or any("twice" in one or "back" in one for one in wrong):
                break
        kept = self._scenario.settings.sku_retention_ms >= KEPT_MS
        if self._setup.forecaster is not None and kept and not wrong:
            for number in numbers:
                retold = judge.retold(number, self._setup.forecaster)
                self.outcome.forecasts += retold.forecasts
                self.outcome.decisions += retold.decisions
                wrong += retold.violations
        self.outcome.violations += wrong

    # -- lives

    def _host(self, index: int) -> Host:
        disk = SimulatedDisk(self._chance)
        outside = self._new_outside(self._scenario.settings, self._broker, disk)
        return Host(f"host{index}", disk, outside, self._chance.times("crash"))

    def _begin_life(self, host: Host) -> None:
        host.lives += 1
        process = Process(f"{host.name}.{host.lives}")
        if host.crashes > 0 and not self._chance.quiet:
            host.crashes -= 1
            process.dies_at = self._chance.some(STEPS_MAX)
        process.on_death = lambda: self._died(host, process)
        self._processes.append(process)
        host.process, host.member = process, None
        context = contextvars.copy_context()
        context.run(PROCESS.set, process)
        self.trace(f"{process.name}: begins")
        self._loop.call_soon(self._enter, host, process, context=context)

    def _enter(self, host: Host, process: Process) -> None:
        host.member = Member(self._setup, self._broker, host.outside, process.name)
        host.member.start()
        asyncio.create_task(self._watch(host, host.member))  # noqa: RUF006 kept by its process

    async def _watch(self, host: Host, member: Member) -> None:
        await member.worker.failed.wait()
        self.outcome.violations.append(f"{member.name} cannot go on: {member.worker.failure}")

    def _died(self, host: Host, process: Process) -> None:
        if not self._chance.quiet:
            self._chance.note("crash")
        self.trace(f"{process.name}: killed at step {process.steps}")
        if host.process is process:
            host.process = host.member = None
            self._loop.later(self._chance.between(*RESTART_S), self._restart, host)

    def _restart(self, host: Host) -> None:
        if host.process is None:
            others = [one.disk for one in self._hosts if one is not host]
            host.disk.between_lives(others)
            self._begin_life(host)

    def _freeze(self, host: Host) -> None:
        if (process := host.process) is not None:
            process.freeze()
            long = self._chance.rng.random() < 0.2
            pause_s = self._chance.between(30.0, 40.0) if long else self._chance.between(0.2, 6.0)
            self._loop.later(pause_s, process.thaw)

    def _silence(self, host: Host) -> None:
        if (member := host.member) is not None:
            member.silent = True
            self._loop.later(self._chance.between(1.0, 6.0), setattr, member, "silent", False)

    def _leave(self, host: Host) -> None:
        process, member = host.process, host.member
        if process is None or member is None or process.life is not Life.RUNNING:
            return
        context = contextvars.copy_context()
        context.run(PROCESS.set, process)
        self._loop.call_soon(self._end_life, host, process, member, context=context)

    def _end_life(self, host: Host, process: Process, member: Member) -> None:
        async def leave() -> None:
            await member.leave()
            self.trace(f"{process.name}: has left")
            self._loop.later(0.0, process.kill)

        asyncio.create_task(leave())  # noqa: RUF006 kept by its process

    # -- faults of the world

    def _outage(self, host: Host) -> None:
        """At once, or when the next transaction has been decided."""
        if self._chance.rng.random() < 0.5:
            self._broker.transactions.at_next_end = self._crash_broker
        else:
            self._crash_broker()

    def _crash_broker(self) -> None:
        if self._chance.quiet:
            return
        self._broker.transactions.come_back(lambda: self._chance.happens("skipped_markers"))
        long = self._chance.rng.random() < 0.3
        gone_s = self._chance.between(18.0, 34.0) if long else self._chance.between(0.2, 4.0)
        self._broker.down_until_s = self._loop.now_s + gone_s

    def _clock_step(self, host: Host) -> None:
        clock = host.outside.clock
        assert isinstance(clock, SimulatedClock)
        clock.wrong_by_ms += self._chance.one_of((-3_600_000, -700, 700, 3_600_000, 90_000_000))

    def _kill_transaction(self, host: Host) -> None:
        ids = self._broker.transactions.ids
        if ids:
            self._broker.transactions.abort_open(self._chance.one_of(ids))

    def _compact(self) -> None:
        topic = self._scenario.settings.topic("changelog")
        for number in range(self._scenario.partitions):
            log = self._broker.logs[topic, number]
            if log.batches:
                below = self._chance.pick(0, log.batches[-1].base)
                # rows that no marker follows yet are younger than the topic's compaction lag
                log.compact(min(below, log.newest(MARKER_KEY)), self._chance.rng.random() < 0.5)

    # -- the end

    def _bury(self) -> None:
        for process in self._processes:
            process.bury()

    async def _unwind(self) -> None:
        """Ends every task, so that nothing of one run lives on in the next."""
        give_up_s = self._loop.now_s + BURIAL_S_MAX
        while self._loop.now_s < give_up_s:
            left = [task for one in self._processes for task in one.tasks if not task.done()]
            if not left:
                return
            for task in left:
                task.cancel()
            await asyncio.wait(left, timeout=1.0)


def _taken_from_standby() -> int:
    labels = {"source": TakeoverFrom.STANDBY}
    return int(_MONITOR.registry.get_sample_value("flashcast_takeovers_total", labels) or 0)


_MONITOR: Final[Any] = Monitor(process=False)  # nothing reads it
