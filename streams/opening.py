"""Opens one partition: emitter started, state restored, duplicates remembered, inputs placed."""

import structlog
import torch

from models.errors import ModelError
from models.forecaster import Forecaster
from streams import stats
from streams.checkpoint import Restored
from streams.core_thread import CoreThread
from streams.emit import Emitter, emitter_for
from streams.errors import ConfigurationError
from streams.monitor import Monitor
from streams.outside import Outside
from streams.owned import Owned
from streams.pipeline import Pipeline
from streams.settings import Settings
from streams.state.partition_reader import PartitionReader
from streams.state.recovery import references, restore, seen_before
from streams.topics import EVENT_TOPICS

log = structlog.get_logger("flashcast.opening")

HashKey = tuple[int, int]


class Opening:
    """What it takes to open any partition of this worker."""

    def __init__(
        self,
        settings: Settings,
        outside: Outside,
        partitions: int,
        forecaster: Forecaster | None,
        hash_key: HashKey,
        core: CoreThread,
        monitor: Monitor,
    ) -> None:
        self._settings = settings
        self._outside = outside
        self._partitions = partitions
        self._forecaster = forecaster
        self._hash_key = hash_key
        self._core = core
        self._monitor = monitor

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
        emitter = emitter_for(self._settings, self._outside, partition)
        try:
            async with self._outside.reader(partition) as reader:
                restored = await restore(self._settings, self._outside, emitter, reader)
                return await self._assembled(partition, emitter, reader, restored)
        except BaseException:
            await emitter.stop()
            raise

    async def _assembled(
        self, partition: int, emitter: Emitter, reader: PartitionReader, restored: Restored
    ) -> Owned:
        pipeline = await self._core(
            Pipeline,
            self._settings,
            partition,
            self._partitions,
            self._forecaster,
            restored,
            self._hash_key,
        )
        remembered = 0
        if restored.marker is not None:
            committed = dict(restored.marker.offsets)
            horizon = self._settings.dedupe_horizon_records
            async for fetch in seen_before(reader, restored.marker, horizon):
                await self._core(pipeline.remember, fetch)
                remembered += fetch.next_offset - fetch.first_offset
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

    def _note(self, partition: int, restored: Restored, remembered: int) -> None:
        stats = restored.stats
        self._monitor.restore_rows.inc(len(restored.names))
        self._monitor.restore_rows_refused.inc(stats.rows_corrupt)
        self._monitor.history_buckets_missing.inc(stats.history_missing)
        log.info(
            "partition opened",
            partition=partition,
            skus=len(restored.names),
            from_copy=stats.copy_used,
            changelog_records=stats.changelog_records,
            events_remembered=remembered,
            first_start=restored.marker is None,
        )


def load_forecaster(settings: Settings) -> Forecaster | None:
    """None when forecasting is off. Raises ConfigurationError when the weights cannot be used."""
    if not settings.forecasting:
        return None
    torch.set_num_threads(1)  # the loop, the fetcher and the kernels need the other cores
    try:
        return Forecaster.load(settings.weights_file, settings.device)
    except ModelError as error:
        raise ConfigurationError(str(error)) from error
