"""`flashcast topics rekey`: copies the input topics under another prefix, every record keyed by its
SKU and where that key belongs.

For topics whose producers used another partitioner or no key, or whose partition counts differ. The
copy keeps order (source partitions are merged by record timestamp, or a SKU's events would come out
late), timestamps, headers and values; the counts must agree in the end.
"""

import asyncio
import heapq
import json
import sys
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from typing import Any, Final

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from streams import topic_admin
from streams.codec.decode import Fetch
from streams.codec.plain import Record
from streams.errors import BrokerError, CodecError, ConfigurationError
from streams.fetch_seam import in_place, seam_problem
from streams.fetching import Drain, client_options, isolation_level
from streams.log_reader import records_of
from streams.partitioner import partition_of
from streams.settings import Settings
from streams.topics import EVENT_TOPICS, REFERENCE_TOPICS
from streams.unreachable import diagnosed

INPUTS: Final = (*EVENT_TOPICS, *REFERENCE_TOPICS)
BATCH_BYTES_MAX: Final = 500_000
UNACKNOWLEDGED_MAX: Final = 64  # batches
WAIT_S: Final = 0.5
STALL_S: Final = 30.0


@dataclass(slots=True)
class Copied:
    """What became of one topic's records."""

    read: int = 0
    written: int = 0  # as the target's offsets say
    moved: int = 0  # to a partition of another number
    rekeyed: int = 0  # given a key that is the SKU
    without_sku: int = 0  # no SKU can be read in the value: key and all as it was


class Sku(msgspec.Struct):
    """The one field that a key is made from."""

    sku: str


# Built here, once: msgspec 0.22 crashes where threads are the first to use a type at the same time.
_SKU: Final = msgspec.json.Decoder(Sku)


def run_rekey(
    settings: Settings, source_prefix: str, target_prefix: str, json_output: bool = False
) -> int:
    """Copy the six input topics. Exit code 1 when a count does not agree.

    Raises ConfigurationError when the target holds records already, BrokerError.
    """
    if source_prefix == target_prefix:
        raise ConfigurationError(f"the copy needs a prefix of its own, not {target_prefix!r} again")
    if settings.partitioner == "none":
        raise ConfigurationError(
            "FLASHCAST_PARTITIONER = 'none' names no place for a key: choose murmur2 or crc32"
        )
    source = settings.model_copy(update={"topic_prefix": source_prefix})
    target = settings.model_copy(update={"topic_prefix": target_prefix})
    topic_admin.create(target)
    copied = asyncio.run(_rekeyed(source, target, shown=not json_output))
    exact = all(one.read == one.written for one in copied.values())
    if json_output:
        body = {"exact": exact, "topics": {name: asdict(one) for name, one in copied.items()}}
        print(json.dumps(body))
    else:
        for name, one in copied.items():
            print(
                f"{target.topic(name)}: {one.read} read, {one.written} written, {one.moved} moved, "
                f"{one.rekeyed} given their SKU as key, {one.without_sku} without a SKU"
            )
        print(
            f"Exact. Set FLASHCAST_TOPIC_PREFIX={target_prefix} for workers and producers."
            if exact
            else "NOT exact: do not use the copy; is something else writing to it?"
        )
    return int(not exact)


async def _rekeyed(source: Settings, target: Settings, shown: bool) -> dict[str, Copied]:
    async with AsyncExitStack() as stack:
        try:
            seam_problem()  # puts the seam in place, if it can be
            consumer = AIOKafkaConsumer(
                group_id=None,
                enable_auto_commit=False,
                auto_offset_reset="none",
                isolation_level=isolation_level(source),
                fetch_max_wait_ms=50,  # questions about offsets queue behind a fetch that waits
                **client_options(source),
            )
            stack.push_async_callback(consumer.stop)
            await consumer.start()
            producer = AIOKafkaProducer(
                enable_idempotence=True,
                acks="all",
                max_batch_size=BATCH_BYTES_MAX,
                max_request_size=16 * 2**20,
                **client_options(target),
            )
            stack.push_async_callback(producer.stop)
            await producer.start()
            copies = [Copy(source, target, name, consumer, producer) for name in INPUTS]
            for copy in copies:
                await copy.prepare()
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
            )
            with Progress(
                *columns, console=Console(file=sys.stderr), disable=not shown
            ) as progress:
                for copy in copies:
                    task = progress.add_task(copy.name, total=copy.expected)
                    async for _ in copy.run():
                        progress.update(task, completed=copy.copied.read)
                    progress.update(task, total=copy.copied.read, completed=copy.copied.read)
            return {copy.name: copy.copied for copy in copies}
        except (KafkaError, OSError) as error:
            raise await diagnosed(source, error) from None


