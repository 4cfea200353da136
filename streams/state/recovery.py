"""Brings back one partition's state when a worker is given it.

    1. the emitter starts: from here on no earlier owner can write
    2. what a broker left open of a transaction is ended (`settle`)
    3. the changelog's end; the state there, from the local copy and the log (`rebuild`)
    4. the marker, checked against the input topics
    5. closed buckets from `demand-windows`, as many as the history rings hold
    6. `references` then reads the reference topics from their start to their end
    7. `seen_before` the input again as far back as duplicates are recognised

Transactions leave control records, hence gaps, in the offsets: reading ends when the position
passes the end, never by waiting for a record at some offset.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping

import structlog

from streams import topics
from streams.checkpoint import Restored, RestoreStats
from streams.codec.decode import Fetch
from streams.emit import Emitter
from streams.errors import BrokerError, ConfigurationError, StateError
from streams.outside import Outside
from streams.row_bounds import REMEDY
from streams.settings import Settings
from streams.state import marker as markers
from streams.state import snapshot
from streams.state.changelog import Image, cut_place
from streams.state.following import Follower
from streams.state.local_copy import LocalCopy
from streams.state.marker import Marker
from streams.state.mending import mend
from streams.state.partition_reader import Bounds, PartitionReader
from streams.state.places import COPY_AGE_MS_MAX, READ_TOPICS, copy_folder
from streams.state.rebuild import Rebuilt, rebuild
from streams.state.settling import settle

log = structlog.get_logger("flashcast.recovery")


async def restore(
    settings: Settings,
    outside: Outside,
    emitter: Emitter,
    reader: PartitionReader,
    standby: Follower | None = None,
) -> Restored:
    """Starts the emitter and reads all that its partition was, or what a standby lacks of it; the
    emitter then keeps the local copy. One whose restore failed must be stopped.

    Raises StateError when what is there cannot be trusted, naming the remedy; BrokerError.
    """
    await emitter.start()
    await settle(settings, outside, emitter, reader)
    bounds = await reader.bounds(READ_TOPICS)  # after the start: no earlier owner adds to them
    found = None if standby is None else await _handed_over(standby, reader, bounds)
    warm = found is not None
    if found is None:
        found = await _rebuilt(settings, outside, emitter.partition, reader, bounds)
    image = found.image
    known = None if image.identity is None else (image.identity, image.identity_offset)
    emitter.attach(found.copy, known)
    stats = RestoreStats(warm, found.copy_used, found.copy_problem, found.records, image.ignored)
    marker = None if image.marker is None else markers.decode(image.marker)
    if marker is None:
        await _refuse_lost_state(settings, outside, emitter.partition)
    else:
        _check_offsets(settings, emitter.partition, marker, bounds)
        if marker.partitioner not in ("", settings.partitioner):
            raise StateError(
                f"partition {emitter.partition}: records were judged under FLASHCAST_PARTITIONER = "
                f"{marker.partitioner}, now it is {settings.partitioner}: set it back, or begin "
                "anew under another FLASHCAST_APPLICATION"
            )
        if marker.guarantee not in ("", settings.processing_guarantee):
            log.warning(
                "the last checkpoint was made under another FLASHCAST_PROCESSING_GUARANTEE: while "
                "workers of one group differ in it, neither holds",
                partition=emitter.partition,
                then=marker.guarantee,
                now=settings.processing_guarantee,
            )
    rows, mended = await _intact_rows(settings, reader, bounds, found)
    stats.rows_corrupt = len(mended)
    # what an unfinished checkpoint left behind the marker gives way to the rows before it
    emitter.forget([name for name in image.begun if name not in image.rows])
    ahead = [name for name in image.begun if name in image.rows]
    history: list[bytes] = []
    if standby is not None and standby.has_history:
        stats.history_missing = standby.history_missing
    elif marker is not None:
        history = await _read_history(reader, bounds[topics.DEMAND_WINDOWS], marker, stats)
    return Restored(
        marker=marker,
        names=list(image.rows),
        rows=rows,
        cuts=_live_cuts(image, emitter, bounds, stats),
        history=history,
        stats=stats,
        mended=(*mended, *ahead),
    )


async def _handed_over(
    standby: Follower, reader: PartitionReader, bounds: Mapping[str, Bounds]
) -> Rebuilt | None:
    """None when what the standby kept is of no use, whatever is wrong with it."""
    try:
        return await standby.hand_over(reader, bounds)
    except (BrokerError, ConfigurationError):
        raise
    except Exception as error:
        log.warning("standby not used", partition=reader.partition, reason=repr(error))
        await standby.close()
        return None


async def _rebuilt(
    settings: Settings,
    outside: Outside,
    partition: int,
    reader: PartitionReader,
    bounds: Mapping[str, Bounds],
) -> Rebuilt:
    copy = LocalCopy(outside.disk, copy_folder(settings, partition))
    now_ms = outside.clock.wall_ms()
    try:
        return await rebuild(reader, bounds[topics.CHANGELOG], copy, now_ms, COPY_AGE_MS_MAX)
    except BaseException:
        await asyncio.to_thread(copy.abandon)  # or the next restore would find it in use
        raise


async def references(reader: PartitionReader) -> AsyncIterator[Fetch]:
    """All of the reference topics as they stand now. The last fetch of each, which may be empty,
    says where to read on.
    """
    bounds = await reader.bounds(topics.REFERENCE_TOPICS)
    for topic, (start, end) in bounds.items():
        async for fetch in reader.read(topic, start, end):
            yield fetch
        yield Fetch(topic, reader.partition, end, end, b"")


async def seen_before(
    reader: PartitionReader, marker: Marker, dedupe_horizon_records: int
) -> AsyncIterator[Fetch]:
    """The input behind the marker in which an event's duplicate may lie: this generation of
    `dedupe_horizon_records` offsets and the one before it, of each event topic.
    """
    bounds = await reader.bounds(topics.EVENT_TOPICS)
    for topic in topics.EVENT_TOPICS:
        end = marker.offsets[topic]
        generation = end // dedupe_horizon_records
        begin = max((generation - 1) * dedupe_horizon_records, bounds[topic].start)
        async for fetch in reader.read(topic, begin, end):
            yield fetch


async def _refuse_lost_state(settings: Settings, outside: Outside, partition: int) -> None:
    """Without a marker this is a first start, unless the group has been here before."""
    behind = await outside.group_offsets(partition)
    if behind:
        group = settings.topic(settings.application)
        changelog = settings.topic(topics.CHANGELOG)
        raise StateError(
            f"{changelog}/{partition} holds no checkpoint, but group {group!r} has processed "
            f"{behind}: its state is lost. Bring the topic back; or, to process all input again, "
            f"stop the workers and delete the group's offsets "
            f"(kafka-consumer-groups --delete --group {group})"
        )


def _check_offsets(
    settings: Settings, partition: int, marker: Marker, bounds: Mapping[str, Bounds]
) -> None:
    for topic in topics.EVENT_TOPICS:
        offset, where = marker.offsets[topic], f"{settings.topic(topic)}/{partition}"
        start, end = bounds[topic]
        anew = (
            "to process what is there as a new start, stop the workers, delete and create the "
            f"topic {settings.topic(topics.CHANGELOG)}, and delete the offsets of group "
            f"{settings.topic(settings.application)!r}"
        )
        if offset < start:
            raise StateError(
                f"{where}: the checkpoint ends at offset {offset}, but the log now begins at "
                f"{start}: retention took records that were never processed. Lengthen "
                f"retention.ms; {anew}"
            )
        if offset > end:
            raise StateError(
                f"{where}: the checkpoint ends at offset {offset}, but the log ends at "
                f"{end}: the topic was made anew, or records were lost; {anew}"
            )


async def _intact_rows(
    settings: Settings, reader: PartitionReader, bounds: Mapping[str, Bounds], found: Rebuilt
) -> tuple[snapshot.Rows, tuple[bytes, ...]]:
    """The rows of the image, and the SKUs of those that had to be mended first."""
    image = found.image
    if found.intact:
        return await asyncio.to_thread(snapshot.joined, list(image.rows.values())), ()
    rows, bad = await asyncio.to_thread(snapshot.stack, list(image.rows.values()))
    if bad:
        names, changelog = list(image.rows), settings.topic(topics.CHANGELOG)
        corrupt = {names[index] for index in bad}
        await mend(reader, bounds[topics.CHANGELOG], image, corrupt, changelog)
        rows, bad = await asyncio.to_thread(snapshot.stack, list(image.rows.values()))
        assert not bad, "mended rows are intact"
    return rows, tuple(sorted(image.mended & image.rows.keys()))


def _live_cuts(
    image: Image, emitter: Emitter, bounds: Mapping[str, Bounds], stats: RestoreStats
) -> list[tuple[bytes, bytes]]:
    """Cuts are kept as long as the input they cut; the others go with the next checkpoint."""
    live, expired = [], []
    for key, value in image.cuts.items():
        topic, position = _cut_place(key)
        if position < bounds[topic].start:
            expired.append(key)
        else:
            live.append((key, value))
    emitter.forget(expired)
    stats.cuts_expired = len(expired)
    return live


def _cut_place(key: bytes) -> tuple[str, int]:
    try:
        topic, position = cut_place(key)
    except ValueError:
        topic, position = "", -1
    if topic not in topics.EVENT_TOPICS or position < 0:
        raise StateError(f"the changelog holds a cut of no input topic: {key[:80]!r}: {REMEDY}")
    return topic, position


async def _read_history(
    reader: PartitionReader, bounds: Bounds, marker: Marker, stats: RestoreStats
) -> list[bytes]:
    """Closed buckets from `marker.history_offset` on, as far as `demand-windows` still has them."""
    stats.history_missing = max(0, bounds.start - marker.history_offset)
    begin = max(bounds.start, marker.history_offset)
    return [
        value
        async for batch in reader.records(topics.DEMAND_WINDOWS, begin, bounds.end)
        for _, _, value in batch
        if value is not None
    ]
