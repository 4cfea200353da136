"""All that a program has written, as columns, after it has come to rest."""

import asyncio
from collections.abc import Iterable

import msgspec
import numpy as np
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from benchmarks.throughput.answers import Windows
from benchmarks.throughput.workload import BUCKET_MS, BUCKETS, PARTITIONS, SKUS, START_MS, window_of

READ_TIMEOUT_S = 120.0


class Record(msgspec.Struct):
    """Of `demand-windows`, what every program must answer."""

    sku: str
    bucket_start_ms: int
    clicks: int
    carts: int
    orders: int
    units: int
    revenue_cents: int
    price_cents: int


_DECODER = msgspec.json.Decoder(list[Record])


def read_windows(bootstrap_servers: str, topic: str) -> Windows:
    """Committed records alone."""
    return asyncio.run(_read(bootstrap_servers, topic))


async def _read(bootstrap_servers: str, topic: str) -> Windows:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers,
        group_id=None,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        enable_auto_commit=False,
        check_crcs=False,
        max_partition_fetch_bytes=4 * 2**20,
    )
    await consumer.start()
    parts = [windows_of([])]
    try:
        partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)  # the last stable ones
        async with asyncio.timeout(READ_TIMEOUT_S):
            for partition in partitions:
                while await consumer.position(partition) < ends[partition]:
                    fetched = await consumer.getmany(timeout_ms=500, max_records=100_000)
                    parts += [windows_of(records) for records in fetched.values()]
    finally:
        await consumer.stop()
    return Windows(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def windows_of(records: Iterable[ConsumerRecord]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The columns of `Windows`. What is no window of the job gets the number -1."""
    records = list(records)
    told = _DECODER.decode(b"[" + b",".join(record.value for record in records) + b"]")
    sku = np.array([_sku(one.sku) for one in told], np.int64)
    start_ms = np.array([one.bucket_start_ms for one in told], np.int64)
    exists = (sku >= 0) & (start_ms >= START_MS) & (start_ms % BUCKET_MS == 0)
    exists &= start_ms < START_MS + BUCKETS * BUCKET_MS
    values = [
        (one.clicks, one.carts, one.orders, one.units, one.revenue_cents, one.price_cents)
        for one in told
    ]
    return (
        np.where(exists, window_of(start_ms, sku), -1),
        np.array(values, np.int64).reshape(-1, 6),
        np.array([record.timestamp for record in records], np.int64),
    )


def _sku(name: str) -> int:
    number = int(name[1:]) if name[:1] == "S" and name[1:].isdigit() else -1
    return number if number < SKUS else -1
