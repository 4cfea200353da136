"""A whole worker on Apache Kafka: exact windows, whatever happens to it."""

import asyncio
from pathlib import Path

import pytest
from brokers import Kafka, create_topics, fresh_settings
from sales import publish_sale
from worker_process import WorkerProcess, reconciled, until

from streams.settings import Settings

pytestmark = pytest.mark.kafka


@pytest.fixture
def settings(kafka: Kafka, tmp_path: Path) -> Settings:
    made = fresh_settings(
        kafka.bootstrap_servers,
        tmp_path / "data",
        forecasting=False,
        deciding=False,
        idle_timeout_ms=1_000,
        session_timeout_ms=6_000,
    )
    create_topics(made)
    return made


def test_a_sale_becomes_exact_windows_and_the_worker_leaves_in_time(
    settings: Settings, tmp_path: Path
) -> None:
    asyncio.run(publish_sale(settings, seed=11, count=20_000))
    with WorkerProcess(settings, tmp_path / "log") as worker:
        worker.wait_until_ready()
        report = reconciled(settings)
        assert worker.probe("/livez") == 200
        code, seconds = worker.terminate()
    assert report.exact, report
    assert report.windows["expected"] > 5_000
    assert report.refused["late"] > 50
    assert (code, seconds < 10) == (0, True)


def test_a_worker_killed_in_the_middle_is_followed_exactly(
    settings: Settings, tmp_path: Path
) -> None:
    asyncio.run(publish_sale(settings, seed=12, count=100_000))
    for attempt in range(3):
        with WorkerProcess(settings, tmp_path / f"log{attempt}") as worker:
            until(lambda w=worker: w.metric("flashcast_checkpoints_total") > 6, 90, "checkpoints")
            worker.kill()
    with WorkerProcess(settings, tmp_path / "log"):
        report = reconciled(settings)
    assert report.exact, report
    assert report.repeats == 0


def test_partitions_move_between_two_workers_exactly(settings: Settings, tmp_path: Path) -> None:
    asyncio.run(publish_sale(settings, seed=13, count=60_000))
    second_settings = settings.model_copy(update={"data_dir": tmp_path / "data2"})
    with WorkerProcess(settings, tmp_path / "log1") as first:
        first.wait_until_ready()
        with WorkerProcess(second_settings, tmp_path / "log2") as second:
            until(lambda: second.metric("flashcast_partitions_ready") == 2, 90, "two and two")
            until(lambda: first.metric("flashcast_partitions_ready") == 2, 30, "two and two")
            asyncio.run(publish_sale(settings, seed=14, count=20_000))
            assert first.terminate()[0] == 0
            until(lambda: second.metric("flashcast_partitions_ready") == 4, 30, "all four")
            report = reconciled(settings)
    assert report.exact, report
    assert report.repeats == 0
