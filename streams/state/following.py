"""Keeps one partition that another worker owns warm: in memory (warm.py) and in the local copy.

    changelog, up to its end -> the input, up to the marker -> demand-windows, up to their end

What the owner has not committed is never read, and no event beyond the marker is remembered, so
that what is kept is at each moment a state that the partition has had.
"""

from collections.abc import Awaitable, Callable, Mapping

import structlog

from streams import topics
from streams.codec.decode import Fetch
from streams.core_thread import CoreThread
from streams.dedupe import Duplicates
from streams.errors import StateError
from streams.outside import Outside
from streams.settings import Settings
from streams.state.changelog import Image
from streams.state.disk import CopyInUseError
from streams.state.local_copy import LocalCopy, Place
from streams.state.marker import Marker
from streams.state.partition_reader import Bounds, PartitionReader, log_records
from streams.state.places import COPY_AGE_MS_MAX, copy_folder
from streams.state.rebuild import Rebuilt, check_place, load_intact
from streams.warm import NOWHERE, Warm

log = structlog.get_logger("flashcast.standby")

Pace = Callable[[int], Awaitable[None]]  # told of bytes taken in; returns when more may be


async def at_once(_: int) -> None:
    """The pace of a takeover."""


class Follower:
    """One partition. `warm` and the copy are touched on `thread` alone, one fetch whole at a time,
    so that following may be cancelled at any moment and go on later.
    """

    def __init__(
        self, settings: Settings, outside: Outside, partition: int, warm: Warm, thread: CoreThread
    ) -> None:
        self.partition = partition
        self.warm = warm
        self.lag_records = 0  # of the changelog, when last looked at
        self.begun = False
        self.given = False  # what it kept is another's now
        self.history_missing = 0
        self._settings = settings
        self._outside = outside
        self._thread = thread
        self._copy: LocalCopy | None = None
        self._lent: LocalCopy | None = None  # the copy, while it is the taker's
        self._caught_up_ms = outside.clock.monotonic_ms()

    @property
    def has_history(self) -> bool:
        """Whether the history rings were given, too."""
        return self.given and self.warm.windows_offset != NOWHERE

    async def begin(self, reader: PartitionReader) -> None:
        """From the local copy, where it can be trusted, or else from the changelog's start."""
        bounds = (await reader.bounds([topics.CHANGELOG]))[topics.CHANGELOG]
        self.warm.changelog_offset = bounds.start
        folder = copy_folder(self._settings, self.partition)
        copy = self._copy = LocalCopy(self._outside.disk, folder)
        try:
            place = await self._thread(self._opened, copy)
            if place is not None:
                await check_place(reader, place, *bounds)
                await self._thread(self._load, copy, place)
        except CopyInUseError as error:
            log.info("no local copy is kept", partition=self.partition, reason=str(error))
            self._copy = None
        except StateError as error:
            log.info("local copy not used", partition=self.partition, reason=str(error))
            await self._thread(self._anew, copy)
        self.begun = True

    def _opened(self, copy: LocalCopy) -> Place | None:
        copy.open()
        place = copy.place(self._outside.clock.wall_ms(), COPY_AGE_MS_MAX)
        if place is None:
            self._anew(copy)
        return place

    def _load(self, copy: LocalCopy, place: Place) -> None:
        self.warm.image = load_intact(copy, place)
        self.warm.changelog_offset = place.offset

    def _anew(self, copy: LocalCopy) -> None:
        try:
            copy.discard()
            copy.open()
        except StateError as error:
            self._without_copy(copy, error)

    def _without_copy(self, copy: LocalCopy, error: StateError) -> None:
        log.warning("local copy discarded", partition=self.partition, error=str(error))
        copy.discard()
        self._copy = None

    async def catch_up(
        self, reader: PartitionReader, bounds: Mapping[str, Bounds], pace: Pace = at_once
    ) -> int:
        """To the ends in `bounds`; the records of the changelog that took. Raises BrokerError when
        it may be tried again, StateError when what was kept is of no use any more.
        """
        start, end = bounds[topics.CHANGELOG]
        began = self.warm.changelog_offset
        if not start <= began <= end:
            raise StateError(
                f"followed up to offset {began} of a changelog that has {start} to {end}: it was "
                "made anew"
            )
        silent_ms = self._outside.clock.monotonic_ms() - self._caught_up_ms
        if silent_ms > COPY_AGE_MS_MAX:
            raise StateError(f"not caught up for {silent_ms} ms: removals may have been missed")
        self.lag_records = end - began
        async for fetch in reader.read(topics.CHANGELOG, began, end):
            await self._thread(self._take_changes, fetch)
            self.lag_records = end - fetch.next_offset
            await pace(len(fetch.data))
        marker = await self._thread(lambda: self.warm.marker)
        if marker is not None:
            await self._follow_events(reader, bounds, marker, pace)
            if self._settings.processing_guarantee == "exactly_once":
                await self._follow_windows(reader, bounds[topics.DEMAND_WINDOWS], marker, pace)
        self._caught_up_ms = self._outside.clock.monotonic_ms()
        return end - began

    def _take_changes(self, fetch: Fetch) -> None:
        records = log_records(fetch)
        changes = self.warm.follow_changelog(records, fetch.next_offset)
        copy, place = self._copy, self._place()
        if copy is None or place is None:
            return
        try:
            copy.write(changes, place)
        except StateError as error:
            self._without_copy(copy, error)

    def _place(self) -> Place | None:
        image = self.warm.image
        if image.identity is None:
            return None
        written_ms = self._outside.clock.wall_ms()
        offset = image.read_to(self.warm.changelog_offset)
        return Place(
            offset, image.marker_offset, image.identity.hex(), image.identity_offset, written_ms
        )

    async def _follow_events(
        self, reader: PartitionReader, bounds: Mapping[str, Bounds], marker: Marker, pace: Pace
    ) -> None:
        for topic in topics.EVENT_TOPICS:
            end = marker.offsets[topic]
            if end > bounds[topic].end:
                raise StateError(f"{topic} ends at {bounds[topic].end}, its marker says {end}")
            oldest = Duplicates.first_offset(end, self._settings.dedupe_horizon_records)
            begin = max(self.warm.event_offsets[topic], oldest, bounds[topic].start)
            async for fetch in reader.read(topic, begin, end):
                await self._thread(self.warm.remember, fetch)
                await pace(len(fetch.data))

    async def _follow_windows(
        self, reader: PartitionReader, bounds: Bounds, marker: Marker, pace: Pace
    ) -> None:
        """Under `at_least_once` windows may be ahead of their rows: whoever takes over reads them
        then.
        """
        begin = self.warm.windows_offset
        if begin == NOWHERE:
            begin = max(bounds.start, marker.history_offset)
            self.history_missing = begin - marker.history_offset
        async for fetch in reader.read(topics.DEMAND_WINDOWS, begin, bounds.end):
            await self._thread(self._take_windows, fetch)
            await pace(len(fetch.data))

    def _take_windows(self, fetch: Fetch) -> None:
        self.warm.follow_windows(log_records(fetch), fetch.next_offset)

    async def hand_over(self, reader: PartitionReader, bounds: Mapping[str, Bounds]) -> Rebuilt:
        """The last stretch, after the former owner was shut out; `given` from then on, and the copy
        is the taker's. Raises as `catch_up`; until it returns, nothing is given.
        """
        place = await self._thread(self._place)
        if not self.begun or place is None or self.warm.marker is None:
            raise StateError("nothing was kept yet")
        await check_place(reader, place, *bounds[topics.CHANGELOG])
        records = await self.catch_up(reader, bounds)
        await self._thread(self.warm.settle)
        self.given = True
        copy, self._copy = self._copy, None
        self._lent = copy
        return Rebuilt(self.warm.image, copy, copy is not None, None, records)

    async def take_back(self) -> None:
        """From a taker that stopped before it had processed anything, and touches nothing of it any
        more; following goes on where it was, behind what a cancelled catch-up had begun.
        """
        self.given = False
        await self._thread(self._reopen)

    def _reopen(self) -> None:
        lent, self._lent = self._lent, None
        if lent is None:
            return
        try:
            lent.open()
        except StateError as error:
            log.info("no local copy is kept", partition=self.partition, reason=str(error))
        else:
            self._copy = lent

    async def close(self) -> None:
        """Lets go of the local copy, for whoever opens it next."""
        self.begun = False
        copy, self._copy = self._copy, None
        if copy is not None:
            await self._thread(copy.abandon)
        self.warm.image = Image()
