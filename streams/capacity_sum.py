"""Sums every partition's share of the load into `capacity-forecasts`, in the worker that owns
partition 0.

One reader of all shares and one transactional id of its own: a new owner of partition 0 shuts the
old one out. Shares come every bucket; a missing one goes stale and stops the forecasts, it is never
taken for zero.
"""

import asyncio
import contextlib
from collections.abc import Callable
from itertools import pairwise
from typing import Final

import msgspec
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from streams.checkpoint import Output
from streams.cloud_events import encode_decision
from streams.codec.write import encode_records
from streams.decisions.capacity import ShareSum
from streams.denied import denied
from streams.emit import Emitter, emitter_for
from streams.errors import UNREADABLE, BrokerError, ConfigurationError
from streams.fetching import client_options, isolation_level, leave
from streams.monitor import Monitor
from streams.outside import Outside
from streams.records import EVENT_TIME_MS_MAX, CapacityForecast, CapacityShare
from streams.settings import Settings
from streams.topics import CAPACITY_FORECASTS, CAPACITY_SHARES, EVENT_TOPICS

log = structlog.get_logger("flashcast.capacity")

OWNER_OF: Final = 0  # the partition whose owner sums
ROLE: Final = "capacity"
LOOK_S: Final = 1.0
RETRY_S: Final = 5.0
BUCKET_MS_MAX: Final = 3_600_000  # as settings allow
HORIZONS_MAX: Final = 8
HORIZON_MS_MAX: Final = 86_400_000
NUMBER_MAX: Final = 1e12  # events a second, and their variance
LEVELS: Final = ("p50", "p90", "p95")


