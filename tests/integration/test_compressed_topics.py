"""Tools read whatever is compressed, by producers or the broker; an unreadable batch is named."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from brokers import Kafka, create_topics, fresh_settings
from sales import publish_sale
from worker_process import WorkerProcess, reconciled

from streams import topics
from streams.capacity_sum import CapacitySum
from streams.cluster import Cluster
from streams.codec.plain import CODEC_MASK, batch_at
from streams.codec.write import RecordBatch, encode_records
from streams.demo.listener import Listener
from streams.embedded import EmbeddedBroker
from streams.errors import CodecError
from streams.monitor import Monitor
from streams.records import CapacityForecast, CapacityShare
from streams.schema_examples import EXAMPLES
from streams.settings import Settings
from streams.tail import run_tail
from streams.topic_rekey import INPUTS, run_rekey
from streams.web.dashboard import running

RECORDS = 300
CODECS = {"gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
NOW_MS = 1_795_292_000_000
LETTER = msgspec.json.encode(EXAMPLES[topics.DEAD_LETTERS])
EVENT = b'{"sku": "LAMP-0042", "number": %d}'
Pairs = list[tuple[bytes | None, bytes]]


@pytest.fixture(params=CODECS)
def codec(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def settings(kafka: Kafka, tmp_path: Path, codec: str) -> Settings:
    """Topics that the broker compresses, as Java does."""
    made = fresh_settings(kafka.bootstrap_servers, tmp_path / "data", partitions=1)
    create_topics(made, compression=dict.fromkeys((topics.DEAD_LETTERS, *INPUTS), codec))
    return made


async def publish(settings: Settings, topic: str, batches: list[RecordBatch]) -> None:
    """Into partition 0, as they are; now, or the broker's retention takes them."""
    producer = AIOKafkaProducer(bootstrap_servers=settings.bootstrap_servers)
    await producer.start()
    for batch in batches:
        builder = batch.builder(time.time_ns() // 1_000_000, transactional=False)
        await (await producer.send_batch(builder, settings.topic(topic), partition=0))
    await producer.stop()


def batches_of(values: list[bytes]) -> list[RecordBatch]:
    return encode_records([(b"LAMP-0042", value, ()) for value in values], 10_000)


def published(settings: Settings, topic: str, values: list[bytes]) -> None:
    asyncio.run(publish(settings, topic, batches_of(values)))


def assert_compressed(kafka: Kafka, settings: Settings, topic: str, codec: str) -> None:
    """On the broker's own disk."""
    (segment,) = kafka.directory.rglob(f"{settings.topic(topic)}-0/*.log")
    batch = batch_at(segment.read_bytes(), 0)
    assert batch is not None and batch.attributes & CODEC_MASK == CODECS[codec]


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(one) for one in capsys.readouterr().out.splitlines() if one[:1] == "{"]


async def totals(settings: Settings, records: int) -> dict[str, int]:
    """Of the live page, once it has read so many."""
    web = running(settings, "127.0.0.1", 0, look_back_ms=10**12)
    async with web as port, aiohttp.ClientSession() as session, asyncio.timeout(30):
        while True:
            async with session.get(f"http://127.0.0.1:{port}/v1/state") as answer:
                found: dict[str, int] = (await answer.json())["overview"]["totals"]
            if found["dead_letters"] + found["unreadable"] >= records:
                return found
            await asyncio.sleep(0.1)


@pytest.mark.kafka
def test_tail_shows_every_record(
    kafka: Kafka, settings: Settings, codec: str, capsys: pytest.CaptureFixture[str]
) -> None:
    published(settings, topics.DEAD_LETTERS, [LETTER] * RECORDS)
    assert_compressed(kafka, settings, topics.DEAD_LETTERS, codec)
    assert run_tail(settings, [topics.DEAD_LETTERS], json_output=True, follow=False) == 0
    shown = lines(capsys)
    assert [one["offset"] for one in shown] == list(range(RECORDS))
    assert all(one["value"] == json.loads(LETTER) for one in shown)


@pytest.mark.kafka
def test_the_live_page_counts_every_record(kafka: Kafka, settings: Settings, codec: str) -> None:
    published(settings, topics.DEAD_LETTERS, [LETTER] * RECORDS)
    assert_compressed(kafka, settings, topics.DEAD_LETTERS, codec)
    found = asyncio.run(totals(settings, RECORDS))
    assert (found["dead_letters"], found["unreadable"]) == (RECORDS, 0)