class Copy:
    """One topic: from the offsets it has at the start to those it has at the end."""

    def __init__(
        self,
        source: Settings,
        target: Settings,
        name: str,
        consumer: AIOKafkaConsumer,
        producer: AIOKafkaProducer,
    ) -> None:
        self.name = name
        self.copied = Copied()
        self.expected = 0
        self._from, self._to = source.topic(name), target.topic(name)
        self._partitioner = target.partitioner
        self._consumer, self._producer = consumer, producer
        self._bounds: dict[TopicPartition, tuple[int, int]] = {}
        self._targets: list[TopicPartition] = []
        self._batches: dict[int, Any] = {}
        self._unacknowledged: deque[asyncio.Future[Any]] = deque()
        self._places: dict[bytes, int] = {}

    async def prepare(self) -> None:
        """Find both topics; refuse a target that is in use."""
        cluster = await self._consumer._client.fetch_all_metadata()
        found = {name: cluster.partitions_for_topic(name) for name in (self._from, self._to)}
        if not found[self._from]:
            raise ConfigurationError(f"topic {self._from!r} is not there: is the prefix right?")
        sources = [TopicPartition(self._from, number) for number in sorted(found[self._from])]
        self._targets = [TopicPartition(self._to, number) for number in sorted(found[self._to])]
        begins = await self._consumer.beginning_offsets(sources)
        ends = await self._consumer.end_offsets(sources)
        self._bounds = {one: (begins[one], ends[one]) for one in sources}
        self.expected = sum(end - begin for begin, end in self._bounds.values())
        there = await self._records_there()
        if there:
            raise ConfigurationError(
                f"topic {self._to!r} holds {there} records already: copy into a prefix without any"
            )

    async def _records_there(self) -> int:
        begins = await self._consumer.beginning_offsets(self._targets)
        ends = await self._consumer.end_offsets(self._targets)
        return sum(ends[one] - begins[one] for one in self._targets)

    async def run(self) -> AsyncIterator[None]:
        """Copy everything; yields now and then, for whoever shows progress."""
        async for source, record in merged(self._consumer, self._bounds):
            await self._copy(source.partition, record)
            self.copied.read += 1
            if self.copied.read % 10_000 == 0:
                yield
        for partition in list(self._batches):
            await self._send(partition)
        while self._unacknowledged:
            await self._unacknowledged.popleft()
        self.copied.written = await self._records_there()

    async def _copy(self, partition: int, record: Record) -> None:
        key = sku_of(record.value)
        if key is None:
            self.copied.without_sku += record.value is not None
            key = record.key
        elif key != record.key:
            self.copied.rekeyed += 1
        to = partition % len(self._targets) if key is None else self._place(key)
        self.copied.moved += to != partition
        fields = {
            "timestamp": record.timestamp_ms,
            "key": key,
            "value": record.value,
            "headers": list(record.headers),
        }
        batch = self._batches.get(to)
        if batch is not None and batch.append(**fields) is not None:
            return
        if batch is not None:
            await self._send(to)
        self._batches[to] = batch = self._producer.create_batch()
        batch.append(**fields)  # the first record of a batch always fits

    def _place(self, key: bytes) -> int:
        place = self._places.get(key)
        if place is None:
            place = partition_of(key, len(self._targets), self._partitioner)
            self._places[key] = place
        return place

    async def _send(self, partition: int) -> None:
        batch = self._batches.pop(partition)
        batch.close()
        future = await self._producer.send_batch(batch, self._to, partition=partition)
        self._unacknowledged.append(future)
        while len(self._unacknowledged) > UNACKNOWLEDGED_MAX:
            await self._unacknowledged.popleft()


def sku_of(value: bytes | None) -> bytes | None:
    """The key that this value asks for; None when it names no SKU."""
    if value is None:
        return None
    try:
        return _SKU.decode(value).sku.encode() or None
    except (msgspec.DecodeError, UnicodeDecodeError, UnicodeEncodeError):
        return None


async def merged(
    consumer: AIOKafkaConsumer, bounds: Mapping[TopicPartition, tuple[int, int]]
) -> AsyncIterator[tuple[TopicPartition, Record]]:
    """The records of several partitions, oldest timestamp first, order kept within each.

    Raises CodecError for a batch that cannot be read, whose records nobody could copy.
    """
    waiting: dict[TopicPartition, deque[Record]] = {one: deque() for one in bounds}
    unread = {one for one, (begin, end) in bounds.items() if begin < end}
    consumer.assign(list(bounds))
    for one, (begin, _) in bounds.items():
        consumer.seek(one, begin)
    drain = Drain(consumer, lambda name: name, raw=in_place())
    numbered = {one: number for number, one in enumerate(bounds)}
    heads: list[tuple[int, int, TopicPartition]] = []  # (timestamp, number, of): one if it waits
    loop = asyncio.get_running_loop()
    heard = loop.time()
    while unread or heads:
        starved = {one for one in unread if not waiting[one]}
        if starved:  # whether its next record is older than the others' is not known yet
            consumer.resume(*starved)
            if others := bounds.keys() - starved:
                consumer.pause(*others)
            await drain.wait(WAIT_S)
            drained = await drain.take()
            for fetch in drained.fetches:
                one = TopicPartition(fetch.topic, fetch.partition)
                if one not in unread:
                    continue
                held = bool(waiting[one])
                waiting[one].extend(await _readable(fetch, bounds[one][1]))
                if waiting[one] and not held:
                    heapq.heappush(heads, (waiting[one][0].timestamp_ms, numbered[one], one))
                if fetch.next_offset >= bounds[one][1]:
                    unread.remove(one)
            if drained.error is not None:
                raise drained.error
            heard = loop.time() if drained.fetches else heard
            if loop.time() - heard > STALL_S:
                raise BrokerError(f"no record of {min(starved)} for {STALL_S:.0f} s: is it there?")
            continue
        oldest = heads[0][2]
        record = waiting[oldest].popleft()
        if waiting[oldest]:
            after = (waiting[oldest][0].timestamp_ms, numbered[oldest], oldest)
            heapq.heapreplace(heads, after)
        else:
            heapq.heappop(heads)
        yield oldest, record


async def _readable(fetch: Fetch, end: int) -> list[Record]:
    """The records before `end`."""
    for offset, why in fetch.unreadable.items():
        if offset < end:
            raise CodecError(
                f"{fetch.topic}/{fetch.partition}: {why}. Nothing can be copied of it: let "
                "retention or kafka-delete-records remove it, then copy again"
            )
    return [one for one in await asyncio.to_thread(records_of, fetch) if one.offset < end]
