"""An event loop without threads and without time of its own: the same seed, the same order.

Time moves only when nothing is left to do at this instant. Everything that runs belongs to a
`Process` or to the world around them; a process may be killed between any two callbacks, after
which nothing of it runs, not even a `finally`, or be frozen and go on later as a zombie does.
"""

import asyncio
import contextvars
import heapq
import random
from asyncio import events
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

EXECUTOR_S_MAX: Final = 0.003  # until work given to a thread is done
TIMER_LATE_S_MAX: Final = 0.15  # a busy machine wakes sleepers late
TASKS_KEPT: Final = 200
_STEP_S: Final = 1e-6  # between two pieces of work of one thread


class Life(Enum):
    RUNNING = "running"
    FROZEN = "frozen"
    DEAD = "dead"
    BURIED = "buried"  # its tasks are being unwound, after the run; nothing it does has effect


class ProcessDiedError(BaseException):
    """Raised inside a step of a process that dies there."""


class StalledError(Exception):
    """Nothing is left to run, and somebody still waits."""


PROCESS: contextvars.ContextVar["Process | None"] = contextvars.ContextVar("process", default=None)


class Process:
    """One life of one worker. `dies_at` counts steps: callbacks, and operations on its disk."""

    def __init__(self, name: str, dies_at: int | None = None) -> None:
        self.name = name
        self.life = Life.RUNNING
        self.dies_at = dies_at
        self.steps = 0
        self.tasks: list[asyncio.Task[Any]] = []
        self.waiting: list[_Handle | _TimerHandle] = []  # what comes while it does not run
        self.on_death: Callable[[], None] = lambda: None

    @property
    def alive(self) -> bool:
        return self.life in (Life.RUNNING, Life.FROZEN)

    def step(self) -> None:
        """One more step. Raises ProcessDiedError when it is the last."""
        self.steps += 1
        if self.steps == self.dies_at:
            self.kill()
            raise ProcessDiedError

    def remember(self, task: asyncio.Task[Any]) -> None:
        """A task of its own, to be unwound after the run."""
        self.tasks.append(task)
        if len(self.tasks) > TASKS_KEPT:
            self.tasks = [one for one in self.tasks if not one.done()]

    def kill(self) -> None:
        """SIGKILL."""
        if self.alive:
            self.life = Life.DEAD
            self.on_death()

    def freeze(self) -> None:
        """SIGSTOP."""
        if self.life is Life.RUNNING:
            self.life = Life.FROZEN

    def thaw(self) -> None:
        """SIGCONT: all that was due meanwhile runs now."""
        if self.life is Life.FROZEN:
            self.life = Life.RUNNING
            self._go_on()

    def bury(self) -> None:
        """After the run: its tasks can be ended, and nothing they do on the way has effect."""
        self.on_death = lambda: None
        self.kill()
        self.life = Life.BURIED
        self._go_on()

    def _go_on(self) -> None:
        waiting, self.waiting = self.waiting, []
        for handle in waiting:
            handle.again()


class _Guarded:
    """What a handle of ours does before it runs."""

    __slots__ = ()

    if TYPE_CHECKING:
        _context: contextvars.Context
        _loop: "VirtualLoop"

    def allowed(self, handle: "_Handle | _TimerHandle") -> bool:
        process = self._context.get(PROCESS)
        if process is None or process.life is Life.BURIED:
            return True
        if process.life is Life.RUNNING:
            try:
                process.step()
            except ProcessDiedError:
                pass
            else:
                return True
        process.waiting.append(handle)
        return False


class _Handle(_Guarded, events.Handle):
    __slots__ = ()

    def _run(self) -> None:
        if self.allowed(self):
            super()._run()

    def again(self) -> None:
        self._loop.put_back(self)


class _TimerHandle(_Guarded, events.TimerHandle):
    __slots__ = ()

    def _run(self) -> None:
        if self.allowed(self):
            super()._run()

    def again(self) -> None:
        self._loop.put_back(self)


