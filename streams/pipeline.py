"""The pure core of one partition: START HERE.

    fetches --offer--> queues --work--> decode, check, windows --tick--> closed buckets
        --> demand-windows, one forecaster step --> forecasts, decisions --take--> checkpoint

Records and times in, outputs and state out: no broker, no clock, no thread. Clicks p, carts p and
orders p, the SKUs keyed to p, their windows, forecasts, decisions and outputs belong together and
move together. All calls come from one thread. The batcher (batcher.py) closes buckets and forecasts
at their ends (origins.py): over all partitions at once in a catch-up, so that the forecaster has
large batches, else over one after the other, so that none waits for the next (turn.py). The shells
(worker.py, emit.py) bring the fetches and make the checkpoints durable.
"""

from collections import Counter, deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.features import BucketInputs
from models.prediction import Prediction
from streams import closing, topics
from streams.admission import Admission
from streams.checkpoint import Checkpoint, Restored
from streams.codec.columns import NO_ROW, Columns
from streams.codec.decode import START, Decoder, Fetch, Position
from streams.codec.pseudonyms import Pseudonyms
from streams.deciding import Decider
from streams.errors import ContractError, Reason, StateError
from streams.history import decode_windows
from streams.inputs import EventInput, FetchQueue
from streams.leaving import Leaving
from streams.origins import Origin
from streams.outbox import Outbox
from streams.reference_intake import ReferenceIntake
from streams.refusals import Refusals
from streams.row_bounds import REMEDY, require_names, require_rows
from streams.settings import Settings
from streams.sku_table import SkuTable
from streams.state.marker import MARKER_VERSION, Marker, Offset
from streams.state.snapshot import RowSchema
from streams.warm import Warm
from streams.watermark import Cut
from streams.windows import ClosedBucket, Verdict, Windows, WindowsConfig

if TYPE_CHECKING:  # they need torch, whose import takes seconds
    from models.forecaster import Forecaster
    from models.memory import ForecastMemory

Ints = NDArray[np.int64]

ROW_VERSION: Final = 1
_APPLIED: Final = int(Verdict.APPLIED)
REFUSED_MAX: Final = 512  # in one step: each takes some 0.1 ms, as they leave the compiled path
RESTORED_AT_ONCE: Final = 2_048  # rows: what they are unpacked into stays in a processor's cache


class _Core(msgspec.Struct, frozen=True):
    """What a marker holds of this partition, read back."""

    windows: dict[str, Any]
    decider: dict[str, Any]
    counts: list[tuple[list[str], Annotated[int, msgspec.Meta(ge=0)]]]
    history: list[tuple[int, Offset]]


# So that `convert` knows the type: msgspec 0.22 crashes where threads are the first to use one at
# the same time.
msgspec.json.Decoder(_Core)


