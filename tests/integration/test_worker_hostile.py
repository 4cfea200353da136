"""A whole worker on Apache Kafka, fed what a broker takes and no shop should send."""

import asyncio
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from brokers import Kafka, create_topics, fresh_settings
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from sales import publish_sale
from worker_process import WorkerProcess, reconciled

from streams.errors import Reason
from streams.settings import Settings
from streams.topics import CLICKS, STOCK_LEVELS

QUICK = {
    "forecasting": False,
    "deciding": False,
    "idle_timeout_ms": 1_000,
    "session_timeout_ms": 6_000,
}
LARGE_BYTES = 10 * 2**20


def allow_large_records(settings: Settings) -> None:
    admin = KafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
    try:
        wanted = {"max.message.bytes": str(LARGE_BYTES)}
        name = settings.topic(CLICKS)
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, wanted)])
    finally:
        admin.close()


async def publish_hostile(settings: Settings) -> None:
    """On each partition, records whose dead letters would be larger than a topic takes, and
    tombstones whose key is no text.
    """
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.bootstrap_servers, max_request_size=LARGE_BYTES
    )
    await producer.start()
    clicks = settings.topic(CLICKS)
    try:
        for partition in range(settings.partitions):
            await producer.send_and_wait(clicks, b"{" * 5_000_000, b"A", partition)
            await producer.send_and_wait(
                clicks, b"{", b"k" * 900_000, partition, headers=[("h", b"x" * 60_000)] * 60
            )
            await producer.send_and_wait(settings.topic(STOCK_LEVELS), None, b"\xff\xfe", partition)
            await producer.send_and_wait(
                settings.topic(STOCK_LEVELS),
                b"[]",
                b"A",
                partition,
                headers=[(f"h{i}", b"x" * 50) for i in range(9_000)],
            )
    finally:
        await producer.stop()


@pytest.mark.kafka
def test_records_as_large_as_the_broker_takes_stop_nothing(kafka: Kafka, tmp_path: Path) -> None:
    settings = fresh_settings(kafka.bootstrap_servers, tmp_path / "data", **QUICK)
    create_topics(settings)
    allow_large_records(settings)
    asyncio.run(publish_hostile(settings))
    asyncio.run(publish_sale(settings, seed=31, count=20_000))
    with WorkerProcess(settings, tmp_path / "log") as worker:
        worker.wait_until_ready()
        report = reconciled(settings)
        assert worker.metric("flashcast_partitions_discarded_total") == 0
        assert worker.terminate()[0] == 0
    assert report.exact, report
    assert report.refused[Reason.VALUE_TOO_LARGE] == settings.partitions
    assert report.refused[Reason.NOT_JSON] >= settings.partitions
