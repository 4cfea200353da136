"""Everything of a worker that needs a broker, put together: Faust, the core, the capacity sum.

Loaded late, in a thread: what it imports takes seconds, and `/livez` must answer meanwhile.
"""

import asyncio
import gc
import secrets
from typing import Final

import structlog

from streams.agents import ConsumerGroup, build_app
from streams.app import Status
from streams.batcher import Batcher
from streams.capacity_sum import CapacitySum
from streams.cluster import Cluster
from streams.core_thread import CoreThread
from streams.errors import BrokerError
from streams.monitor import Monitor
from streams.opening import Opening, load_forecaster
from streams.settings import Settings
from streams.standby import Standbys
from streams.worker import Worker

log = structlog.get_logger("flashcast.app")

STOP_TIMEOUT_S: Final = 8.5


class Running:
    """One worker, from the first contact with the broker until it leaves."""

    def __init__(self, settings: Settings, partitions: int, monitor: Monitor, raw: bool) -> None:
        self._settings = settings
        self._partitions = partitions
        self._monitor = monitor
        self._raw = raw
        self.ended = True  # False: Faust did not end in time, some thread of its still hangs

    async def run(self, status: Status, stop: asyncio.Event) -> None:
        """Until `stop` is set. Raises what made the worker unable to go on."""
        settings, core = self._settings, CoreThread()
        status.waits_for = "the forecaster's weights"
        forecaster = await core(load_forecaster, settings)
        if stop.is_set():
            return
        app = build_app(settings, self._raw)
        hash_key = (secrets.randbits(64), secrets.randbits(64))
        cluster, partitions, monitor = Cluster(settings), self._partitions, self._monitor
        standbys = Standbys(settings, cluster, partitions, hash_key, monitor)
        opening = Opening(
            settings, cluster, partitions, forecaster, hash_key, core, monitor, standbys
        )
        worker = Worker(
            settings,
            Batcher(forecaster),
            core,
            opening.open,
            ConsumerGroup(app),
            monitor,
            cluster.clock,
        )
        app.worker = status.worker = worker
        app.keep_warm = standbys.keep
        summing = CapacitySum(settings, cluster, partitions, worker.owns, monitor, worker.fail)
        # What is loaded by now stays, hundreds of thousands of objects: each full collection would
        # look through them again, for a quarter of a second in which nothing else runs.
        gc.collect()
        gc.freeze()
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
        for task in ends:
            task.cancel()

        async def leave() -> None:
            await asyncio.gather(summing.stop(), app.stop(), return_exceptions=True)
            await standbys.close()  # after the openings that go back to them

        leaving = asyncio.create_task(leave(), name="leave")
        done, _ = await asyncio.wait([leaving], timeout=STOP_TIMEOUT_S)
        self.ended = bool(done)
        starting.cancel()
        if worker.failure is not None:
            raise worker.failure
        if crashed is not None:
            raise BrokerError(f"Faust's consumer ended: {crashed!r}") from crashed
