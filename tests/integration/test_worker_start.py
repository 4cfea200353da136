"""What a worker refuses to start with, and what it waits for."""

import asyncio
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest
from brokers import LAUNCHER, Kafka, create_topics, fresh_settings, launch
from kafka import KafkaConsumer, TopicPartition
from kafka.structs import OffsetAndMetadata
from sales import publish_sale
from worker_process import COMMAND, WorkerProcess, free_port, reconciled, until

from streams.publish import Publisher
from streams.settings import Settings
from streams.topics import CLICKS, ORDERS

pytestmark = pytest.mark.kafka

WINDOWS_ALONE = {"forecasting": False, "deciding": False, "idle_timeout_ms": 1_000}


@pytest.fixture
def bare_settings(kafka: Kafka, tmp_path: Path) -> Settings:
    """No topics yet."""
    return fresh_settings(kafka.bootstrap_servers, tmp_path / "data", **WINDOWS_ALONE)


HANGING = """
import asyncio, contextlib, faust, sys
from streams.cli import main

async def stop(self):
    while True:  # as where aiokafka waits for its broker to take leave of it
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

faust.App.stop = stop
sys.argv = ["flashcast", "worker"]
main()
"""


def refusal(settings: Settings, tmp_path: Path, command: Sequence[str] = COMMAND) -> str:
    """What a worker that must refuse says."""
    refusing = WorkerProcess(settings, tmp_path / "log")
    refusing.command = command
    with refusing as worker:
        assert worker.exit_code() == 2, worker.said()
        said = worker.said()
    assert "Traceback" not in said
    return said


def test_missing_topics_are_named(bare_settings: Settings, tmp_path: Path) -> None:
    said = refusal(bare_settings, tmp_path)
    assert f"{bare_settings.topic_prefix}clicks" in said
    assert "flashcast topics create" in said


def test_unequal_partition_counts_are_refused(bare_settings: Settings, tmp_path: Path) -> None:
    create_topics(bare_settings, partitions={ORDERS: 3})
    said = refusal(bare_settings, tmp_path)
    assert f"{bare_settings.topic_prefix}orders: 3" in said
    assert "flashcast topics rekey" in said


def test_records_keyed_by_another_partitioner_are_refused(
    bare_settings: Settings, tmp_path: Path
) -> None:
    create_topics(bare_settings)

    async def publish() -> None:
        async with Publisher(bare_settings) as publisher:
            records = [(b"SKU-%d" % n, b"{}") for n in range(2_000)]
            await publisher.publish_placed(CLICKS, {0: records})
            await publisher.flush()

    asyncio.run(publish())
    said = refusal(bare_settings, tmp_path)
    assert "FLASHCAST_PARTITIONER = murmur2" in said
    assert "flashcast topics rekey" in said


@pytest.mark.parametrize("command", [COMMAND, [sys.executable, "-c", HANGING]], ids=["", "hanging"])
def test_a_lost_changelog_is_refused_even_where_faust_does_not_end(
    bare_settings: Settings, tmp_path: Path, command: Sequence[str]
) -> None:
    create_topics(bare_settings)
    consumer = KafkaConsumer(
        bootstrap_servers=bare_settings.bootstrap_servers,
        group_id=bare_settings.topic(bare_settings.application),
        enable_auto_commit=False,
    )
    place = TopicPartition(bare_settings.topic(CLICKS), 1)
    consumer.assign([place])
    consumer.commit({place: OffsetAndMetadata(500, "", -1)})
    consumer.close()
    said = refusal(bare_settings, tmp_path, command)
    assert "holds no checkpoint" in said


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[Kafka]:
    """A broker for this test alone, not started yet, on a known port."""
    if not LAUNCHER:
        pytest.skip("FLASHCAST_TEST_KAFKA does not name a launcher of Apache Kafka")
    port = free_port()
    directory = tmp_path / "broker"
    try:
        yield Kafka(directory, f"127.0.0.1:{port}")
    finally:
        if directory.exists():
            launch("stop", "--dir", str(directory), "--kill")


def test_a_worker_waits_for_its_broker_and_survives_its_absence(
    own_kafka: Kafka, tmp_path: Path
) -> None:
    settings = fresh_settings(
        own_kafka.bootstrap_servers,
        tmp_path / "data",
        **WINDOWS_ALONE | {"idle_timeout_ms": 5_000, "checkpoint_interval_ms": 5_000},
    )
    with WorkerProcess(settings, tmp_path / "log") as worker:
        until(lambda: worker.probe("/livez") == 200, 30, "alive without a broker")
        until(lambda: "waiting for Kafka" in worker.said(), 30, "said so")
        assert worker.probe("/readyz") == 503
        assert settings.bootstrap_servers in worker.said()
        assert worker.terminate()[0] == 0
    port = settings.bootstrap_servers.rpartition(":")[2]
    json.loads(launch("start", "--dir", str(own_kafka.directory), "--port", port))
    create_topics(settings)
    asyncio.run(publish_sale(settings, seed=21, count=60_000, end=40_000))
    with WorkerProcess(settings, tmp_path / "log2") as worker:
        until(lambda: worker.metric("flashcast_checkpoints_total"), 90, "a checkpoint")
        asyncio.run(publish_sale(settings, seed=21, count=60_000, begin=40_000))
        own_kafka.stop(kill=True)
        until(lambda: worker.metric("flashcast_partitions_discarded_total") > 0, 60, "noticed")
        until(lambda: worker.probe("/readyz") == 503, 30, "not ready")
        assert worker.probe("/livez") == 200
        own_kafka.start()
        worker.wait_until_ready()
        report = reconciled(settings)
        assert report.exact, report
        assert report.repeats == 0
        own_kafka.stop(kill=True)
        code, seconds = worker.terminate()
    assert (code, seconds < 10) == (0, True)


def test_an_event_of_a_future_contract_is_counted_and_not_refused(
    bare_settings: Settings, tmp_path: Path
) -> None:
    create_topics(bare_settings)
    body = {
        "event_id": "e1",
        "sku": "SKU-1",
        "user_id": "u",
        "event_time_ms": 1_700_000_000_000,
        "price_cents": 5,
        "loyalty": "gold",
    }

    async def publish() -> None:
        async with Publisher(bare_settings) as publisher:
            await publisher.publish(CLICKS, [(b"SKU-1", msgspec.json.encode(body))])
            await publisher.flush()

    asyncio.run(publish())
    with WorkerProcess(bare_settings, tmp_path / "log") as worker:
        until(lambda: worker.metric("flashcast_unknown_fields_total") == 1, 90, "counted")
        assert worker.metric("flashcast_dead_letters_total") == 0
