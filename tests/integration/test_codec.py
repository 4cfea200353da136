"""Our record batches through aiokafka's producers and Apache Kafka, and back."""

import asyncio
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from streams.codec.write import RecordBatch, encode_records
from streams.settings import Settings
from streams.topics import CLICKS, DEMAND_WINDOWS

NOW_MS = 1_795_292_000_000
RECORDS: list[Any] = [
    (b"k%d" % at, b"v" * (at % 90), [("ce_id", b"%d" % at), ("none", None)]) for at in range(2_000)
]

pytestmark = pytest.mark.kafka


async def send(
    producer: AIOKafkaProducer, topic: str, batches: list[RecordBatch], transactional: bool
) -> list[Any]:
    futures = [
        await producer.send_batch(
            batch.builder(NOW_MS, transactional=transactional), topic, partition=0
        )
        for batch in batches
    ]
    return list(await asyncio.gather(*futures))


async def read(settings: Settings, topic: str, isolation_level: str) -> list[Any]:
    """Every record of partition 0, as any consumer gets them."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.bootstrap_servers,
        isolation_level=isolation_level,
        auto_offset_reset="earliest",
    )
    partition = TopicPartition(topic, 0)
    await consumer.start()
    try:
        consumer.assign([partition])
        (end,) = (await consumer.end_offsets([partition])).values()
        found: list[Any] = []
        while await consumer.position(partition) < end:
            for records in (await consumer.getmany(timeout_ms=1_000)).values():
                found += records
        return found
    finally:
        await consumer.stop()


async def test_an_idempotent_producer_sends_them_in_order(kafka_settings: Settings) -> None:
    topic = kafka_settings.topic(CLICKS)
    producer = AIOKafkaProducer(
        bootstrap_servers=kafka_settings.bootstrap_servers, enable_idempotence=True
    )
    await producer.start()
    try:
        batches = encode_records(RECORDS, 20_000)
        assert len(batches) > 5
        sent = await send(producer, topic, batches, transactional=False)
    finally:
        await producer.stop()
    offsets = [metadata.offset for metadata in sent]
    counts = [batch.count for batch in batches]
    assert offsets == [sum(counts[:at]) for at in range(len(counts))]
    found = await read(kafka_settings, topic, "read_committed")
    assert [(r.key, r.value, list(r.headers)) for r in found] == RECORDS
    assert {record.timestamp for record in found} == {NOW_MS}


async def test_a_transaction_holds_all_or_nothing_of_them(kafka_settings: Settings) -> None:
    topic = kafka_settings.topic(DEMAND_WINDOWS)
    producer = AIOKafkaProducer(
        bootstrap_servers=kafka_settings.bootstrap_servers,
        transactional_id=kafka_settings.transactional_id("codec"),
    )
    batches = encode_records(RECORDS, 50_000)
    await producer.start()
    try:
        for commits in (True, False, True):
            await producer.begin_transaction()
            await send(producer, topic, batches, transactional=True)
            await (producer.commit_transaction() if commits else producer.abort_transaction())
    finally:
        await producer.stop()
    committed = await read(kafka_settings, topic, "read_committed")
    assert [record.key for record in committed] == [key for key, _, _ in RECORDS] * 2
    assert len(await read(kafka_settings, topic, "read_uncommitted")) == 3 * len(RECORDS)
