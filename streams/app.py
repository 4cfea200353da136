"""One worker process: web first, then the broker, then everything else.

run_worker --> web --> preflight, retried while the broker is away --> running.py
                                  SIGTERM: last checkpoints, and leave --------^
"""

import asyncio
import contextlib
import importlib
import logging
import os
import signal
import sys
from typing import Any, Final, NoReturn, Protocol

import structlog

from streams import fetch_seam, preflight
from streams.errors import BrokerError, ConfigurationError, FlashcastError, StateError
from streams.monitor import Monitor
from streams.settings import Settings
from streams.web import server

log = structlog.get_logger("flashcast.app")

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_CONFIGURATION: Final = 2
RETRY_FIRST_S: Final = 1.0
RETRY_MAX_S: Final = 10.0
# A kernel that returns waits for the interpreter as long as another thread may keep it: at
# Python's own 5 ms the core stood still for half of a catch-up over sparse events.
SWITCH_INTERVAL_S: Final = 0.0002
NOISY: Final = ("faust", "mode", "aiokafka")


class Judged(Protocol):
    """Who can say how the worker is, and end it."""

    def fail(self, error: Exception) -> None: ...

    def not_alive(self) -> list[str]: ...
    def not_ready(self) -> list[str]: ...


class Status:
    """What the web says before there is a worker, and then what the worker says."""

    def __init__(self) -> None:
        self.worker: Judged | None = None
        self.waits_for = "starting"

    def not_alive(self) -> list[str]:
        return [] if self.worker is None else self.worker.not_alive()

    def not_ready(self) -> list[str]:
        return [self.waits_for] if self.worker is None else self.worker.not_ready()

    def refused(self, error: ConfigurationError) -> None:
        """Ends the worker, once there is one; before, what it checks at its start says the same."""
        if self.worker is not None:
            self.worker.fail(error)


def run_worker(settings: Settings) -> int:
    """Blocks until SIGTERM or SIGINT. The exit code: 0, 2 when an operator must mend something, 1
    for everything else.
    """
    _quiet(settings)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        return asyncio.run(_serve(settings))
    except FlashcastError as error:
        return _told(error)


def _told(error: FlashcastError) -> int:
    """Says why the worker ends; the exit code."""
    if isinstance(error, ConfigurationError | StateError):
        log.error("refusing to run", error=str(error))
        return EXIT_CONFIGURATION
    log.error("the worker failed", error=str(error))
    return EXIT_FAILED


def _quiet(settings: Settings) -> None:
    """What libraries log is seen at level debug alone: each failure is reported by us, once."""
    debug = settings.log_level == "debug"
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.DEBUG if debug else logging.CRITICAL)
    # never its debug lines: they hold the password
    logging.getLogger("kafka").setLevel(logging.INFO if debug else logging.CRITICAL)


async def _serve(settings: Settings) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    problem = fetch_seam.seam_problem()
    if problem is not None:
        log.warning("raw fetches are not to be had, going on record by record, slower", why=problem)
    monitor, status = Monitor(), Status()
    web = server.build(status, monitor, settings)
    async with server.served(web, settings.web_host, settings.web_port) as port:
        log.info("web is up", host=settings.web_host, port=port)
        partitions = await _first_contact(settings, status, stop)
        if partitions is None:
            return EXIT_OK
        status.waits_for = "the code to be loaded"
        loading = asyncio.create_task(asyncio.to_thread(_loaded, settings))
        if not await _ended_before(stop, loading):
            _leave_at_once("stopped while loading")
        running: Any = loading.result()
        job = running.Running(settings, partitions, monitor, raw=problem is None)
        try:
            await job.run(status, stop)
        except FlashcastError as error:
            if job.ended:
                raise
            _leave_at_once("left without saying goodbye to the group", _told(error))
        if not job.ended:
            _leave_at_once("left without saying goodbye to the group")
        return EXIT_OK


def _loaded(settings: Settings) -> Any:
    """All the code of a worker under these settings; seconds of it are torch."""
    if settings.forecasting:
        importlib.import_module("models.forecaster")
    return importlib.import_module("streams.running")


async def _ended_before(stop: asyncio.Event, task: asyncio.Task[Any]) -> bool:
    """Wait for `task` or `stop`, whichever comes first; whether it was the task."""
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    return task.done()


def _leave_at_once(why: str, code: int = EXIT_OK) -> NoReturn:
    """Past all that can be made durable, some thread would still keep the process: an import, or
    aiokafka, which waits for its broker to take leave of it. SIGKILL would be next.
    """
    log.warning(why)
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


async def _first_contact(settings: Settings, status: Status, stop: asyncio.Event) -> int | None:
    """The number of partitions, once the broker answers; None when stopped before."""
    delay_s = RETRY_FIRST_S
    while not stop.is_set():
        checking = asyncio.create_task(preflight.check(settings))
        if not await _ended_before(stop, checking):
            checking.cancel()
            await asyncio.gather(checking, return_exceptions=True)
            return None
        try:
            return checking.result()
        except BrokerError as error:
            status.waits_for = str(error)
            log.warning("waiting for Kafka", error=str(error), next_try_s=delay_s)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), delay_s)
        delay_s = min(2 * delay_s, RETRY_MAX_S)
    return None
