"""Everything of a worker that needs a broker, put together: Faust, the core, the capacity sum.

Loaded late, in a thread: what it imports takes seconds, and `/livez` must answer meanwhile.
"""

import asyncio
import secrets
from typing import Final

import structlog
from aiokafka.errors import KafkaError

from streams.agents import ConsumerGroup, build_app
from streams.app import Status
from streams.batcher import Batcher
from streams.capacity_sum import CapacitySum
from streams.core_thread import CoreThread
from streams.errors import BrokerError
from streams.monitor import Monitor
from streams.opening import Opening, load_forecaster
from streams.settings import Settings
from streams.worker import Worker

log = structlog.get_logger("flashcast.app")

STOP_TIMEOUT_S: Final = 9.0


class Running:
    """One worker, from the first contact with the broker until it leaves."""

    def __init__(self, settings: Settings, partitions: int, monitor: Monitor, raw: bool) -> None:
        self._settings = settings
        self._partitions = partitions
        self._monitor = monitor
        self._raw = raw

    async def run(self, status: Status, stop: asyncio.Event) -> None:
        """Until `stop` is set. Raises what made the worker unable to go on."""
        settings, core = self._settings, CoreThread()
        status.waits_for = "the forecaster's weights"
        forecaster = await core(load_forecaster, settings)
        app = build_app(settings, self._raw)
        hash_key = (secrets.randbits(64), secrets.randbits(64))
        opening = Opening(settings, self._partitions, forecaster, hash_key, core, self._monitor)
        group = ConsumerGroup(app)
        worker = Worker(settings, Batcher(forecaster), core, opening.open, group, self._monitor)
        app.worker = status.worker = worker
        summing = CapacitySum(settings, self._partitions, worker.owns, self._monitor)
        worker.start()
        summing.start()
        starting = asyncio.create_task(app.start(), name="faust")
        ends = [
            asyncio.create_task(stop.wait()),
            asyncio.create_task(worker.failed.wait()),
            asyncio.create_task(app.wait_until_stopped()),
        ]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        log.info("leaving")
        crashed = app.crash_reason
        await summing.stop()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await app.stop()
        except (TimeoutError, KafkaError) as error:
            log.warning("left without saying goodbye to the group", error=repr(error))
        for task in (starting, *ends):
            task.cancel()
        await asyncio.gather(starting, *ends, return_exceptions=True)
        if worker.failure is not None:
            raise worker.failure
        if crashed is not None:
            raise BrokerError(f"Faust's consumer ended: {crashed!r}") from crashed
