"""The simulated broker, and the network before it: requests and answers take time, and get lost."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from aiokafka.errors import (
    ConcurrentTransactions,
    KafkaConnectionError,
    RequestTimedOutError,
)

from streams.faults.chance import Chance
from streams.faults.group import GroupCoordinator
from streams.faults.logs import PartitionLog
from streams.faults.loop import PROCESS, Life, VirtualLoop
from streams.faults.transactions import LogName, TransactionCoordinator

T = TypeVar("T")

EPOCH_MS: Final = 1_750_000_000_000  # the wall clock when a run begins
REQUEST_S_MAX: Final = 0.008
ANSWER_S_MAX: Final = 0.02
SLOW_ANSWER_S_MAX: Final = 4.0
GIVEN_UP_S: Final = (0.3, 2.0)  # until a client takes its connection for broken
MARKER_S_MAX: Final = 0.01
SLOW_MARKER_S_MAX: Final = 1.5
BACKOFF_S: Final = 0.1
RETRIED: Final = (RequestTimedOutError, ConcurrentTransactions, KafkaConnectionError)


class Broker:
    """Logs, transactions and the group; `ask` is the way to all of them."""

    def __init__(
        self,
        loop: VirtualLoop,
        chance: Chance,
        names: Iterable[LogName],
        partitions: int,
        replicas: int,
        session_s: float,
        trace: Callable[[str], None],
    ) -> None:
        self.loop = loop
        self.chance = chance
        self.trace = trace
        self.logs = {name: PartitionLog() for name in names}
        self.transactions = TransactionCoordinator(
            self.logs,
            loop.later,
            loop.time,
            self._marker_delay_s,
            self.wall_ms,
        )
        self.group = GroupCoordinator(
            partitions, replicas, session_s, chance, loop.later, loop.time
        )
        self.down_until_s = 0.0

    def wall_ms(self) -> int:
        """The right time."""
        return EPOCH_MS + round(self.loop.now_s * 1_000)

    def _marker_delay_s(self) -> float:
        slow = self.chance.happens("slow_marker")
        return self.chance.between(0.0, SLOW_MARKER_S_MAX if slow else MARKER_S_MAX)

    async def ask(self, what: str, act: Callable[[], T]) -> T:
        """One request: `act` happens at the broker, whatever becomes of who asked; its result or
        error is the answer. Raises RequestTimedOutError when either is lost.
        """
        process = PROCESS.get()
        if process is not None and process.life is Life.BURIED:
            raise KafkaConnectionError
        who = "-" if process is None else process.name
        answer: asyncio.Future[T] = self.loop.create_future()
        request_lost = self.chance.happens("lost_request")
        answer_lost = not request_lost and self.chance.happens("lost_answer")

        def arrive() -> None:
            if self.loop.now_s < self.down_until_s:
                back_s = self.down_until_s - self.loop.now_s
                self.loop.later(back_s + self.chance.between(0.0, REQUEST_S_MAX), arrive)
                return
            try:
                result = act()
            except Exception as error:
                self.trace(f"{who}: {what}: {error!r}")
                if not answer_lost:
                    self.loop.later(self._answer_s(), _fail, answer, error)
            else:
                self.trace(f"{who}: {what}" + (" (answer lost)" if answer_lost else ""))
                if not answer_lost:
                    self.loop.later(self._answer_s(), _succeed, answer, result)

        if request_lost:
            self.trace(f"{who}: {what} (request lost)")
        else:
            self.loop.later(self.chance.between(0.0, REQUEST_S_MAX), arrive)
        if request_lost or answer_lost:
            given_up_s = self.chance.between(*GIVEN_UP_S)
            self.loop.later(given_up_s, _fail, answer, RequestTimedOutError())
        return await answer

    async def ask_until_answered(self, what: str, act: Callable[[], T]) -> T:
        """The same, asked again as long as a client would."""
        while True:
            try:
                return await self.ask(what, act)
            except RETRIED:
                await asyncio.sleep(BACKOFF_S)

    def _answer_s(self) -> float:
        slow = self.chance.happens("slow_answer")
        return self.chance.between(0.0, SLOW_ANSWER_S_MAX if slow else ANSWER_S_MAX)


def _succeed(answer: "asyncio.Future[T]", result: T) -> None:
    if not answer.done():
        answer.set_result(result)


def _fail(answer: "asyncio.Future[T]", error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)
