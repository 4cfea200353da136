"""One worker process: web first, then the broker, then Faust's app with an agent per input topic.

run_worker --> web --> preflight (retried while the broker is away) --> Faust --> SIGTERM:
checkpoint, leave
"""

import asyncio
import contextlib
import logging
import secrets
import signal
from collections.abc import AsyncIterator
from typing import Final

import structlog
from aiokafka.errors import KafkaError

from streams import fetching, preflight
from streams.agents import FlashcastApp, Group, build_app
from streams.batcher import Batcher
from streams.capacity_sum import CapacitySum
from streams.core_thread import CoreThread
from streams.errors import BrokerError, ConfigurationError, FlashcastError, StateError
from streams.monitor import Monitor
from streams.opening import Opening, load_forecaster
from streams.settings import Settings
from streams.web import server
from streams.worker import Worker

log = structlog.get_logger("flashcast.app")

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_CONFIGURATION: Final = 2
RETRY_FIRST_S: Final = 1.0
RETRY_MAX_S: Final = 10.0
STOP_TIMEOUT_S: Final = 9.0
NOISY: Final = ("faust", "mode", "aiokafka", "kafka")


class Status:
    """What the web says before there is a worker, and then what the worker says."""

    def __init__(self) -> None:
        self.worker: Worker | None = None
        self.waits_for = "starting"

    def not_alive(self) -> list[str]:
        return [] if self.worker is None else self.worker.not_alive()

    def not_ready(self) -> list[str]:
        return [self.waits_for] if self.worker is None else self.worker.not_ready()


def run_worker(settings: Settings) -> int:
    """Blocks until SIGTERM or SIGINT. The exit code: 0, 2 when an operator must mend something, 1
    for everything else.
    """
    _quiet(settings)
    try:
        return asyncio.run(_serve(settings))
    except (ConfigurationError, StateError) as error:
        log.error("refusing to run", error=str(error))
        return EXIT_CONFIGURATION
    except FlashcastError as error:
        log.error("the worker failed", error=str(error))
        return EXIT_FAILED


def _quiet(settings: Settings) -> None:
    """Libraries say only what is wrong, unless everything is wanted."""
    for name in NOISY:
        level = logging.DEBUG if settings.log_level == "debug" else logging.CRITICAL
        logging.getLogger(name).setLevel(level)


async def _serve(settings: Settings) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    problem = fetching.seam_problem()
    if problem is not None:
        log.warning("raw fetches are not to be had, going on record by record, slower", why=problem)
    monitor, status = Monitor(), Status()
    web = server.build(status, monitor, settings)
    async with server.served(web, settings.web_host, settings.web_port) as port:
        log.info("web is up", host=settings.web_host, port=port)
        partitions = await _first_contact(settings, status, stop)
        if partitions is None:
            return EXIT_OK
        async with _running(settings, partitions, monitor, status, problem is None) as running:
            return await _until_stopped(*running, stop)


async def _first_contact(settings: Settings, status: Status, stop: asyncio.Event) -> int | None:
    """The number of partitions, once the broker answers; None when stopped before."""
    delay_s = RETRY_FIRST_S
    while not stop.is_set():
        try:
            return await preflight.check(settings)
        except BrokerError as error:
            status.waits_for = str(error)
            log.warning("waiting for Kafka", error=str(error), next_try_s=delay_s)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), delay_s)
        delay_s = min(2 * delay_s, RETRY_MAX_S)
    return None


@contextlib.asynccontextmanager
async def _running(
    settings: Settings, partitions: int, monitor: Monitor, status: Status, raw: bool
) -> AsyncIterator[tuple[FlashcastApp, Worker]]:
    """Faust's app and the worker, started; left in order, within `STOP_TIMEOUT_S`."""
    core = CoreThread()
    forecaster = await core(load_forecaster, settings)
    app = build_app(settings, raw)
    hash_key = (secrets.randbits(64), secrets.randbits(64))
    opening = Opening(settings, partitions, forecaster, hash_key, core, monitor)
    worker = Worker(settings, Batcher(forecaster), core, opening.open, Group(app), monitor)
    app.worker = status.worker = worker
    summing = CapacitySum(settings, partitions, worker.owns, monitor)
    worker.start()
    summing.start()
    starting = asyncio.create_task(app.start(), name="faust")
    try:
        yield app, worker
    finally:
        await summing.stop()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await app.stop()
        except (TimeoutError, KafkaError) as error:
            log.warning("left without saying goodbye to the group", error=repr(error))
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)


async def _until_stopped(app: FlashcastApp, worker: Worker, stop: asyncio.Event) -> int:
    """Until a signal, a failure of the worker, or a crash of Faust's services."""
    ends = {
        asyncio.create_task(stop.wait()): "stopped",
        asyncio.create_task(worker.failed.wait()): "failed",
        asyncio.create_task(app.wait_until_stopped()): "crashed",
    }
    done, pending = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    if worker.failure is not None:
        raise worker.failure
    if "crashed" in {ends[task] for task in done}:
        log.error("Faust ended", reason=repr(app.crash_reason))
        return EXIT_FAILED
    log.info("leaving")
    return EXIT_OK
