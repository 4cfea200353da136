"""The latest `capacity-forecasts` record of each service, read from the topic itself.

One worker sums the shares of all partitions, but every worker's web answers for the sum: whichever
pod an autoscaler's request reaches, the answer is the same, and it outlives a restart.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec
import structlog

from streams.codec import published
from streams.codec.plain import Record
from streams.errors import ConfigurationError
from streams.records import CapacityForecast
from streams.settings import Settings
from streams.topics import CAPACITY_FORECASTS
from streams.web.follow import RETRY_S, Follower

CANCEL_S: Final = 2.0

log = structlog.get_logger("flashcast.web")


@dataclass(frozen=True, slots=True)
class Held:
    """One record and the wall clock time until which it may be acted upon."""

    forecast: CapacityForecast
    fresh_until_ms: int


class CapacityFeed:
    """Follows the topic between `start` and `stop`. Bounded by the configured services. `refused`
    is told each time that the broker does not let us, which is then tried again.
    """

    def __init__(self, settings: Settings, refused: Callable[[ConfigurationError], None]) -> None:
        self._settings = settings
        self._refused = refused
        self._services = {service.name for service in settings.services}
        self._held: dict[str, Held] = {}
        self._task: asyncio.Task[None] | None = None

    def latest(self, service: str) -> Held | None:
        """None: no record of this service has been read."""
        return self._held.get(service)

    def add(self, value: bytes | None, timestamp_ms: int) -> None:
        """Take in one record. One that cannot be read changes nothing."""
        if value is None:
            return
        try:
            forecast = published.CAPACITY.decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            log.warning("a capacity-forecasts record cannot be read, skipped", error=str(error))
            return
        if forecast.service in self._services:
            self._held[forecast.service] = Held(forecast, self._fresh_until(forecast, timestamp_ms))

    def _fresh_until(self, forecast: CapacityForecast, timestamp_ms: int) -> int:
        if self._settings.clock == "wall":
            return forecast.valid_until_ms
        # event clock: a forecast about the past is as fresh as its publication
        return timestamp_ms + forecast.valid_until_ms - forecast.as_of_ms

    async def start(self) -> None:
        """Begin to follow the topic; never waits for the broker."""

        def take(_: str, __: int, record: Record) -> None:
            self.add(record.value, record.timestamp_ms)

        follower = Follower(self._settings, (CAPACITY_FORECASTS,), take)
        self._task = asyncio.create_task(self._follow(follower), name="capacity-feed")

    async def _follow(self, follower: Follower) -> None:
        while True:
            try:
                await follower.run()
            except ConfigurationError as error:
                self._refused(error)
            await asyncio.sleep(RETRY_S)

    async def stop(self) -> None:
        """Leave the broker."""
        task, self._task = self._task, None
        while task is not None and not task.done():
            task.cancel()  # not once for all: inside aiokafka a cancellation can be lost
            await asyncio.wait({task}, timeout=CANCEL_S)
