"""Opens one partition: emitter started, state restored, duplicates remembered, inputs placed."""

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING

import structlog

from models.errors import ModelError
from streams import stats
from streams.checkpoint import Restored
from streams.core_thread import CoreThread
from streams.emit import Emitter, emitter_for
from streams.errors import ConfigurationError
from streams.monitor import Monitor, TakeoverFrom
from streams.outside import Outside
from streams.owned import Owned
from streams.pipeline import Pipeline
from streams.settings import Settings
from streams.standby import Standbys
from streams.state.marker import Marker
from streams.state.partition_reader import PartitionReader
from streams.state.recovery import references, restore, seen_before
from streams.topics import EVENT_TOPICS
from streams.warm import Warm

if TYPE_CHECKING:
    from models.forecaster import Forecaster

log = structlog.get_logger("flashcast.opening")

HashKey = tuple[int, int]


class Opening:
    """What it takes to open any partition of this worker."""

    def __init__(
        self,
        settings: Settings,
        outside: Outside,
        partitions: int,
        forecaster: "Forecaster | None",
        hash_key: HashKey,
        core: CoreThread,
        monitor: Monitor,
        standbys: Standbys | None = None,
    ) -> None:
        self._settings = settings
        self._outside = outside
        self._partitions = partitions
        self._forecaster = forecaster
        self._hash_key = hash_key
        self._core = core
        self._monitor = monitor
        self._standbys = standbys
        self._turn: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def open(self, partition: int) -> Owned:
        """The partition as its last checkpoint left it, ready to be offered fetches.

        Raises StateError when it must not go on, BrokerError when it may be tried again.
        """
        if partition >= self._partitions:
            raise ConfigurationError(
                f"there is a partition {partition}, but there were {self._partitions} when this "
                "worker started: keys have moved. Copy the topics with `flashcast topics rekey`, "
                "and start anew under another FLASHCAST_APPLICATION"
            )
        async with self._turn[partition]:  # one that was cancelled may still be letting go
            return await self._open(partition)

    async def _open(self, partition: int) -> Owned:
        standby = None if self._standbys is None else self._standbys.promoted(partition)
        emitter = emitter_for(self._settings, self._outside, partition)
        try:
            async with self._outside.reader(partition) as reader:
                restored = await restore(self._settings, self._outside, emitter, reader, standby)
                warm = standby.warm if standby is not None and standby.given else None
                return await self._assembled(emitter, reader, restored, warm)
        except BaseException:
            try:
                await emitter.stop()  # it may have the local copy of what was kept
            finally:
                if self._standbys is not None and standby is not None:
                    await self._core(_nothing)  # what a cancelled call had begun there has ended
                    await self._standbys.put_back(standby)
            raise

    async def _assembled(
        self, emitter: Emitter, reader: PartitionReader, restored: Restored, warm: Warm | None
    ) -> Owned:
        partition = emitter.partition
        pipeline = await self._core(
            Pipeline,
            self._settings,
            partition,
            self._partitions,
            self._forecaster,
            restored,
            self._hash_key,
            warm,
        )
        remembered = 0
        if restored.marker is not None:
            committed = dict(restored.marker.offsets)
            if warm is None:
                remembered = await self._remember(pipeline, reader, restored.marker)
            starts = {topic: committed[topic] for topic in EVENT_TOPICS}
        else:
            committed = {}
            bounds = await reader.bounds(EVENT_TOPICS)
            starts = {topic: bounds[topic].start for topic in EVENT_TOPICS}
            await self._core(pipeline.begin_at, starts)
        async for fetch in references(reader):
            await self._core(pipeline.inform, fetch)
        self._note(partition, restored, remembered)
        positions = await self._core(pipeline.offsets)
        return Owned(
            partition=partition,
            pipeline=pipeline,
            emitter=emitter,
            expected=positions | starts,
            committed=committed,
            counted=await self._core(stats.totals, pipeline),
        )

    async def _remember(self, pipeline: Pipeline, reader: PartitionReader, marker: Marker) -> int:
        """What was seen before the marker; the records that took."""
        remembered = 0
        async for fetch in seen_before(reader, marker, self._settings.dedupe_horizon_records):
            await self._core(pipeline.remember, fetch)
            remembered += fetch.next_offset - fetch.first_offset
        return remembered

    def _note(self, partition: int, restored: Restored, remembered: int) -> None:
        stats = restored.stats
        self._monitor.restore_rows.inc(len(restored.names))
        self._monitor.restore_rows_refused.inc(stats.rows_corrupt)
        self._monitor.takeovers.labels(_source(restored)).inc()
        self._monitor.history_buckets_missing.inc(stats.history_missing)
        log.info(
            "partition opened",
            partition=partition,
            skus=len(restored.names),
            from_standby=stats.standby_used,
            from_copy=stats.copy_used,
            changelog_records=stats.changelog_records,
            events_remembered=remembered,
            first_start=restored.marker is None,
        )


def _nothing() -> None:
    pass


def _source(restored: Restored) -> TakeoverFrom:
    if restored.marker is None:
        return TakeoverFrom.NOTHING
    if restored.stats.standby_used:
        return TakeoverFrom.STANDBY
    return TakeoverFrom.COPY if restored.stats.copy_used else TakeoverFrom.CHANGELOG


def load_forecaster(settings: Settings) -> "Forecaster | None":
    """None when forecasting is off. Raises ConfigurationError when the weights cannot be used."""
    if not settings.forecasting:
        return None
    import torch  # noqa: PLC0415 - takes seconds and 200 MB, both for nothing without forecasts

    from models.forecaster import Forecaster  # noqa: PLC0415

    torch.set_num_threads(1)  # the loop, the fetcher and the kernels need the other cores
    try:
        return Forecaster.load(settings.weights_file, settings.device)
    except ModelError as error:
        raise ConfigurationError(str(error)) from error
