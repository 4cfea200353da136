"""A `read_committed` subscriber that notes when answers became readable, and reads them later."""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec
import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition

from benchmarks.latency.figures import ANSWERS, Answers
from benchmarks.throughput.workload import PARTITIONS, Int64s
from streams.codec.batches import iter_records
from streams.codec.decode import Fetch
from streams.fetch_seam import in_place
from streams.fetching import Drain, client_options
from streams.settings import Settings

FETCH_BYTES_MAX = 4 * 2**20
POLL_S = 0.2


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
    """`arrived` holds (wall time in ms, fetch): nothing is decoded while time is being measured."""

    arrived: list[tuple[float, Fetch]] = field(default_factory=list)

    async def follow(self, settings: Settings) -> None:
        """Collects until it is cancelled."""
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
            drain = Drain(consumer, lambda name: name.removeprefix(prefix), raw=in_place())
            while True:
                await drain.wait(POLL_S)
                drained = await drain.take()
                now_ms = 1_000 * time.time()
                if drained.error is not None:
                    raise drained.error
                self.arrived += [(now_ms, fetch) for fetch in drained.fetches]
        finally:
            await asyncio.shield(consumer.stop())

    def answers(self) -> dict[str, Answers]:
        """By topic, in the order of arrival."""
        return {
            name: _decoded((at, fetch) for at, fetch in self.arrived if fetch.topic == name)
            for name in ANSWERS
        }


def _decoded(arrived: Iterable[tuple[float, Fetch]]) -> Answers:
    decoder = msgspec.json.Decoder(Answer)
    rows: list[tuple[int, ...]] = []
    readable_ms: list[float] = []
    for at, fetch in arrived:
        for record in iter_records(fetch.data, fetch.first_offset):
            assert record.value is not None
            one = decoder.decode(record.value)
            counted = (one.clicks, one.carts, one.orders, one.units)
            moment_ms = one.bucket_start_ms or one.origin_ms
            sku = int(one.sku[1:])
            rows.append((fetch.partition, sku, moment_ms, record.timestamp_ms, *counted))
            readable_ms.append(at)
    columns: Int64s = np.array(rows, np.int64).reshape(-1, 8)
    partition, sku, moment, sent = columns[:, :4].T
    return Answers(partition, sku, moment, sent, np.array(readable_ms), columns[:, 4:])
