"""Ends what a broker left open of a transaction that its coordinator holds to be over.

A transaction is decided by its coordinator, which then has a marker written to each partition. One
that comes back after a crash takes partitions whose leader it does not know yet for deleted, writes
no marker there, and calls the transaction complete. Whoever reads committed records waits in front
of it for ever; and the next marker of the same producer, whatever it is for, decides it anew. So it
is looked for before any state is read, and ended as its coordinator had decided. Where the broker
no longer knows, as after a second start in between:

- What of the transaction has its marker elsewhere says how it was decided; all its records carry
  one timestamp.
- Without any, nobody was shown it, and it is taken back.

A worker whose coordinator was lost at a commit restores the partition, and so comes here too.
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

LOOKS: Final = 25  # a marker that is on its way is there soon
LOOK_S: Final = 0.2
TAIL: Final = 2  # a last record and the marker behind it


async def settle(
    settings: Settings, outside: Outside, emitter: Emitter, reader: PartitionReader
) -> None:
    """After the emitter's start: its partition's transactions are over when this returns.

    Raises BrokerError when the changelog stays open.
    """
    if not isinstance(emitter, TransactionalEmitter):
        return
    async with outside.reader(emitter.partition, uncommitted=True) as raw:
        hanging = await _hanging(emitter, reader, raw)
        if not hanging:
            return
        commit = emitter.earlier_outcome
        if commit is None:
            commit = await _was_committed(emitter, reader, raw, hanging)
        log.warning(
            "the broker left a transaction open, it is ended now",
            partition=emitter.partition,
            topics=sorted(hanging),
            how="committed" if commit else "aborted",
        )
        await emitter.end_hanging(sorted(hanging), commit=commit)
        left = await _hanging(emitter, reader, raw)
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


async def _hanging(
    emitter: Emitter, reader: PartitionReader, raw: PartitionReader
) -> Mapping[str, Bounds]:
    """Of the topics with records that no marker ended: from where on to their end."""
    found: dict[str, Bounds] = {}
    for look in range(LOOKS):
        ends = await raw.bounds(emitter.writes)
        stable = await reader.bounds(emitter.writes)
        found = {
            topic: Bounds(stable[topic].end, ends[topic].end)
            for topic in emitter.writes
            if stable[topic].end < ends[topic].end
        }
        if not found:
            break
        if look < LOOKS - 1:
            await asyncio.sleep(LOOK_S)
    return found


async def _was_committed(
    emitter: Emitter, reader: PartitionReader, raw: PartitionReader, hanging: Mapping[str, Bounds]
) -> bool:
    """As far as anybody can have seen."""
    stamps = [await _first_ms(raw, topic, bounds) for topic, bounds in hanging.items()]
    everywhere = await raw.bounds(emitter.writes)
    for topic in emitter.writes:
        if topic in hanging:
            continue
        begin = max(everywhere[topic].start, everywhere[topic].end - TAIL)
        tail = Bounds(begin, everywhere[topic].end)
        sent_ms = await _first_ms(raw, topic, tail)
        if sent_ms is not None and sent_ms in stamps:
            return await _first_ms(reader, topic, tail) == sent_ms
    return False


async def _first_ms(reader: PartitionReader, topic: str, bounds: Bounds) -> int | None:
    """Timestamp of the first record there that `reader` sees."""
    async for fetch in reader.read(topic, *bounds):
        for record in iter_records(fetch.data, fetch.first_offset):
            return record.timestamp_ms
    return None