@pytest.mark.kafka
def test_rekey_copies_every_record(
    kafka: Kafka, settings: Settings, codec: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for topic in (topics.CLICKS, topics.CATALOG):
        published(settings, topic, [EVENT % number for number in range(RECORDS)])
        assert_compressed(kafka, settings, topic, codec)
    prefix = settings.topic_prefix
    assert run_rekey(settings, prefix, prefix + "new-", json_output=True) == 0
    (report,) = lines(capsys)
    written = {name: one["written"] for name, one in report["topics"].items()}
    assert written == dict.fromkeys(INPUTS, 0) | {topics.CLICKS: RECORDS, topics.CATALOG: RECORDS}


@pytest.mark.kafka
def test_a_worker_and_reconcile_read_each_codec(kafka: Kafka, tmp_path: Path) -> None:
    settings = fresh_settings(
        kafka.bootstrap_servers, tmp_path / "data", partitions=2, forecasting=False, clock="event"
    )
    codecs = {
        topics.CLICKS: "gzip", topics.CARTS: "snappy", topics.ORDERS: "lz4",
        topics.CATALOG: "zstd", topics.STOCK_LEVELS: "gzip", topics.DEMAND_WINDOWS: "zstd",
        topics.LATE_EVENTS: "gzip", topics.DEAD_LETTERS: "snappy", topics.CHANGELOG: "lz4",
    }  # fmt: skip
    create_topics(settings, compression=codecs)
    asyncio.run(publish_sale(settings, 21, 4_000))
    with WorkerProcess(settings, tmp_path / "log") as worker:
        worker.wait_until_ready()
        report = reconciled(settings)
        assert report.exact, report
    for topic in (*topics.EVENT_TOPICS, topics.DEMAND_WINDOWS, topics.DEAD_LETTERS):
        assert_compressed(kafka, settings, topic, codecs[topic])


@pytest.fixture
def spoilt(embedded: EmbeddedBroker, tmp_path: Path, codec: str) -> Settings:
    """Ten records, three that are torn, ten more; on a broker that does not look into batches."""
    made = fresh_settings(
        embedded.bootstrap_servers,
        tmp_path / "data",
        partitions=1,
        processing_guarantee="at_least_once",
    )
    create_topics(made)
    for topic, value in ((topics.DEAD_LETTERS, LETTER), (topics.CLICKS, EVENT % 1)):
        batches = [*batches_of([value] * 10), torn(codec), *batches_of([value] * 10)]
        asyncio.run(publish(made, topic, batches))
    return made


def torn(codec: str) -> RecordBatch:
    """Three records under a right checksum, whose codec finds none."""
    return RecordBatch(b"torn" * 20, 3, CODECS[codec])


@pytest.mark.embedded
def test_tail_shows_a_batch_that_is_unreadable_with_the_reason_and_goes_on(
    spoilt: Settings, codec: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_tail(spoilt, [topics.DEAD_LETTERS], json_output=True, follow=False) == 0
    shown = lines(capsys)
    assert [one["offset"] for one in shown] == [*range(11), *range(13, 23)]
    assert (
        f"offsets 10 to 12: batch at offset 10 cannot be decompressed ({codec})"
        in (shown[10]["unreadable"])
    )


@pytest.mark.embedded
def test_the_live_page_counts_a_batch_that_is_unreadable_and_goes_on(spoilt: Settings) -> None:
    found = asyncio.run(totals(spoilt, 21))
    assert (found["dead_letters"], found["unreadable"]) == (20, 1)


@pytest.mark.embedded
def test_rekey_refuses_a_batch_that_is_unreadable_and_names_it(
    spoilt: Settings, codec: str
) -> None:
    prefix = spoilt.topic_prefix
    with pytest.raises(CodecError, match=rf"clicks/0: offsets 10 to 12: .*\({codec}\)"):
        run_rekey(spoilt, prefix, prefix + "new-", json_output=True)


@pytest.mark.embedded
def test_the_listener_counts_a_batch_that_is_unreadable_and_goes_on(spoilt: Settings) -> None:
    async def counted() -> dict[str, int]:
        async with Listener(spoilt) as listener, asyncio.timeout(30):
            while listener.counts[topics.DEAD_LETTERS] < 20:
                assert await listener.take(100) == []
            return dict(listener.counts)

    assert asyncio.run(counted()) == {topics.DEAD_LETTERS: 20, "unreadable": 1}


def share(bucket_start_ms: int) -> bytes:
    made = CapacityShare(
        partition=0,
        bucket_start_ms=bucket_start_ms,
        bucket_ms=10_000,
        observed=[30, 20, 10],
        horizons_ms=[60_000],
        mean_per_s=[[3.0, 2.0, 1.0]],
        variance_per_s2=[[3.0, 2.0, 1.0]],
        model_version="none",
    )
    return msgspec.json.encode(made)


@pytest.mark.embedded
def test_the_capacity_sum_goes_over_batches_that_are_unreadable_and_counts_them(
    embedded: EmbeddedBroker, tmp_path: Path, codec: str
) -> None:
    settings = fresh_settings(
        embedded.bootstrap_servers,
        tmp_path / "data",
        partitions=1,
        processing_guarantee="at_least_once",
        clock="event",
    )
    create_topics(settings)
    before: CapacityForecast = EXAMPLES[topics.CAPACITY_FORECASTS]
    told = [
        msgspec.json.encode(msgspec.structs.replace(before, service=name, as_of_ms=NOW_MS))
        for name in ("another", settings.services[0].name)
    ]
    for topic, values in (
        (topics.CAPACITY_FORECASTS, told),
        (topics.CAPACITY_SHARES, [share(NOW_MS), share(NOW_MS + 10_000)]),
    ):
        batches = [*batches_of(values[:1]), torn(codec), *batches_of(values[1:])]
        asyncio.run(publish(settings, topic, batches))
    monitor, made = asyncio.run(summed(settings, NOW_MS + 20_000))
    for topic in (topics.CAPACITY_FORECASTS, topics.CAPACITY_SHARES):
        counter = "flashcast_capacity_batches_unreadable_total"
        assert monitor.registry.get_sample_value(counter, {"topic": topic}) == 1
    assert made[0].reason != "first forecast of this service"  # the last one was read


async def summed(settings: Settings, as_of_ms: int) -> tuple[Monitor, list[CapacityForecast]]:
    """What a sum publishes until the forecast for `as_of_ms`."""
    monitor, found, failures = Monitor(process=False), [], list[Exception]()
    summing = CapacitySum(settings, Cluster(settings), 1, lambda _: True, monitor, failures.append)
    summing.start()
    try:
        async with Listener(settings) as listener, asyncio.timeout(30):
            while not found or found[-1].as_of_ms < as_of_ms:
                found += await listener.take(100)
                assert not failures
    finally:
        await summing.stop()
    return monitor, found[2:]