class _Task(asyncio.Task[Any]):
    """Sets of tasks must not be ordered by where in memory they lie."""

    _log_destroy_pending = False

    def __init__(self, coro: Any, number: int, **options: Any) -> None:
        self._number = number  # first: the base class puts itself into a set
        super().__init__(coro, **options)

    def __hash__(self) -> int:
        return self._number

    __eq__ = object.__eq__


class _Future(asyncio.Future[Any]):
    def __init__(self, number: int, loop: asyncio.AbstractEventLoop) -> None:
        self._number = number
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self._number

    __eq__ = object.__eq__


class _Sleeper:
    """Where a real loop waits for sockets: here time is moved on."""

    def __init__(self, loop: "VirtualLoop") -> None:
        self._loop = loop

    def select(self, timeout_s: float | None) -> list[Any]:
        if timeout_s is None:
            raise StalledError
        self._loop.now_s += timeout_s
        return []


class VirtualLoop(asyncio.BaseEventLoop):
    """`rng` decides how late timers fire, and when work in threads is done."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self.now_s = 0.0
        self._rng = rng
        self._selector = _Sleeper(self)
        self._clock_resolution = 1e-9
        self._created = 0
        self._busy_until_s: dict[Any, float] = {}  # by executor
        self._world = contextvars.copy_context()  # of no process
        self.set_task_factory(self._new_task)
        self.set_exception_handler(lambda loop, context: None)  # of tasks that nobody awaits

    def later(self, delay_s: float, work: Callable[..., Any], *arguments: Any) -> None:
        """Something that happens in the world, whatever becomes of who asked for it."""
        self._schedule(_TimerHandle(self.now_s + delay_s, work, arguments, self, self._world))

    def put_back(self, handle: events.Handle) -> None:
        """Run it after all that is due now."""
        self._ready.append(handle)  # type: ignore[attr-defined]

    # -- what asyncio asks of a loop

    def time(self) -> float:
        return self.now_s

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: Any = None
    ) -> events.TimerHandle:
        timer = _TimerHandle(when, callback, args, self, context)
        if PROCESS.get() is not None:
            timer._when += self._rng.random() * TIMER_LATE_S_MAX  # type: ignore[attr-defined]
        return self._schedule(timer)

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Any, *args: Any
    ) -> Any:
        """Done a moment later; an executor is taken to have one thread, the default one many."""
        future = self.create_future()
        process = PROCESS.get()
        if process is not None and process.life is Life.BURIED:
            future.set_exception(OSError("there is no process any more"))
            return future
        begin_s = max(self.now_s, self._busy_until_s.get(executor, 0.0))
        done_s = begin_s + self._rng.random() * EXECUTOR_S_MAX + _STEP_S
        if executor is not None:
            self._busy_until_s[executor] = done_s
        begun = self._rng.random() < 0.5  # so that cancelling it comes too late
        self._schedule(_TimerHandle(done_s, _work, (future, begun, func, args), self, None))
        return future

    def create_future(self) -> Any:
        self._created += 1
        return _Future(self._created, self)

    def _new_task(self, loop: Any, coro: Any, context: Any = None) -> Any:
        self._created += 1
        task = _Task(coro, self._created, loop=loop, context=context)
        process = PROCESS.get() if context is None else context.get(PROCESS)
        if process is not None:
            process.remember(task)
        return task

    def _call_soon(self, callback: Any, args: Any, context: Any) -> events.Handle:
        handle = _Handle(callback, args, self, context)
        self.put_back(handle)
        return handle

    def _schedule(self, timer: events.TimerHandle) -> events.TimerHandle:
        heapq.heappush(self._scheduled, timer)  # type: ignore[attr-defined]
        timer._scheduled = True  # type: ignore[attr-defined]
        return timer

    def _process_events(self, event_list: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass


def _work(future: asyncio.Future[Any], begun: bool, func: Any, args: Any) -> None:
    """One piece of work of a thread."""
    if future.cancelled() and not begun:
        return
    try:
        result = func(*args)
    except ProcessDiedError:
        return
    except BaseException as error:
        if not future.cancelled():
            future.set_exception(error)
    else:
        if not future.cancelled():
            future.set_result(result)
