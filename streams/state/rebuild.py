"""The newest state of one partition, from the local copy and as much of the changelog as it lacks.

The copy is used when it is of this very log (the identity record lies where it did), stands within
it, is young enough, loads without a wrong checksum, and the markers that follow do not go back.
Anything else, and it is discarded and all is read from the changelog.
"""

import asyncio
from dataclasses import dataclass

import structlog

from streams import topics
from streams.errors import StateError
from streams.state import marker as markers
from streams.state import snapshot
from streams.state.changelog import IDENTITY_KEY, Image
from streams.state.disk import CopyInUseError
from streams.state.local_copy import LocalCopy, Place
from streams.state.marker import MARKER_KEY
from streams.state.partition_reader import Bounds, PartitionReader

log = structlog.get_logger("flashcast.recovery")


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """`copy` is open and holds the state; None: there is none to keep. `copy_problem` says why the
    one that was there was not used. `intact`: every row of the image is known to be.
    """

    image: Image
    copy: LocalCopy | None
    copy_used: bool
    copy_problem: str | None
    records: int  # read from the changelog
    intact: bool = False


async def rebuild(
    reader: PartitionReader, bounds: Bounds, copy: LocalCopy, now_ms: int, copy_age_ms_max: int
) -> Rebuilt:
    """Reads to the changelog's end in `bounds`, taken after every earlier owner was shut out.

    Raises BrokerError, and StateError when the changelog itself is corrupt.
    """
    begin, end = bounds
    kept: LocalCopy | None = copy
    problem = None
    try:
        await asyncio.to_thread(copy.open)
        place = await asyncio.to_thread(copy.place, now_ms, copy_age_ms_max)
        if place is not None:
            await check_place(reader, place, begin, end)
            image = await asyncio.to_thread(load_intact, copy, place)
            records, intact = await _follow(reader, copy, image, place.offset, end, now_ms)
            return Rebuilt(image, copy, True, None, records, intact)
    except CopyInUseError as error:
        problem, kept = str(error), None
    except StateError as error:
        problem = str(error)
    if problem is not None:
        log.warning("local copy not used", reason=problem)
    image = Image()
    records = 0
    async for batch in reader.records(topics.CHANGELOG, begin, end):
        image.apply(batch)
        records += len(batch)
    if kept is not None:
        kept = await _copied(kept, image, _place(image, end, now_ms))
    return Rebuilt(image, kept, False, problem, records)


async def check_place(reader: PartitionReader, place: Place, begin: int, end: int) -> None:
    """Raises StateError unless the log that the copy was made of is the one that is read."""
    if not begin <= place.offset <= end:
        raise StateError(
            f"the local copy stands at offset {place.offset} of a changelog that has {begin} to "
            f"{end}: another cluster, or the topic was made anew"
        )
    at = place.identity_offset
    found = [
        record
        async for batch in reader.records(topics.CHANGELOG, at, min(at + 1, end))
        for record in batch
    ]
    if found != [(at, IDENTITY_KEY, bytes.fromhex(place.identity))]:
        raise StateError("the local copy is of another changelog: another cluster, or made anew")
    if place.marker_offset >= 0 and not await _marker_at(reader, place.marker_offset, end):
        raise StateError(
            f"the local copy's checkpoint at offset {place.marker_offset} is not in the changelog: "
            "its transaction was taken back, or it was compacted away"
        )


async def _marker_at(reader: PartitionReader, at: int, end: int) -> bool:
    return any(
        [
            (offset, key) == (at, MARKER_KEY)
            async for batch in reader.records(topics.CHANGELOG, at, min(at + 1, end))
            for offset, key, _ in batch
        ]
    )


def load_intact(copy: LocalCopy, place: Place) -> Image:
    """All that the copy holds. Raises StateError when any row of it is corrupt."""
    image = copy.load()
    image.identity, image.identity_offset = bytes.fromhex(place.identity), place.identity_offset
    image.marker_offset = place.marker_offset
    if not snapshot.all_intact(image.rows.values()):
        raise StateError("the local copy holds rows that fail their checksum")
    return image


async def _follow(
    reader: PartitionReader, copy: LocalCopy, image: Image, begin: int, end: int, now_ms: int
) -> tuple[int, bool]:
    """Brings a loaded copy up to date, in memory and on disk: how many records that took, and
    whether all rows among them are intact.
    """
    before = image.marker
    changed: dict[bytes, bytes | None] = {}
    records = 0
    async for batch in reader.records(topics.CHANGELOG, begin, end):
        changed.update(image.apply(batch))
        records += len(batch)
    if before is not None and image.marker != before:
        older, newer = markers.decode(before), markers.decode(image.marker or b"")
        if any(newer.offsets.get(topic, 0) < offset for topic, offset in older.offsets.items()):
            raise StateError("the local copy is ahead of the changelog's newest marker")
    place = _place(image, end, now_ms)
    assert place is not None
    await asyncio.to_thread(copy.write, changed.items(), place)
    rows = (value for key, value in changed.items() if key[0] and value is not None)
    return records, snapshot.all_intact(rows)


def _place(image: Image, end: int, now_ms: int) -> Place | None:
    if image.identity is None:
        return None
    return Place(
        image.read_to(end), image.marker_offset, image.identity.hex(), image.identity_offset, now_ms
    )


async def _copied(copy: LocalCopy, image: Image, place: Place | None) -> LocalCopy | None:
    """The copy, with all of the image; None when the disk refuses it."""
    try:
        await asyncio.to_thread(copy.replace, image, place)
    except StateError as error:
        log.warning("no local copy is kept", reason=str(error))
        await asyncio.to_thread(copy.discard)
        return None
    return copy
