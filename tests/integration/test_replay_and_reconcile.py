"""A sale through the topics and a real worker, and what `reconcile` says of it."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from brokers import create_topics, fresh_settings

from streams import topics
from streams.codec.plain import Record
from streams.embedded import EmbeddedBroker
from streams.log_reader import LogReader
from streams.publish import Publisher
from streams.reconcile import reconcile
from streams.reconcile_report import ReconcileReport
from streams.records import DemandWindow
from streams.replay import run_replay
from streams.settings import Settings
from streams.simulation.assortment import MINUTE_MS, SaleConfig
from streams.simulation.dirt import Dirt, DirtRates
from streams.simulation.shop import Shop
from streams.simulation.simulate import publish_step, run_simulate
from streams.topics import DEMAND_WINDOWS, EVENT_TOPICS

SEED = 77
END_MS = 1_790_000_040_000
RATES = DirtRates(
    late=0.01, duplicate=0.01, malformed=0.01, wrong_key=0.002, wrong_partition=0.002, future=0.01,
    seconds=0.01, missing_field=0.01, absurd_price=0.01, oversized=0.002, not_utf8=0.01,
)  # fmt: skip
WAIT_S = 60.0


@pytest.fixture(params=["embedded", "kafka"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings with topics of their own, on the embedded broker and on Apache Kafka."""
    if request.param == "kafka":
        found: Settings = request.getfixturevalue("kafka_settings")
        return found
    broker: EmbeddedBroker = request.getfixturevalue("embedded")
    found = fresh_settings(
        broker.bootstrap_servers,
        tmp_path / "data",
        processing_guarantee="at_least_once",
        group_instance_id="test",
    )
    create_topics(found)
    return found


def sale() -> SaleConfig:
    config = SaleConfig.ending_at(END_MS, duration_ms=10 * MINUTE_MS, skus=24)
    return SaleConfig(config.sale_start_ms, config.sale_end_ms, skus=24, stock_units=100)


@contextmanager
def working(settings: Settings) -> Iterator[None]:
    """A worker process with these settings."""
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "FLASHCAST_TOPIC_PREFIX": settings.topic_prefix,
        "FLASHCAST_APPLICATION": settings.application,
        "FLASHCAST_DATA_DIR": str(settings.data_dir),
        "FLASHCAST_PROCESSING_GUARANTEE": settings.processing_guarantee,
        "FLASHCAST_GROUP_INSTANCE_ID": settings.group_instance_id or "",
        "FLASHCAST_WEB_PORT": "0",
        "FLASHCAST_FORECASTING": "false",
        "FLASHCAST_DECIDING": "false",
        "FLASHCAST_IDLE_TIMEOUT_MS": str(settings.idle_timeout_ms),
    }
    command = [sys.executable, "-m", "streams.cli", "worker"]
    process = subprocess.Popen(command, env=environment, cwd=Path(__file__).parents[2])
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def published(settings: Settings) -> tuple[Shop, Dirt]:
    """A whole sale with spoilt records, in the topics."""
    shop, dirt = Shop(sale(), SEED), Dirt(RATES, SEED, settings)
    async with Publisher(settings) as publisher:
        await publisher.publish_reference(shop.catalog())
        while not shop.over:
            await publish_step(publisher, shop, shop.advance(shop.now_ms + MINUTE_MS), dirt)
        await publisher.flush()
    return shop, dirt


async def all_records(settings: Settings, topic: str) -> dict[int, list[Record]]:
    found: dict[int, list[Record]] = {}
    async with LogReader(settings) as reader:
        for partition in range(await reader.partitions(topic)):
            begin, end = await reader.bounds(topic, partition)
            found[partition] = [
                one async for part in reader.read(topic, partition, begin, end) for one in part
            ]
    return found


def verdicts(report: ReconcileReport) -> dict[str, int]:
    totals: dict[str, int] = {}
    for outcomes in report.inputs.values():
        for outcome, count in outcomes.items():
            totals[outcome] = totals.get(outcome, 0) + count
    return totals


async def test_a_spoilt_sale_is_reconciled_to_the_last_record(settings: Settings) -> None:
    shop, dirt = await published(settings)
    with working(settings):
        report = await reconcile(settings, wait_s=WAIT_S)
    assert report.exact, report
    assert report.windows["open"] == 0
    found = verdicts(report)
    assert found["accepted"] == shop.summary().events
    injected = sum(dirt.injected.values())
    assert injected == found["duplicate"] + found["late"] + found["dead_letter"]
    late = sum(count for (_, what), count in dirt.injected.items() if what == "late")
    assert report.late_events == {"expected": late, "found": late}
    assert report.units == shop.summary().units_sold
    assert report.revenue_cents == shop.summary().revenue_cents

    # one forged window more, and one that is gone wrong
    async with Publisher(settings) as publisher:
        window = DemandWindow("SKU-00001", sale().sale_start_ms, 10_000, 9, 0, 0, 0, 0, 1, 0, 0)
        await publisher.publish(DEMAND_WINDOWS, [(b"SKU-00001", msgspec.json.encode(window))])
        await publisher.flush()
    spoilt = await reconcile(settings)
    assert not spoilt.exact and spoilt.differences == 1
    assert spoilt.listed[0].where.startswith(("SKU-00001 at", "demand-windows/"))


async def test_before_a_worker_ran_everything_is_unprocessed(settings: Settings) -> None:
    shop, dirt = await published(settings)
    report = await reconcile(settings)
    assert not report.exact and report.differences == 0
    assert report.unprocessed == shop.summary().events + sum(dirt.injected.values())


def test_a_simulated_file_replays_into_the_partitions_of_its_keys(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "sale.parquet"
    assert run_simulate(settings, sale(), SEED, file=file, json_output=True) == 0
    begun_ms = time.time_ns() // 1_000_000
    assert run_replay(settings, file, json_output=True) == 0
    report = msgspec.json.decode(capsys.readouterr().out.splitlines()[-1])
    total = 0
    for topic in EVENT_TOPICS:
        found = asyncio.run(all_records(settings, topic))
        count = sum(map(len, found.values()))
        assert count == report["published"][topic] > 0
        total += count
        for records in found.values():
            times = [msgspec.json.decode(one.value or b"")["event_time_ms"] for one in records]
            assert times == sorted(times)
            assert all(one.timestamp_ms >= begun_ms for one in records)
    assert total == Shop(sale(), SEED).advance(END_MS).events.kind.size
    assert run_replay(settings, file, limit=10, dry_run=True, json_output=True) == 0
    again = asyncio.run(all_records(settings, topics.CLICKS))
    assert sum(map(len, again.values())) == report["published"]["clicks"], "a dry run sends nothing"
