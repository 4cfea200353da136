"""The topics of a run: inputs loaded once for all programs, outputs made anew for each."""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from aiokafka import AIOKafkaProducer
from kafka import KafkaConsumer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import TopicAlreadyExistsError

from benchmarks.throughput.encode import RECORDS_MAX, batches
from benchmarks.throughput.workload import PARTITIONS, SKUS, START_MS, TOPICS, Workload, sku_name
from streams import topic_admin
from streams.codec.compression import compressed
from streams.errors import BrokerError
from streams.publish import Publisher
from streams.records import CatalogEntry, StockLevel
from streams.settings import Compression, Settings
from streams.topics import CAPACITY_SHARES, OUTPUT_TOPICS

OUTPUTS = (*OUTPUT_TOPICS, CAPACITY_SHARES)  # of flashcast
KEPT = {"retention.ms": "-1", "retention.bytes": "-1"}
OUTPUT = {**KEPT, "message.timestamp.type": "LogAppendTime"}
DELETION_TIMEOUT_S, DELETION_POLL_S = 30.0, 0.2
SALE_MS = 6 * 3_600_000


@dataclass(frozen=True)
class Shape:
    """How producers send the same events."""

    codec: Compression = "none"
    batch_records: int = RECORDS_MAX


SHAPES = {
    "plain": Shape(),
    "lz4": Shape(codec="lz4"),
    "zstd": Shape(codec="zstd"),
    "small-batches": Shape(batch_records=10),
}


def load(bootstrap_servers: str, prefix: str, work: Workload, shape: Shape) -> int:
    """Create the three topics and fill them; returns when all is acknowledged, with the bytes of
    all values.
    """
    admin = KafkaAdminClient(bootstrap_servers=bootstrap_servers)
    names = [prefix + topic for topic in TOPICS]
    admin.create_topics([NewTopic(name, PARTITIONS, 1, topic_configs=KEPT) for name in names])
    admin.close()
    return asyncio.run(_publish(bootstrap_servers, names, work, shape))


async def _publish(bootstrap_servers: str, names: list[str], work: Workload, shape: Shape) -> int:
    # idempotent: a retry must not put events out of order
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap_servers, enable_idempotence=True, max_request_size=2**20
    )
    value_bytes = 0
    await producer.start()
    try:
        for kind, name in enumerate(names):
            for partition in range(PARTITIONS):
                of_partition = batches(work, kind, partition, shape.batch_records)
                for batch, timestamp_ms, bytes_of_values in of_partition:
                    value_bytes += bytes_of_values
                    sent = compressed(batch, shape.codec)
                    builder = sent.builder(timestamp_ms, transactional=False)
                    await producer.send_batch(builder, name, partition=partition)
        await producer.flush()
    finally:
        await producer.stop()
    return value_bytes


def load_references(settings: Settings, skus: int = SKUS, start_ms: int = START_MS) -> None:
    """A catalog and stock, so that there is something to decide."""
    asyncio.run(_publish_references(settings, skus, start_ms))


async def _publish_references(settings: Settings, skus: int, start_ms: int) -> None:
    names = [sku_name(sku).decode() for sku in range(skus)]
    async with Publisher(settings) as publisher:
        await publisher.publish_reference(_catalog_entry(name, start_ms) for name in names)
        await publisher.publish_reference(
            StockLevel(sku=name, on_hand=1_000, on_order=0, as_of_ms=start_ms) for name in names
        )
        await publisher.flush()


def _catalog_entry(name: str, start_ms: int) -> CatalogEntry:
    return CatalogEntry(
        sku=name,
        title=f"Thing {name}",
        category=f"c{int(name[1:]) % 20}",
        list_price_cents=10_000,
        unit_cost_cents=4_000,
        price_floor_cents=5_000,
        price_ceiling_cents=15_000,
        lead_time_ms=600_000,
        sale_start_ms=start_ms,
        sale_end_ms=start_ms + SALE_MS,
    )


def create_anew(bootstrap_servers: str, name: str) -> None:
    """An empty output topic whose records carry the time of their arrival."""
    delete(bootstrap_servers, [name])
    admin = KafkaAdminClient(bootstrap_servers=bootstrap_servers)
    topic = NewTopic(name, PARTITIONS, 1, topic_configs=OUTPUT)
    _once_deleted(lambda: admin.create_topics([topic]), TopicAlreadyExistsError)
    admin.close()


def create_rest(settings: Settings) -> None:
    """What flashcast needs beside the topics that are there."""
    _once_deleted(lambda: topic_admin.create(settings), BrokerError)


def _once_deleted(create: Callable[[], object], refusal: type[Exception]) -> None:
    """Brokers refuse a name for a while after they have said that it is gone."""
    deadline_s = time.monotonic() + DELETION_TIMEOUT_S
    while True:
        try:
            create()
            return
        except refusal:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(DELETION_POLL_S)


def delete(bootstrap_servers: str, names: Iterable[str]) -> None:
    """Those that are there."""
    admin = KafkaAdminClient(bootstrap_servers=bootstrap_servers)
    there = sorted(set(names) & set(admin.list_topics()))
    if there:
        admin.delete_topics(there)
    admin.close()


def containing(bootstrap_servers: str, part: str) -> list[str]:
    """Topics whose name has `part` in it: what a program made for itself."""
    admin = KafkaAdminClient(bootstrap_servers=bootstrap_servers)
    names = [name for name in admin.list_topics() if part in name]
    admin.close()
    return names


class EndOffsets:
    """How much a topic holds, asked again and again."""

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        self._consumer = KafkaConsumer(bootstrap_servers=bootstrap_servers)
        numbers = sorted(self._consumer.partitions_for_topic(topic) or ())
        self._partitions = [TopicPartition(topic, number) for number in numbers]

    def total(self) -> int:
        return sum(self._consumer.end_offsets(self._partitions).values())

    def close(self) -> None:
        self._consumer.close()
