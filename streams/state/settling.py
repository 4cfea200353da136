"""Ends what a broker left open of a transaction that its coordinator holds to be over.

A transaction is decided by its coordinator, which then has a marker written to each partition. One
that comes back after a crash takes partitions whose leader it does not know yet for deleted, writes
no marker there, and calls the transaction complete. Whoever reads committed records waits in front
of it for ever; and the next marker of the same producer, whatever it is for, decides it anew. So it
is looked for before any state is read, and ended the same way everywhere:

- The changelog's own part is open: nobody was shown it, so it is taken back, unless windows of the
  same transaction were shown.
- The changelog's part was ended: the others follow it.
"""

import asyncio
from collections.abc import Mapping
from typing import Final

import structlog

from streams import topics
from streams.codec.batches import iter_records
from streams.emit import Emitter, TransactionalEmitter
from streams.errors import BrokerError
from streams.outside import Outside
from streams.settings import Settings
from streams.state.partition_reader import Bounds, PartitionReader

log = structlog.get_logger("flashcast.recovery")

WRITTEN: Final = (
    *(topic for topic in topics.OUTPUT_TOPICS if topic != topics.CAPACITY_FORECASTS),
    topics.CAPACITY_SHARES,
    topics.CHANGELOG,
)
LOOKS: Final = 25  # a marker that is on its way is there soon
LOOK_S: Final = 0.2
TAIL: Final = 2  # the last record and the marker behind it


async def settle(
    settings: Settings, outside: Outside, emitter: Emitter, reader: PartitionReader
) -> None:
    """After the emitter's start: its partition's transactions are over when this returns.

    Raises BrokerError when the changelog stays open.
    """
    if not isinstance(emitter, TransactionalEmitter):
        return
    async with outside.reader(emitter.partition, uncommitted=True) as raw:
        hanging = await _hanging(reader, raw)
        if not hanging:
            return
        commit = await _was_committed(reader, raw, topics.CHANGELOG in hanging)
        log.warning(
            "the broker left a transaction open, it is ended now",
            partition=emitter.partition,
            topics=sorted(hanging),
            how="committed" if commit else "aborted",
        )
        await emitter.end_hanging(sorted(hanging), commit=commit)
        left = await _hanging(reader, raw)
    if not left:
        return
    names = ", ".join(f"{settings.topic(topic)}/{emitter.partition}" for topic in sorted(left))
    problem = (
        f"a transaction stays open on {names}, of another producer: nobody can read on there until "
        "it ends. `kafka-transactions.sh find-hanging` finds it, `... abort` ends it"
    )
    if topics.CHANGELOG in left:
        raise BrokerError(problem)
    log.warning(problem)


async def _hanging(reader: PartitionReader, raw: PartitionReader) -> Mapping[str, Bounds]:
    """Of the topics with records that no marker ended: from where on to their end."""
    found: dict[str, Bounds] = {}
    for look in range(LOOKS):
        ends = await raw.bounds(WRITTEN)
        stable = await reader.bounds(WRITTEN)
        found = {
            topic: Bounds(stable[topic].end, ends[topic].end)
            for topic in WRITTEN
            if stable[topic].end < ends[topic].end
        }
        if not found:
            break
        if look < LOOKS - 1:
            await asyncio.sleep(LOOK_S)
    return found


async def _was_committed(
    reader: PartitionReader, raw: PartitionReader, changelog_open: bool
) -> bool:
    """How the last transaction of the partition ended, as far as anybody can have seen."""
    if not changelog_open:
        return bool(await _tail(reader, raw, topics.CHANGELOG))
    # all batches of one transaction carry the same timestamp
    sent_ms = await _tail(raw, raw, topics.CHANGELOG)
    windows_ms = await _tail(raw, raw, topics.DEMAND_WINDOWS)
    shown_ms = await _tail(reader, raw, topics.DEMAND_WINDOWS)
    return bool(sent_ms) and windows_ms[-1:] == sent_ms[-1:] and shown_ms[-1:] == sent_ms[-1:]


async def _tail(reader: PartitionReader, raw: PartitionReader, topic: str) -> list[int]:
    """Timestamps of the log's last records, as far as `reader` sees them."""
    start, end = (await raw.bounds([topic]))[topic]
    seen = (await reader.bounds([topic]))[topic].end
    begin = max(start, end - TAIL)
    return [
        record.timestamp_ms
        async for fetch in reader.read(topic, begin, min(seen, end))
        for record in iter_records(fetch.data, fetch.first_offset)
    ]
