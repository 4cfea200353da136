"""A whole worker on Apache Kafka: exact windows, whatever happens to it."""

import asyncio
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from brokers import Kafka, create_topics, fresh_settings
from sales import publish_sale
from worker_process import WorkerProcess, group_offsets, log_ends, reconciled, until

from streams.embedded import EmbeddedBroker
from streams.settings import Settings
from streams.topics import CLICKS


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


@pytest.mark.kafka
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


@pytest.mark.kafka
@pytest.mark.parametrize("guarantee", ["exactly_once", "at_least_once"])
def test_a_worker_killed_in_the_middle_is_followed_exactly(
    settings: Settings, tmp_path: Path, guarantee: str
) -> None:
    """At least once repeats outputs, under the same ids; what they say stays exact."""
    settings = settings.model_copy(
        update={"processing_guarantee": guarantee, "checkpoint_interval_ms": 10}
    )
    stretch = 30_000
    for attempt in range(3):
        begin = attempt * stretch
        asyncio.run(
            publish_sale(settings, seed=12, count=3 * stretch, begin=begin, end=begin + stretch)
        )
        with WorkerProcess(settings, tmp_path / f"log{attempt}") as worker:
            until(lambda w=worker: w.metric("flashcast_checkpoints_total"), 90, "a checkpoint")
            worker.kill()
    with WorkerProcess(settings, tmp_path / "log") as worker:
        report = reconciled(settings)
        assert worker.process.poll() is None, "the worker ended"
        assert report.exact, report
    assert guarantee == "at_least_once" or report.repeats == 0


@pytest.mark.kafka
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


@pytest.mark.kafka
def test_a_fenced_partition_is_restored_by_its_owner(settings: Settings, tmp_path: Path) -> None:
    """Whoever starts a producer under a partition's transactional id shuts the worker's out."""
    asyncio.run(publish_sale(settings, seed=15, count=20_000))

    async def fence() -> None:
        rogue = AIOKafkaProducer(
            bootstrap_servers=settings.bootstrap_servers,
            transactional_id=settings.transactional_id("p1"),
        )
        await rogue.start()
        await rogue.stop()

    with WorkerProcess(settings, tmp_path / "log") as worker:
        until(lambda: worker.metric("flashcast_checkpoints_total"), 90, "a checkpoint")
        asyncio.run(fence())
        asyncio.run(publish_sale(settings, seed=16, count=20_000))
        until(
            lambda: worker.metric('flashcast_partitions_discarded_total{reason="fenced"}') > 0,
            60,
            "fenced",
        )
        report = reconciled(settings)
    assert report.exact, report
    assert report.repeats == 0


@pytest.mark.kafka
def test_group_offsets_end_where_the_markers_end(settings: Settings, tmp_path: Path) -> None:
    asyncio.run(publish_sale(settings, seed=17, count=5_000))
    with WorkerProcess(settings, tmp_path / "log") as worker:
        assert reconciled(settings).exact
        worker.terminate()
    committed = group_offsets(settings, CLICKS)
    assert committed == log_ends(settings, CLICKS)


@pytest.mark.kafka
def test_decisions_come_with_forecasts(settings: Settings, tmp_path: Path) -> None:
    """The whole of it: forecasts, decisions, and the load summed up for the autoscaler."""
    everything = settings.model_copy(
        update={"forecasting": True, "deciding": True, "clock": "event"}
    )
    asyncio.run(publish_sale(everything, seed=18, count=10_000, span_ms=600_000))
    with WorkerProcess(everything, tmp_path / "log") as worker:
        until(lambda: worker.probe("/v1/capacity/shop") == 200, 90, "a capacity forecast")
        report = reconciled(everything)
        assert worker.metric("flashcast_forecasts_total") > 0
        assert worker.metric("flashcast_restocks_total") > 0
        code, seconds = worker.terminate()
    assert report.exact, report
    assert (code, seconds < 10) == (0, True)


@pytest.mark.embedded
def test_the_embedded_broker_serves_a_single_worker(
    embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    settings = fresh_settings(
        embedded.bootstrap_servers,
        tmp_path / "data",
        forecasting=False,
        deciding=False,
        idle_timeout_ms=1_000,
        processing_guarantee="at_least_once",
        group_instance_id="only",
    )
    create_topics(settings)
    asyncio.run(publish_sale(settings, seed=19, count=20_000))
    for name in ("log1", "log2"):
        with WorkerProcess(settings, tmp_path / name, FLASHCAST_GROUP_INSTANCE_ID="only") as worker:
            worker.wait_until_ready()
            report = reconciled(settings)
            code, seconds = worker.terminate()
        assert report.exact, report
        assert (code, seconds < 10) == (0, True)
