"""A `read_committed` subscriber that notes when answers became readable, and reads them later.

It runs on the cores that are measured: so it keeps the bytes, and no more.
"""

import asyncio
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer.fetcher import FetchError

from benchmarks.latency.figures import ANSWERS, Answers
from benchmarks.throughput.workload import PARTITIONS, Int64s
from streams.codec import plain
from streams.codec.batches import iter_records, read_batches
from streams.fetch_seam import raw_answer, seam_problem
from streams.fetching import Drain, client_options
from streams.settings import Settings

FETCH_BYTES_MAX = 4 * 2**20
POLL_S = 0.2

Raw = tuple[bytes, int, list[tuple[int, int]]]  # bytes, first offset wanted, aborted transactions


class Answer(msgspec.Struct):
    """What any answer says of itself; windows speak of buckets, the others of origins."""

    sku: str
    bucket_start_ms: int = 0
    origin_ms: int = 0
    clicks: int = 0
    carts: int = 0
    orders: int = 0
    units: int = 0


@dataclass
class Subscriber:
    """`arrived` holds (wall time in ms, topic, partition, answer): nothing is checked, unpacked or
    decoded while time is being measured.
    """

    arrived: list[tuple[float, str, int, Raw]] = field(default_factory=list)

    async def follow(self, settings: Settings) -> None:
        """Collects until it is cancelled."""
        assert (problem := seam_problem()) is None, problem
        prefix = settings.topic_prefix
        consumer = AIOKafkaConsumer(
            **client_options(settings),
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=FETCH_BYTES_MAX,
            check_crcs=False,  # once, over whole batches
        )
        await consumer.start()
        try:
            consumer.assign(
                [
                    TopicPartition(settings.topic(name), number)
                    for name in ANSWERS
                    for number in range(PARTITIONS)
                ]
            )
            drain = Drain(consumer, lambda name: name.removeprefix(prefix), raw=True)
            while True:
                await drain.wait(POLL_S)
                now_ms = 1_000 * time.time()
                for tp, answer in _taken(consumer):
                    self.arrived.append(
                        (now_ms, tp.topic.removeprefix(prefix), tp.partition, answer)
                    )
        finally:
            await asyncio.shield(consumer.stop())

    def answers(self) -> dict[str, Answers]:
        """By topic, in the order of arrival."""
        return {
            name: _decoded(
                (at, number, raw) for at, topic, number, raw in self.arrived if topic == name
            )
            for name in ANSWERS
        }


def _taken(consumer: AIOKafkaConsumer) -> Iterator[tuple[TopicPartition, Raw]]:
    """What the consumer holds, taken of it."""
    fetcher: Any = consumer._fetcher
    for tp in list(fetcher._records):
        answer = fetcher._records.pop(tp)
        if isinstance(answer, FetchError):
            answer.check_raise()
        raw = raw_answer(answer)
        answer._assignment.state_value(tp).consumed_to(_next_offset(raw[0]))
        yield tp, raw
    fetcher._notify(fetcher._wait_consume_future)


def _next_offset(answer: bytes) -> int:
    """Behind its last whole batch; it has one at least."""
    at, next_offset = 0, -1
    while (batch := plain.batch_at(memoryview(answer), at)) is not None:
        at, next_offset = batch.end, batch.next_offset
    return next_offset


def _decoded(arrived: Iterable[tuple[float, int, Raw]]) -> Answers:
    decoder = msgspec.json.Decoder(Answer)
    rows: list[tuple[int, ...]] = []
    readable_ms: list[float] = []
    for at, partition, (raw, start, aborted) in arrived:
        data, _ = read_batches(raw, start, aborted)
        for record in iter_records(data, start):
            assert record.value is not None
            one = decoder.decode(record.value)
            counted = (one.clicks, one.carts, one.orders, one.units)
            moment_ms = one.bucket_start_ms or one.origin_ms
            sku = int(one.sku[1:])
            rows.append((partition, sku, moment_ms, record.timestamp_ms, *counted))
            readable_ms.append(at)
    columns: Int64s = np.array(rows, np.int64).reshape(-1, 8)
    partition, sku, moment, sent = columns[:, :4].T
    return Answers(partition, sku, moment, sent, np.array(readable_ms), columns[:, 4:])
