"""Everything event-time of one partition number: three topics judged, counted and closed.

Each record that decoded and belongs here is judged once, in the order of its log: a duplicate,
stamped (its row has it already), late, refused (its SKU has no row), or applied to its SKU's
bucket. A bucket closes when the
watermarks of all three topics have passed it; what is late by then was late by its own topic's
watermark, so closed buckets are exact whatever the interleaving of the topics.

    closed_through_ms          watermark of the slowest topic       window end
           |--- open cells of each row: one a bucket ---------------------|
    closed |     open     |     open     |     open     |      open       | must wait

A record beyond the newest open cell waits, and those behind it with it; but its time moves its
topic's watermark at once, or three topics with gaps would wait for each other for ever.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams import windows_kernel as kernel
from streams.codec.columns import Columns
from streams.dedupe import Duplicates, remember_slice
from streams.errors import StateError
from streams.history import History
from streams.idleness import Idleness
from streams.sku_table import SkuTable
from streams.topics import EVENT_TOPICS
from streams.watermark import NEVER_MS, Cut, Watermark, required_time_ms
from streams.window_config import ClosedBucket, Verdict, WindowsConfig
from streams.window_rows import WindowRows

__all__ = ["ClosedBucket", "Verdict", "Windows", "WindowsConfig"]

Int64s = NDArray[np.int64]


class Windows:
    """Open buckets by SKU row, and what their verdicts depend on."""

    def __init__(self, config: WindowsConfig, skus: SkuTable) -> None:
        self.config = config
        self.closed_through_ms = NEVER_MS  # all buckets that end here or before are closed
        self.counts = np.zeros((len(EVENT_TOPICS), len(Verdict)), np.int64)  # [kind, verdict]
        self.history = History(config.history, config.bucket_ms)
        self._history_from_ms = NEVER_MS
        self._skus = skus
        self._duplicates = [Duplicates(config.dedupe_horizon_records) for _ in EVENT_TOPICS]
        self._watermarks = [Watermark(config.allowed_lateness_ms) for _ in EVENT_TOPICS]
        self._idleness = Idleness(self._watermarks, config.idle_timeout_ms, config.bucket_ms)
        self._waiting: list[tuple[Columns, int] | None] = [None for _ in EVENT_TOPICS]
        self._rows = WindowRows(config.cells)
        self._grow()

    # -- records in

    def apply(self, kind: int, columns: Columns, begin: int, end: int | None = None) -> int:
        """Judge and count [begin, end), filling `columns.verdict`; up to `columns.n` by default.
        `columns.row` must be filled.

        Returns the first index not judged: `end`, or that of a record which must wait until
        older buckets are closed. Call again with the same columns from there.
        """
        self._grow()
        watermark, duplicates = self._watermarks[kind], self._duplicates[kind]
        events = _event_arrays(columns)
        at, end = begin, columns.n if end is None else end
        self._advance()
        while at < end:
            self._idleness.interrupted(kind)
            offset = int(columns.offset[at])
            watermark.reach(offset)
            next_offset = min(duplicates.prepare(offset, end - at), watermark.next_cut_offset)
            stop = end
            if columns.offset[end - 1] >= next_offset:
                stop = int(np.searchsorted(columns.offset[:end], next_offset))
            reached = self._apply_until(kind, events, at, stop)
            if reached > at:
                watermark.reach(int(columns.offset[reached - 1]) + 1)
            at = reached
            if at < stop and not self._advance():
                break
        self._waiting[kind] = (columns, at) if at < columns.n else None
        return at

    def _apply_until(self, kind: int, events: kernel.EventArrays, at: int, stop: int) -> int:
        config, duplicates, watermark = self.config, self._duplicates[kind], self._watermarks[kind]
        clock = np.array([watermark.max_event_time_ms, watermark.timestamp_ms])
        window_end_ms = NEVER_MS
        if self.closed_through_ms != NEVER_MS:
            window_end_ms = self.closed_through_ms + config.cells * config.bucket_ms
        limits = kernel.Limits(
            kind,
            config.bucket_ms,
            config.allowed_lateness_ms,
            max(watermark.cut_ms, self.closed_through_ms),
            window_end_ms,
        )
        reached = int(
            kernel.apply_events(
                at,
                stop,
                limits,
                events,
                self._rows.arrays,
                duplicates.current,
                duplicates.previous,
                duplicates.entered,
                clock,
                self.counts[kind],
            )
        )
        watermark.max_event_time_ms, watermark.timestamp_ms = clock.tolist()
        if reached < 0:
            index = -1 - reached
            sku = self._skus.name(int(events.row[index])).decode()
            raise StateError(
                f"{EVENT_TOPICS[kind]} offset {events.offset[index]}: the row of SKU {sku!r} holds "
                "buckets that cannot be open now; discard the partition's memory and restore it"
            )
        return reached

    def remember(self, kind: int, columns: Columns, data: NDArray[np.uint8]) -> None:
        """After a restore: enter events already judged as seen, and nothing else.

        `data` is what the columns point into; read from `remember_from(kind)` on.
        """
        remember_slice(self._duplicates[kind], self._skus, columns, data)

    def remember_from(self, kind: int) -> int:
        """First offset whose event ids must be known to judge what comes next."""
        return self._duplicates[kind].first_offset(
            self._watermarks[kind].position, self.config.dedupe_horizon_records
        )

    # -- time

    @property
    def watermark_ms(self) -> int:
        """The slowest topic's; NEVER_MS before each has had a record or a cut."""
        return min(watermark.watermark_ms for watermark in self._watermarks)

    def max_event_time_ms(self, kind: int) -> int:
        """How far one topic has come, which says whose turn it is."""
        return self._watermarks[kind].max_event_time_ms

    def empty(self, kind: int, position: int, monotonic_ms: int) -> None:
        """A fetch at `position` was answered with nothing, and nothing below it waits."""
        if self._waiting[kind] is None:
            self._watermarks[kind].reach(position)
            self._idleness.empty(kind, monotonic_ms)

    def interrupted(self, kind: int) -> None:
        """Fetches were paused or unanswered, or brought something: silence begins anew."""
        self._idleness.interrupted(kind)

    def idle_cuts(self, monotonic_ms: int, now_ms: int | None = None) -> list[Cut]:
        """Cuts due because topics are silent; in force from now, so they must be made durable.

        Without `now_ms`, the wall clock that record timestamps are of, a topic that never speaks
        holds up a backlog of the others by the idle time-out at every few buckets.
        """
        newest = self._rows.newest_bucket()
        content_end_ms = NEVER_MS if newest is None else (newest + 1) * self.config.bucket_ms
        cuts = self._idleness.cuts(monotonic_ms, now_ms, content_end_ms)
        self._advance()
        return cuts

    # -- buckets out

    def next_bucket_ms(self) -> int | None:
        """Start of the bucket that `close` would close now. None: there is none, and the empty ones
        that are over count as closed.
        """
        bucket_ms, watermark_ms = self.config.bucket_ms, self.watermark_ms
        if watermark_ms < self.closed_through_ms + bucket_ms:
            return None  # the first bucket not closed is not over
        bucket = self._rows.oldest_bucket()
        if bucket is None or (bucket + 1) * bucket_ms > watermark_ms:
            self._advance()
            return None
        return bucket * bucket_ms

    def close(self) -> ClosedBucket | None:
        """Close the oldest bucket that has content and is over. None: there is none now.

        Empty buckets are never looked at, however many there are.
        """
        start_ms = self.next_bucket_ms()
        if start_ms is None:
            return None
        rows, sums = self._rows.close(start_ms // self.config.bucket_ms)
        closed = _closed_bucket(start_ms, rows, sums)
        self.history.push(closed.rows, np.full(len(rows), start_ms), closed.units)
        self.closed_through_ms = max(self.closed_through_ms, start_ms + self.config.bucket_ms)
        self._advance()
        return closed

    def _advance(self) -> bool:
        """Jump over the empty buckets that are over. Whether that moved anything."""
        bucket_ms, watermark_ms = self.config.bucket_ms, self.watermark_ms
        if watermark_ms < self.closed_through_ms + bucket_ms:
            return False
        through_ms = watermark_ms // bucket_ms * bucket_ms
        oldest = self._rows.oldest_bucket()
        if oldest is not None:
            through_ms = min(through_ms, oldest * bucket_ms)
        moved = through_ms > self.closed_through_ms
        self.closed_through_ms = max(self.closed_through_ms, through_ms)
        return moved

    # -- rows

    @property
    def dirty(self) -> NDArray[np.bool_]:
        """Rows changed since the caller last cleared it: [capacity], the array itself."""
        self._grow()
        return self._rows.arrays.dirty

    @property
    def history_start_ms(self) -> int:
        """From here on the history rings are known to hold every closed bucket."""
        reach_ms = self.config.history * self.config.bucket_ms
        return max(self.closed_through_ms - reach_ms, self._history_from_ms)

    def units_between(self, rows: Int64s, from_ms: int) -> Int64s:
        """Units ordered in closed buckets whose middle is at `from_ms` or later. int64 [n]"""
        self._grow()
        return self.history.units_between(rows, from_ms)

    def open_units(self, rows: Int64s) -> Int64s:
        """Units ordered in buckets not closed yet. int64 [n]"""
        self._grow()
        return self._rows.open_units(rows)

    def last_end_ms(self, rows: Int64s) -> Int64s:
        """The end of the last bucket closed with content, int64 [n]; 0: none."""
        self._grow()
        ends: Int64s = (self._rows.last_bucket(rows) + 1) * self.config.bucket_ms
        return ends

    def have_counted(self, rows: Int64s) -> NDArray[np.bool_]:
        """Whether any event was ever applied to each row. bool [n]"""
        self._grow()
        return self._rows.have_counted(rows)

    def release(self, rows: Sequence[int], committed: Mapping[str, Any]) -> list[tuple[int, bytes]]:
        """Free the rows of SKUs that left the sale, as far as that loses nothing.

        `committed` is the `meta` of the last checkpoint that is durable. A row stays while it has
        open buckets, changes that are not durable, events that a restart would read again, or
        records that wait. Returns (row, SKU) of those freed, for other memories to forget.
        """
        waiting = [columns.row[begin : columns.n] for columns, begin in filter(None, self._waiting)]
        waiting_rows = set(np.concatenate(waiting).tolist()) if waiting else set()
        positions = [int(topic["position"]) for topic in committed["topics"]]
        closed_through_bucket = int(committed["closed_through_ms"]) // self.config.bucket_ms
        freed: list[tuple[int, bytes]] = []
        for row in rows:
            if row not in waiting_rows and self._rows.is_settled(
                row, positions, closed_through_bucket
            ):
                freed.append((row, self._skus.name(row)))
                self._skus.remove(row)
                self._rows.reset(row)
        self.history.reset(np.array([row for row, _ in freed], np.int64))
        return freed

    def _grow(self) -> None:
        """Every row that the SKU table has given has its place here: kernels check no index."""
        if self._rows.grow(self._skus.capacity):
            self.history.grow(self._skus.capacity)

    # -- state

    def gather(self, rows: Int64s) -> dict[str, NDArray[Any]]:
        """The rows' state for a snapshot: arrays [n, ...], copied."""
        self._grow()
        return self._rows.gather(rows)

    def scatter(self, rows: Int64s, state: Mapping[str, NDArray[Any]]) -> None:
        """Put back what `gather` gave, into rows that are still empty."""
        self._grow()
        self._rows.scatter(rows, state)

    def load_history(self, rows: Int64s, bucket_start_ms: Int64s, units: Int64s) -> None:
        """Enter records of `demand-windows`, in their order, after `scatter`: int64 [n] each.

        Those that the rows are yet to close (again) are left out.
        """
        self._grow()
        closed = bucket_start_ms // self.config.bucket_ms <= self._rows.last_bucket(rows)
        self.history.push(rows[closed], bucket_start_ms[closed], units[closed])
        if closed.any():
            self._history_from_ms = min(self._history_from_ms, int(bucket_start_ms[closed].min()))

    def adopt(
        self, duplicates: list[Duplicates], history: History, history_from_ms: int | None
    ) -> None:
        """Go on with the tables of a standby, whose rows are those of the same SKU table. They are
        used as they are, and must be as far as `restore_meta` came.
        """
        self._duplicates, self.history = duplicates, history
        self.history.grow(self._skus.capacity)
        if history_from_ms is not None:
            self._history_from_ms = min(self._history_from_ms, history_from_ms)

    def meta(self) -> dict[str, Any]:
        """What the marker keeps of the partition; JSON-able."""
        return {
            "bucket_ms": self.config.bucket_ms,
            "closed_through_ms": self.closed_through_ms,
            "topics": [watermark.meta() for watermark in self._watermarks],
            "counts": self.counts.tolist(),
        }

    def restore_meta(self, meta: Mapping[str, Any], cuts: Iterable[Cut] = ()) -> None:
        """Take up where `meta` was written, with all cuts of the changelog. Raises StateError for
        other settings, KeyError, TypeError or ValueError for what no `meta` can have said.
        """
        if meta["bucket_ms"] != self.config.bucket_ms:
            raise StateError(
                f"the state was written with FLASHCAST_BUCKET_MS = {meta['bucket_ms']}, now it is "
                f"{self.config.bucket_ms}: set it back, or start with a new application name"
            )
        closed_through_ms = required_time_ms(meta["closed_through_ms"])
        self.closed_through_ms = self._history_from_ms = closed_through_ms
        counts = np.array(meta["counts"])
        if counts.shape != self.counts.shape or counts.dtype != np.int64 or counts.min() < 0:
            raise ValueError(f"counts {str(meta['counts'])[:80]}")
        self.counts[:] = counts
        for watermark, topic in zip(self._watermarks, meta["topics"], strict=True):
            watermark.restore(topic)
        self.add_cuts(cuts)

    def add_cuts(self, cuts: Iterable[Cut]) -> None:
        """Cuts read back from the changelog; each counts from its position on."""
        for cut in cuts:
            self._watermarks[cut.kind].add(cut)


def _event_arrays(columns: Columns) -> kernel.EventArrays:
    return kernel.EventArrays(
        *(getattr(columns, field) for field in kernel.EventArrays._fields),
    )


def _closed_bucket(start_ms: int, rows: Int64s, sums: Int64s) -> ClosedBucket:
    events = sums[:, kernel.CLICKS] + sums[:, kernel.CARTS] + sums[:, kernel.ORDERS]
    return ClosedBucket(
        bucket_start_ms=start_ms,
        rows=rows,
        clicks=sums[:, kernel.CLICKS],
        carts=sums[:, kernel.CARTS],
        orders=sums[:, kernel.ORDERS],
        units=sums[:, kernel.UNITS],
        revenue_cents=sums[:, kernel.REVENUE],
        price_cents=(2 * sums[:, kernel.PRICE_SUM] + events) // (2 * events),
    )
