"""Brings back one partition's state when a worker is given it.

    1. the emitter starts: from here on no earlier owner can write
    2. the changelog's end; the state there, from the local copy and the log (`rebuild`)
    3. the marker, checked against the input topics
    4. reference topics from their start to their end
    5. closed buckets from `demand-windows`, as many as the history rings hold
    6. `seen_before` then reads the input again as far back as duplicates are recognised

Transactions leave control records, hence gaps, in the offsets: reading ends when the position
passes the end, never by waiting for a record at some offset.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from streams import topics
from streams.codec.decode import Fetch
from streams.emit import Emitter
from streams.errors import BrokerError, StateError
from streams.fetching import client_options
from streams.settings import Settings
from streams.state import marker as markers
from streams.state import snapshot
from streams.state.changelog import Image, cut_place
from streams.state.marker import Marker
from streams.state.partition_reader import PartitionReader
from streams.state.rebuild import rebuild
from streams.state.rocksdb import LocalCopy

COPY_AGE_MS_MAX: Final = topics.DAY_MS  # delete.retention.ms of the changelog


@dataclass(slots=True)
class RestoreStats:
    """What a restore found; counts are of records."""

    copy_used: bool = False
    copy_problem: str | None = None  # why the local copy that was there was not used
    changelog_records: int = 0
    changelog_ignored: int = 0
    rows_corrupt: int = 0
    cuts_expired: int = 0
    reference_records: int = 0
    history_missing: int = 0  # offsets of `demand-windows` that its retention has taken


@dataclass(frozen=True, slots=True)
class Restored:
    """One partition as its last checkpoint left it.

    `rows` is uint8 [n, row width], row i belonging to the SKU `names[i]`; `history` holds values
    of `demand-windows` in log order. `marker` None: never checkpointed, begin at the earliest
    records. Under `at_least_once` rows and history may be ahead of the marker. `reference` has the
    newest value per key; `reference_positions` is where to read on.
    """

    marker: Marker | None
    names: list[bytes]
    rows: snapshot.Rows
    cuts: list[tuple[bytes, bytes]]
    reference: dict[str, list[tuple[bytes, bytes]]]
    reference_positions: dict[str, int]
    history: list[bytes]
    stats: RestoreStats


async def restore(
    settings: Settings, emitter: Emitter, reader: PartitionReader, now_ms: int
) -> Restored:
    """Starts the emitter and reads all that its partition was; the emitter then keeps the local
    copy. One whose restore failed must be stopped.

    Raises StateError when what is there cannot be trusted, naming the remedy; BrokerError.
    """
    await emitter.start()
    copy = LocalCopy(copy_folder(settings, emitter.partition))
    found = await rebuild(reader, copy, now_ms, COPY_AGE_MS_MAX)
    image = found.image
    known = None if image.identity is None else (image.identity, image.identity_offset)
    emitter.attach(found.copy, known)
    stats = RestoreStats(found.copy_used, found.copy_problem, found.records, image.ignored)
    marker = None if image.marker is None else markers.decode(image.marker)
    starts = {topic: await reader.start_of(topic) for topic in topics.EVENT_TOPICS}
    if marker is None:
        await _refuse_lost_state(settings, emitter.partition)
    else:
        ends = {topic: await reader.end_of(topic) for topic in topics.EVENT_TOPICS}
        _check_offsets(settings, emitter.partition, marker, starts, ends)
    names, rows = await asyncio.to_thread(_intact_rows, image, stats)
    reference, positions = await _read_reference(reader, stats)
    return Restored(
        marker=marker,
        names=names,
        rows=rows,
        cuts=_live_cuts(image, emitter, starts, stats),
        reference=reference,
        reference_positions=positions,
        history=[] if marker is None else await _read_history(reader, marker, stats),
        stats=stats,
    )


async def seen_before(
    reader: PartitionReader, marker: Marker, dedupe_horizon_records: int
) -> AsyncIterator[Fetch]:
    """The input behind the marker in which an event's duplicate may lie: this generation of
    `dedupe_horizon_records` offsets and the one before it, of each event topic.
    """
    for topic in topics.EVENT_TOPICS:
        end = marker.offsets[topic]
        generation = end // dedupe_horizon_records
        begin = max((generation - 1) * dedupe_horizon_records, await reader.start_of(topic))
        async for fetch in reader.read(topic, begin, end):
            yield fetch


def copy_folder(settings: Settings, partition: int) -> Path:
    """Where one partition's local copy lies."""
    return settings.data_dir / "state" / settings.transactional_id(f"p{partition}")


