"""A flood of SKUs that nobody has seen, on Apache Kafka: bounded rows, exact windows, a crash."""

import asyncio
from pathlib import Path

import msgspec
import pytest
from brokers import Kafka, create_topics, fresh_settings
from sales import SALE_MS, SKUS, START_MS, publish_sale
from worker_process import WorkerProcess, reconciled, until

from streams.publish import Publisher
from streams.settings import Settings
from streams.topics import CLICKS

FLOOD = 15_000
ROWS_MAX = 400  # of one partition; a quarter of them for SKUs without a catalog entry


async def publish_flood(settings: Settings) -> None:
    """Clicks, each of a SKU of its own."""
    records = []
    for number in range(FLOOD):
        sku = f"flood-{number}"
        click = {
            "event_id": f"f{number}",
            "sku": sku,
            "user_id": "u",
            "event_time_ms": START_MS + SALE_MS,
            "price_cents": 1,
        }
        records.append((sku.encode(), msgspec.json.encode(click)))
    async with Publisher(settings) as publisher:
        await publisher.publish(CLICKS, records)
        await publisher.flush()


@pytest.mark.kafka
@pytest.mark.parametrize(
    ("admission", "reason", "uncatalogued"),
    [("all", "sku_limit", ROWS_MAX), ("catalog", "sku_unknown", 0)],
)
def test_a_flood_of_skus_is_refused_beyond_the_limit_and_windows_stay_exact_over_a_crash(
    kafka: Kafka, tmp_path: Path, admission: str, reason: str, uncatalogued: int
) -> None:
    settings = fresh_settings(
        kafka.bootstrap_servers,
        tmp_path / "data",
        forecasting=False,
        deciding=False,
        idle_timeout_ms=1_000,
        session_timeout_ms=6_000,
    )
    create_topics(settings)
    policy = {"FLASHCAST_ADMISSION": admission, "FLASHCAST_SKUS_MAX": str(ROWS_MAX)}
    asyncio.run(publish_sale(settings, seed=21, count=5_000))
    asyncio.run(publish_flood(settings))
    with WorkerProcess(settings, tmp_path / "first", **policy) as worker:
        until(lambda: worker.metric("flashcast_dead_letters_total") > 1_000, 90, "dead letters")
        worker.kill()
    with WorkerProcess(settings, tmp_path / "second", **policy) as worker:
        report = reconciled(settings)
        tracked = worker.metric("flashcast_skus_tracked")
    assert report.exact, report
    assert report.refused[reason] == FLOOD - uncatalogued
    assert tracked == SKUS + uncatalogued
