"""Sums every partition's share of the load into `capacity-forecasts`, in the worker that owns
partition 0.

One reader of all shares and one transactional id of its own: a new owner of partition 0 shuts the
old one out. Shares come every bucket; a missing one goes stale and stops the forecasts, it is never
taken for zero. A batch that is unreadable is counted, named and gone over: the next bucket brings
newer shares, and until then those that are known hold.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Final

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from streams.checkpoint import Output
from streams.cloud_events import encode_decision
from streams.codec import published
from streams.codec.plain import Record
from streams.codec.write import encode_records
from streams.decisions.capacity import ShareSum
from streams.denied import denied
from streams.emit import Emitter, emitter_for
from streams.errors import UNREADABLE, BrokerError, ConfigurationError
from streams.fetch_seam import in_place, seam_problem
from streams.fetching import Drain, client_options, isolation_level, leave
from streams.log_reader import LogReader, records_of
from streams.monitor import Monitor
from streams.outside import Outside
from streams.records import EVENT_TIME_MS_MAX, CapacityForecast, CapacityShare
from streams.settings import Settings
from streams.state.settling import settle
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
WAIT_S: Final = 0.5


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
        seam_problem()  # puts the seam in place, if it can be
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
            async with self._outside.reader(emitter.partition) as committed:
                await settle(self._settings, self._outside, emitter, committed)
            total = ShareSum(self._partitions)
            last = await self._read_back(total)
            await consumer.start()
            shares = self._settings.topic(CAPACITY_SHARES)
            consumer.assign([TopicPartition(shares, one) for one in range(self._partitions)])
            await consumer.seek_to_beginning()
            drain = Drain(consumer, lambda _: CAPACITY_SHARES, raw=in_place())
            while self._owns(OWNER_OF):
                last = await self._step(drain, emitter, total, last)
        finally:
            await leave(consumer)
            await emitter.stop()

    async def _read_back(self, total: ShareSum) -> int:
        """Go on from the last published forecasts: a new owner must not scale in at once. Returns
        when the newest one was for.
        """
        latest: dict[str, CapacityForecast] = {}
        async with LogReader(self._settings) as reader:
            begin, end = await reader.bounds(CAPACITY_FORECASTS, 0)
            async for records in reader.read(CAPACITY_FORECASTS, 0, begin, end):
                for record in self._readable(CAPACITY_FORECASTS, 0, records):
                    with contextlib.suppress(*UNREADABLE):
                        forecast = published.CAPACITY.decode(record.value or b"")
                        latest[forecast.service] = forecast
        for forecast in latest.values():
            total.restore(forecast)
        return max((forecast.as_of_ms for forecast in latest.values()), default=0)

    def _readable(self, topic: str, partition: int, records: Iterable[Record]) -> Iterator[Record]:
        """Without those that stand for a batch that is unreadable, which are counted and named."""
        for record in records:
            if record.unreadable is None:
                yield record
                continue
            self._monitor.capacity_batches_unreadable.labels(topic).inc()
            log.warning(
                "a batch is unreadable, gone over",
                topic=topic,
                partition=partition,
                why=record.unreadable,
            )

    async def _step(self, drain: Drain, emitter: Emitter, total: ShareSum, last_ms: int) -> int:
        """Take in the shares that came; publish when a bucket has ended since `last_ms`, what the
        last forecast was for. Returns what it now is.
        """
        came = False
        await drain.wait(WAIT_S)
        drained = await drain.take()
        for fetch in drained.fetches:
            records = await asyncio.to_thread(records_of, fetch)
            for record in self._readable(CAPACITY_SHARES, fetch.partition, records):
                share = read_share(record.value, fetch.partition)
                if share is not None and total.add(share):
                    self._newest_ms = max(self._newest_ms, share.bucket_start_ms + share.bucket_ms)
                    came = True
        if drained.error is not None:
            raise drained.error
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
        share = published.SHARE.decode(value or b"")
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