class CapacitySum:
    """A task beside the worker. `owns` says whether a partition is ready here; `fail` ends the
    worker, when a right is missing.
    """

    def __init__(
        self,
        settings: Settings,
        outside: Outside,
        partitions: int,
        owns: Callable[[int], bool],
        monitor: Monitor,
        fail: Callable[[Exception], None],
    ) -> None:
        self._settings = settings
        self._outside = outside
        self._partitions = partitions
        self._owns = owns
        self._monitor = monitor
        self._fail = fail
        self._newest_ms = 0  # end of the newest bucket of any share
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; does nothing while partition 0 is elsewhere, or without forecasts."""
        if self._settings.forecasting and self._settings.services:
            self._task = asyncio.create_task(self._run(), name="capacity-sum")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            if self._owns(OWNER_OF):
                try:
                    await self._sum_while_owner()
                except Exception as error:  # nobody would notice that this task has ended
                    named = isinstance(error, ConfigurationError)
                    refused = error if named else denied(self._settings, error, "Read")
                    if refused is not None:  # a right that is missing: no time mends it
                        self._fail(refused)
                        return
                    known = isinstance(error, BrokerError | KafkaError)
                    log.warning(
                        "capacity forecasts interrupted, trying again",
                        error=str(error) or repr(error),
                        exc_info=not known,
                    )
                    await asyncio.sleep(RETRY_S)
            await asyncio.sleep(LOOK_S)

    async def _sum_while_owner(self) -> None:
        emitter = emitter_for(self._settings, self._outside, 0, ROLE)
        consumer = AIOKafkaConsumer(
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level=isolation_level(self._settings),
            fetch_max_wait_ms=200,
            **client_options(self._settings),
        )
        try:
            await emitter.start()
            await consumer.start()
            total = ShareSum(self._partitions)
            last = await self._read_back(consumer, total)
            while self._owns(OWNER_OF):
                last = await self._step(consumer, emitter, total, last)
        finally:
            await leave(consumer)
            await emitter.stop()

    async def _read_back(self, consumer: AIOKafkaConsumer, total: ShareSum) -> int:
        """Go on from the last published forecasts: a new owner must not scale in at once. Ends with
        the shares assigned; returns when the newest forecast was for.
        """
        topic = TopicPartition(self._settings.topic(CAPACITY_FORECASTS), 0)
        consumer.assign([topic])
        end = (await consumer.end_offsets([topic]))[topic]
        latest: dict[str, CapacityForecast] = {}
        await consumer.seek_to_beginning(topic)
        while await consumer.position(topic) < end:
            for record in (await consumer.getmany(topic, timeout_ms=1_000)).get(topic, ()):
                with contextlib.suppress(*UNREADABLE):
                    forecast = msgspec.json.decode(record.value or b"", type=CapacityForecast)
                    latest[forecast.service] = forecast
        for forecast in latest.values():
            total.restore(forecast)
        shares = self._settings.topic(CAPACITY_SHARES)
        numbers = [TopicPartition(shares, number) for number in range(self._partitions)]
        consumer.assign(numbers)
        await consumer.seek_to_beginning(*numbers)
        return max((forecast.as_of_ms for forecast in latest.values()), default=0)

    async def _step(
        self, consumer: AIOKafkaConsumer, emitter: Emitter, total: ShareSum, last_ms: int
    ) -> int:
        """Take in the shares that came; publish when a bucket has ended since `last_ms`, what the
        last forecast was for. Returns what it now is.
        """
        came = False
        for records in (await consumer.getmany(timeout_ms=500)).values():
            for record in records:
                share = read_share(record.value, record.partition)
                if share is not None and total.add(share):
                    self._newest_ms = max(self._newest_ms, share.bucket_start_ms + share.bucket_ms)
                    came = True
        if not came or self._newest_ms <= last_ms:
            return last_ms
        as_of_ms = self._newest_ms
        by_event = self._settings.clock == "event"
        now_ms = as_of_ms if by_event else self._outside.clock.wall_ms()
        forecasts = [total.forecast(service, now_ms) for service in self._settings.services]
        made = [forecast for forecast in forecasts if forecast is not None]
        if not made:
            log.debug("no capacity forecast", why=total.missing(now_ms))
            return last_ms
        await emitter.publish(self._outputs(made))
        for forecast in made:
            self._count(forecast)
        return as_of_ms

    def _outputs(self, forecasts: list[CapacityForecast]) -> list[Output]:
        source = f"/{self._settings.topic(self._settings.application)}/{ROLE}"
        encoded = [encode_decision(forecast, source)[1] for forecast in forecasts]
        return [Output(CAPACITY_FORECASTS, batch) for batch in encode_records(encoded)]

    def _count(self, forecast: CapacityForecast) -> None:
        self._monitor.capacity_forecasts.labels(forecast.service).inc()
        for level in LEVELS:
            replicas = getattr(forecast.desired_replicas, level)
            self._monitor.desired_replicas.labels(forecast.service, level).set(replicas)


def read_share(value: bytes | None, partition: int) -> CapacityShare | None:
    """The share that a record of `partition` holds; None for a tombstone, and for what is no share
    of that partition, or one that nobody could add up.
    """
    try:
        share = msgspec.json.decode(value or b"", type=CapacityShare)
    except UNREADABLE:
        return None
    return share if share.partition == partition and _adds_up(share) else None


def _adds_up(share: CapacityShare) -> bool:
    """Whether its lists fit together, its horizons ascend, and no number is out of this world."""
    kinds, horizons = len(EVENT_TOPICS), share.horizons_ms
    table = [*share.mean_per_s, *share.variance_per_s2]
    return (
        0 <= share.bucket_start_ms <= EVENT_TIME_MS_MAX
        and 1 <= share.bucket_ms <= BUCKET_MS_MAX
        and len(share.observed) == kinds
        and all(0 <= count <= NUMBER_MAX for count in share.observed)
        and len(horizons) == len(share.mean_per_s) == len(share.variance_per_s2) <= HORIZONS_MAX
        and all(0 < one < other for one, other in pairwise([*horizons, HORIZON_MS_MAX]))
        and all(len(row) == kinds and all(0 <= x <= NUMBER_MAX for x in row) for row in table)
    )