async def _refuse_lost_state(settings: Settings, partition: int) -> None:
    """Without a marker this is a first start, unless the group has been here before."""
    group = settings.topic(settings.application)
    names = [TopicPartition(settings.topic(topic), partition) for topic in topics.EVENT_TOPICS]
    admin = AIOKafkaAdminClient(**client_options(settings))
    try:
        await admin.start()
        committed = await admin.list_consumer_group_offsets(group, partitions=names)
    except KafkaError as error:
        raise BrokerError(f"the offsets of group {group!r} cannot be read: {error!r}") from error
    finally:
        await admin.close()
    behind = {tp.topic: one.offset for tp, one in committed.items() if one.offset >= 0}
    if behind:
        changelog = settings.topic(topics.CHANGELOG)
        raise StateError(
            f"{changelog}/{partition} holds no checkpoint, but group {group!r} has processed "
            f"{behind}: its state is lost. Bring the topic back; or, to process all input again, "
            f"stop the workers and delete the group's offsets "
            f"(kafka-consumer-groups --delete --group {group})"
        )


def _check_offsets(
    settings: Settings,
    partition: int,
    marker: Marker,
    starts: Mapping[str, int],
    ends: Mapping[str, int],
) -> None:
    for topic in topics.EVENT_TOPICS:
        offset, where = marker.offsets[topic], f"{settings.topic(topic)}/{partition}"
        anew = (
            "to process what is there as a new start, stop the workers, delete and create the "
            f"topic {settings.topic(topics.CHANGELOG)}, and delete the offsets of group "
            f"{settings.topic(settings.application)!r}"
        )
        if offset < starts[topic]:
            raise StateError(
                f"{where}: the checkpoint ends at offset {offset}, but the log now begins at "
                f"{starts[topic]}: retention took records that were never processed. Lengthen "
                f"retention.ms; {anew}"
            )
        if offset > ends[topic]:
            raise StateError(
                f"{where}: the checkpoint ends at offset {offset}, but the log ends at "
                f"{ends[topic]}: the topic was made anew, or records were lost; {anew}"
            )


def _intact_rows(image: Image, stats: RestoreStats) -> tuple[list[bytes], snapshot.Rows]:
    """SKUs and their rows; a corrupt row is left out and counted, its SKU begins anew."""
    rows, bad = snapshot.stack(list(image.rows.values()))
    names = list(image.rows)
    for index in reversed(bad):
        del names[index]
    stats.rows_corrupt = len(bad)
    return names, rows


def _live_cuts(
    image: Image, emitter: Emitter, starts: Mapping[str, int], stats: RestoreStats
) -> list[tuple[bytes, bytes]]:
    """Cuts are kept as long as the input they cut; the others go with the next checkpoint."""
    live, expired = [], []
    for key, value in image.cuts.items():
        topic, position = cut_place(key)
        if position < starts.get(topic, 0):
            expired.append(key)
        else:
            live.append((key, value))
    emitter.forget(expired)
    stats.cuts_expired = len(expired)
    return live


async def _read_reference(
    reader: PartitionReader, stats: RestoreStats
) -> tuple[dict[str, list[tuple[bytes, bytes]]], dict[str, int]]:
    reference: dict[str, list[tuple[bytes, bytes]]] = {}
    positions: dict[str, int] = {}
    for topic in topics.REFERENCE_TOPICS:
        newest: dict[bytes, bytes] = {}
        positions[topic] = end = await reader.end_of(topic)
        async for batch in reader.records(topic, await reader.start_of(topic), end):
            stats.reference_records += len(batch)
            for _, key, value in batch:
                if key is not None and value is not None:
                    newest[key] = value
                elif key is not None:
                    newest.pop(key, None)
        reference[topic] = list(newest.items())
    return reference, positions


async def _read_history(
    reader: PartitionReader, marker: Marker, stats: RestoreStats
) -> list[bytes]:
    start, end = (
        await reader.start_of(topics.DEMAND_WINDOWS),
        await reader.end_of(topics.DEMAND_WINDOWS),
    )
    stats.history_missing = max(0, start - marker.history_offset)
    begin = max(start, marker.history_offset)
    return [
        value
        async for batch in reader.records(topics.DEMAND_WINDOWS, begin, end)
        for _, _, value in batch
        if value is not None
    ]