class Pipeline:
    """One partition number of every topic keyed by SKU."""

    def __init__(
        self,
        settings: Settings,
        partition: int,
        partitions: int,
        forecaster: "Forecaster | None",
        restored: Restored,
        hash_key: tuple[int, int],
        warm: Warm | None = None,
    ) -> None:
        """`warm`: what a standby has kept up to `restored`, made with the same `hash_key`. It is
        used up; there is then nothing to `remember`.
        """
        self.settings = settings
        self.partition = partition
        self.skus = (
            SkuTable(partition, partitions, settings.partitioner, hash_key)
            if warm is None
            else warm.skus
        )
        self.windows = Windows(WindowsConfig.of(settings), self.skus)
        source = f"/{settings.topic_prefix}{settings.application}/{partition}"
        pseudonyms = Pseudonyms(settings.pseudonym_key)
        self.outbox = Outbox(source, settings.dead_letter_bytes_max, pseudonyms)
        self.decider = Decider(settings, partition, forecaster, self.outbox)
        self.counts: Counter[tuple[str, ...]] = Counter()
        offsets = restored.marker.offsets if restored.marker else {}
        self.events = [
            EventInput(
                topic, kind, offsets.get(topic, 0), Decoder(hash_key, settings.future_tolerance_ms)
            )
            for kind, topic in enumerate(topics.EVENT_TOPICS)
        ]
        self.refusals = Refusals(settings, partition, partitions, self.outbox, self.counts)
        self.admission = Admission(settings, self.skus, self.decider.reference, self.windows)
        self.references = ReferenceIntake(
            self.skus,
            self.admission,
            self.decider,
            self.windows,
            self.refusals,
            self.counts,
            offsets,
            settings.sku_retention_ms,
        )
        self._leaving = Leaving(
            self.skus, self.windows, self.decider, settings.sku_retention_ms, self.counts
        )
        queues: list[FetchQueue] = [*self.events, *self.references.queues]
        self._inputs = {queue.topic: queue for queue in queues}
        self._cuts: dict[bytes, bytes] = {}
        self._closed_since_take = False
        self.slice_timestamp_ms: int | None = None  # oldest record of the last `work`; None: none
        self._first_bucket_ms: int | None = None  # of those that the next checkpoint emits
        # (first bucket, offset in demand-windows) of each checkpoint that the history reaches into
        self._history: deque[tuple[int, int]] = deque()
        # of checkpoints not committed yet: the first bucket emitted, and the windows' own
        self._taken: deque[tuple[int | None, Mapping[str, Any]]] = deque()
        self._make_room()
        self._schema = RowSchema(ROW_VERSION, self._gather(np.zeros(0, np.int64)))
        self._restore(restored, warm)
        self._taken_offsets = self.offsets()

    # -- input

    def begin_at(self, starts: Mapping[str, int]) -> None:
        """On a first start: where the logs of the event topics begin, which need not be at 0."""
        for source in self.events:
            source.next_offset = starts[source.topic]

    def offer(self, fetch: Fetch) -> None:
        """Queue a fetch for its topic; the shell keeps the queues bounded."""
        self._inputs[fetch.topic].add(fetch)

    def queued_bytes(self, topic: str) -> int:
        """Bytes waiting of one logical topic."""
        return self._inputs[topic].queued_bytes

    def offsets(self) -> dict[str, int]:
        """Next offset to process of every logical input topic."""
        return {topic: queue.next_offset for topic, queue in self._inputs.items()}

    def empty(self, topic: str, position: int, monotonic_ms: int) -> None:
        """A fetch from `topic` at `position` was answered with nothing."""
        for source in self.events:
            if source.topic == topic and not source.ready and source.next_offset == position:
                self.windows.empty(source.kind, position, monotonic_ms)

    def interrupted(self) -> None:
        """Fetches were paused or went unanswered: silence until now says nothing."""
        for source in self.events:
            self.windows.interrupted(source.kind)

    def inform(self, fetch: Fetch) -> None:
        """After a restore: take in what a reference topic holds; every start reads it anew."""
        self.offer(fetch)
        self.references.work()

    def remember(self, fetch: Fetch) -> None:
        """After a restore: enter the events of a stretch already processed as seen."""
        source = self.events[topics.EVENT_TOPICS.index(fetch.topic)]
        data = np.frombuffer(fetch.data, np.uint8)
        position: Position | None = START
        while position is not None:
            position, _ = source.decoder.decode(data, source.kind, fetch.first_offset, position)
            self.windows.remember(source.kind, source.decoder.columns, data)
        source.decoder.columns.n = 0

    # -- the main path

    def work(self, monotonic_ms: int, now_ms: int) -> bool:
        """Process one slice of the topic whose event time is furthest behind.

        False when there is nothing to do, or nothing that may be done before buckets close or
        outputs are taken.
        """
        self.slice_timestamp_ms = None
        if self.full:
            return False
        progressed = self.references.work()
        waiting = [source for source in self.events if source.ready]
        for source in sorted(waiting, key=lambda one: self.windows.max_event_time_ms(one.kind)):
            self.windows.interrupted(source.kind)
            if self._work_slice(source):
                return True
        cuts = self.windows.idle_cuts(monotonic_ms, now_ms)
        # of several at one position the last reaches furthest
        self._cuts |= {cut.key: cut.value for cut in cuts}
        return progressed or bool(cuts)

    def _work_slice(self, source: EventInput) -> bool:
        columns = source.decoder.columns
        loaded = source.load()
        if loaded:
            misplaced = self.admission.admit(source.topic, source.data, columns)
            source.refuse(misplaced, Reason.WRONG_PARTITION, self.refusals.misplaced_detail)
            self._make_room()
            if columns.unknown_fields:
                self.counts["unknown_fields", source.topic] += columns.unknown_fields
        begin = source.begin
        end = self.windows.apply(source.kind, columns, begin, self._stop(columns, begin))
        if end > begin:
            self.slice_timestamp_ms = int(columns.timestamp_ms[begin:end].min())
        others = begin + np.flatnonzero(columns.verdict[begin:end] != _APPLIED)
        if len(others):
            self._set_aside(source, others)
        for refusal in source.advance(end):
            original = source.original(refusal.index)
            self.refusals.dead_letter(source.topic, original, refusal.reason, refusal.detail)
        return loaded or end > begin

    def _set_aside(self, source: EventInput, indexes: Ints) -> None:
        """Of events that were not applied: late ones to their topic, those whose SKU has no row to
        the dead letters.
        """
        columns = source.decoder.columns
        verdict = columns.verdict[indexes]
        for index in indexes[verdict == Verdict.LATE].tolist():
            self.refusals.late(source.topic, source.original(index))
        outside = columns.ok[indexes] & (columns.row[indexes] == NO_ROW)
        outside &= verdict == Verdict.REFUSED
        source.refuse(indexes[outside].tolist(), self.admission.reason, self.admission.detail)

    def _stop(self, columns: Columns, begin: int) -> int:
        """Where to stop so that no more than REFUSED_MAX records become dead letters at once."""
        if columns.n - begin <= REFUSED_MAX:
            return columns.n
        fine = columns.ok[begin : columns.n] & (columns.row[begin : columns.n] >= 0)
        refused = begin + np.flatnonzero(~fine)
        return int(refused[REFUSED_MAX]) if len(refused) > REFUSED_MAX else columns.n

    # -- closed buckets, driven by the batcher

    def next_due(self) -> ClosedBucket | Origin | None:
        """What must happen next: close a bucket, forecast at an origin, or nothing.

        An origin comes before the first bucket that begins at or after it. Nothing happens while
        the outputs made must first be taken.
        """
        if self.full:
            return None
        bucket_ms = self.windows.next_bucket_ms()
        through_ms = self.windows.closed_through_ms if bucket_ms is None else bucket_ms
        return self.decider.due(through_ms, self.skus.names) or self.windows.close()

    def close(self, bucket: ClosedBucket) -> BucketInputs:
        """Emit a closed bucket's windows; returns what the forecaster steps by."""
        self.counts["closed_buckets",] += 1
        self.counts["windows",] += len(bucket.rows)
        self._closed_since_take = True
        if self._first_bucket_ms is None:
            self._first_bucket_ms = bucket.bucket_start_ms
        self.windows.dirty[bucket.rows] = True
        return self.decider.close(bucket, self.skus.names)

    @property
    def memory(self) -> "ForecastMemory | None":
        """What the forecaster remembers of this partition's SKUs."""
        return self.decider.memory

    def time_left_ms(self, origin: Origin) -> Ints:
        """Until the sale ends, for each row of an origin; -1 unknown."""
        return closing.time_left_ms(origin.rows, origin.at_ms, self.decider.reference)

    def asks(self, origin: Origin, now_ms: int) -> bool:
        """Whether the forecaster is to be asked at an origin: not when all would be too late."""
        self.windows.dirty[origin.rows] = True  # they no longer wait for this origin
        self._closed_since_take = True
        return self.memory is not None and self.decider.in_time(origin, now_ms)

    def decide(self, origin: Origin, prediction: Prediction, now_ms: int) -> None:
        """Emit forecasts and decisions of the SKUs that were active since the last origin."""
        self.decider.decide(origin, prediction, self.skus.names, now_ms)

    # -- checkpoints

    @property
    def outputs_bytes(self) -> int:
        """Outputs that wait for a checkpoint."""
        return self.outbox.waiting_bytes

    @property
    def full(self) -> bool:
        """Whether nothing more may be made before a checkpoint takes the outputs."""
        return self.outbox.waiting_bytes > self.settings.outputs_bytes_max

    @property
    def watermark_ms(self) -> int:
        """No earlier event is expected."""
        return self.windows.watermark_ms

    @property
    def pending(self) -> bool:
        """Whether a checkpoint would hold anything new."""
        new = bool(self.outbox) or bool(self._cuts) or self._closed_since_take
        return new or self.offsets() != self._taken_offsets

    @property
    def closing_pending(self) -> bool:
        """Whether a closed bucket, and what is decided at its end, waits for a checkpoint, which
        should then not wait.
        """
        return self._closed_since_take and not self.origin_waits

    @property
    def origin_waits(self) -> bool:
        """Whether a bucket is closed, and nothing decided yet at its end."""
        return self.decider.origins.waits(self.windows.closed_through_ms)

    @property
    def closes_in_ms(self) -> int:
        """Event time until the open bucket may close."""
        bucket_ms = self.settings.bucket_ms
        return bucket_ms - self.watermark_ms % bucket_ms

    def take(self) -> Checkpoint:
        """Outputs, changed rows and positions as of this moment, copied; the path may go on."""
        rows = np.flatnonzero(self.windows.dirty[: self.skus.size])
        state = self._schema.pack(self._gather(rows))
        self.windows.dirty[rows] = False
        self._taken_offsets = self.offsets()
        self._closed_since_take = False
        marker = self._marker()
        self._taken.append((self._first_bucket_ms, marker.core["windows"]))
        self._first_bucket_ms = None
        cuts, self._cuts = self._cuts, {}
        return Checkpoint(
            partition=self.partition,
            outputs=self.outbox.take(),
            names=self.skus.names.several(rows),
            rows=state,
            cuts=list(cuts.items()),
            marker=marker,
        )

    def committed(self, windows_offset: int | None) -> list[bytes]:
        """The oldest checkpoint taken is durable; its first `demand-windows` record lies at
        `windows_offset`, None when it had none.

        Returns SKUs that have left: the next checkpoint must remove their rows from the changelog.
        """
        first_bucket_ms, durable = self._taken.popleft()
        if first_bucket_ms is not None and windows_offset is not None:
            self._history.append((first_bucket_ms, windows_offset))
        return [] if self._taken else self._leaving.release(durable)

    def _marker(self) -> Marker:
        oldest_ms = self.windows.history_start_ms
        while len(self._history) > 1 and self._history[1][0] <= oldest_ms:
            self._history.popleft()
        core: dict[str, Any] = {
            "windows": self.windows.meta(),
            "decider": self.decider.meta(),
            "counts": [[list(key), count] for key, count in sorted(self.counts.items())],
            "history": list(self._history),
        }
        history_offset = self._history[0][1] if self._history else 0
        return Marker(
            version=MARKER_VERSION,
            epoch=0,
            offsets=self.offsets(),
            history_offset=history_offset,
            core=core,
            guarantee=self.settings.processing_guarantee,
            partitioner=self.settings.partitioner,
        )

    # -- state by row

    def _gather(self, rows: Ints) -> dict[str, NDArray[Any]]:
        return {**self.windows.gather(rows), **self.decider.gather(rows)}

    def _make_room(self) -> None:
        self.decider.grow(self.skus.capacity)

    def _restore(self, restored: Restored, warm: Warm | None) -> None:
        """Put everything back as it was when the marker was written. Raises StateError for what no
        checkpoint can have written.
        """
        require_names(restored.names)
        try:
            cuts = [Cut.decode(value) for _, value in restored.cuts]
            if restored.marker is None:
                # What they cut may be published as late already, by a first checkpoint without end.
                self.windows.add_cuts(cuts)
                return
            core = msgspec.convert(restored.marker.core, _Core)
            self._restore_rows(restored)
            self.windows.restore_meta(core.windows, cuts)
            self.decider.restore_meta(core.decider)
        except (ContractError, LookupError, TypeError, ValueError, OverflowError) as error:
            raise StateError(
                f"the checkpoint of partition {self.partition} cannot be read ({error!r}): {REMEDY}"
            ) from None
        self.counts.update({tuple(key): count for key, count in core.counts})
        self._history.extend(core.history)
        if warm is not None:
            self.windows.adopt(warm.duplicates, warm.history, warm.history_from_ms)
        self._load_history(restored.history)

    def _restore_rows(self, restored: Restored) -> None:
        rows = self.skus.insert_all(restored.names)
        self._make_room()
        for begin in range(0, len(rows), RESTORED_AT_ONCE):
            part = slice(begin, begin + RESTORED_AT_ONCE)
            state = self._schema.unpack(restored.rows[part])
            require_rows(restored.names[part], state, self.settings.bucket_ms)
            self.windows.scatter(rows[part], state)
            self.decider.scatter(rows[part], state)
        self.windows.dirty[self.skus.rows_of(list(restored.mended), room=0)] = True

    def _load_history(self, values: list[bytes]) -> None:
        """Fill the history rings from records of `demand-windows`; what is no window of a SKU here
        is passed over.
        """
        names, starts_ms, units = decode_windows(values)
        if not names:
            return
        rows = self.skus.rows_of(names, room=0).astype(np.int64)
        known = rows >= 0  # the others' rows were given back since, or are another partition's
        self.windows.load_history(rows[known], starts_ms[known], units[known])
