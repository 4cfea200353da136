"""Workers that join, leave, die, stand still and come back: what is counted stays exact."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from brokers import Kafka, create_topics, fresh_settings
from sales import publish_sale
from worker_process import WorkerProcess, reconciled, until

from streams.settings import Settings

pytestmark = pytest.mark.kafka

EVENTS = 60_000
REBALANCES = "flashcast_rebalances_total"
READY = "flashcast_partitions_ready"


@pytest.fixture
def settings(kafka: Kafka, tmp_path: Path) -> Settings:
    made = fresh_settings(
        kafka.bootstrap_servers,
        tmp_path / "data",
        forecasting=False,
        deciding=False,
        idle_timeout_ms=1_000,
        session_timeout_ms=6_000,
        checkpoint_interval_ms=100,
    )
    create_topics(made)
    return made


class Crew:
    """Workers by name, each with a disk of its own."""

    def __init__(self, settings: Settings, tmp_path: Path) -> None:
        self._settings = settings
        self._tmp_path = tmp_path

    def worker(self, name: str, **variables: str) -> WorkerProcess:
        own = self._settings.model_copy(update={"data_dir": self._tmp_path / f"data-{name}"})
        return WorkerProcess(own, self._tmp_path / f"log-{name}", **variables)


@pytest.fixture
def crew(settings: Settings, tmp_path: Path) -> Crew:
    return Crew(settings, tmp_path)


def publish(settings: Settings, seed: int, begin: int, end: int) -> None:
    """A stretch of one sale."""
    asyncio.run(publish_sale(settings, seed, EVENTS, begin=begin, end=end))


def has_ready(worker: WorkerProcess, count: int) -> Callable[[], bool]:
    return lambda: worker.metric(READY) == count


@pytest.mark.parametrize("guarantee", ["exactly_once", "at_least_once"])
def test_a_worker_that_stood_still_while_its_partitions_moved_counts_nothing_twice(
    settings: Settings, tmp_path: Path, guarantee: str
) -> None:
    settings = settings.model_copy(update={"processing_guarantee": guarantee})
    crew = Crew(settings, tmp_path)
    with crew.worker("a") as zombie, crew.worker("b") as other:
        until(has_ready(zombie, 2), 120, "two and two")
        until(has_ready(other, 2), 60, "two and two")
        publish(settings, 31, 0, 20_000)
        zombie.freeze()
        publish(settings, 31, 20_000, 40_000)
        until(has_ready(other, 4), 60, "the other has them all")
        publish(settings, 31, 40_000, 50_000)
        zombie.thaw()
        publish(settings, 31, 50_000, EVENTS)
        until(has_ready(zombie, 2), 60, "it is back")
        until(has_ready(other, 2), 60, "two and two again")
        report = reconciled(settings)
        assert zombie.process.poll() is None
    assert report.exact, report
    assert guarantee == "at_least_once" or report.repeats == 0


STANDBY = 'flashcast_takeovers_total{source="standby"}'
COLD = 'flashcast_takeovers_total{source="changelog"}'
FROM_DISK = 'flashcast_takeovers_total{source="copy"}'
LOOKS = "flashcast_standby_catch_ups_total"


def total(workers: Sequence[WorkerProcess], metric: str) -> float:
    return sum(worker.metric(metric) for worker in workers)


@pytest.mark.parametrize("names", ["ab", "abc"])
def test_whoever_kept_the_partitions_of_the_dead_warm_goes_on_exactly(
    settings: Settings, tmp_path: Path, names: str
) -> None:
    settings = settings.model_copy(update={"standby_replicas": 1})
    crew = Crew(settings, tmp_path)
    with contextlib.ExitStack() as running:
        workers = [running.enter_context(crew.worker(name)) for name in names]
        until(lambda: {worker.metric(READY) for worker in workers} <= {1, 2}, 120, "shared")
        until(lambda: total(workers, READY) == 4, 60, "all of them")
        publish(settings, 35, 0, 30_000)
        until(lambda: total(workers, "flashcast_partitions_standby") == 4, 60, "kept warm")
        until(
            lambda: all(one.metric("flashcast_checkpoints_total") for one in workers), 60, "saved"
        )
        dying = max(workers, key=lambda worker: worker.metric(READY))
        others = [worker for worker in workers if worker is not dying]
        looks = [other.metric(LOOKS) for other in others]
        until(
            lambda: all(
                other.metric(LOOKS) > at + 3 for other, at in zip(others, looks, strict=True)
            ),
            60,
            "followed",
        )
        publish(settings, 35, 30_000, 40_000)
        dying.kill()
        publish(settings, 35, 40_000, EVENTS)
        until(lambda: total(others, READY) == 4, 60, "the others have them all")
        assert total(others, COLD) == total(others, FROM_DISK) == 0
        assert total(others, STANDBY) >= 1
        assert total(others, "flashcast_partitions_standby") == (4 if len(others) > 1 else 0)
        report = reconciled(settings)
    assert report.exact, report
    assert report.repeats == 0


def test_a_static_member_restarts_without_a_rebalance_at_the_others(
    settings: Settings, tmp_path: Path
) -> None:
    settings = settings.model_copy(update={"session_timeout_ms": 60_000})
    crew = Crew(settings, tmp_path)
    with crew.worker("b", FLASHCAST_GROUP_INSTANCE_ID="b") as other:
        with crew.worker("a", FLASHCAST_GROUP_INSTANCE_ID="a") as first:
            until(has_ready(first, 2), 120, "two and two")
            until(has_ready(other, 2), 60, "two and two")
            publish(settings, 32, 0, 20_000)
            rebalances = other.metric(REBALANCES)
            code, seconds = first.terminate()
            assert (code, seconds < 10) == (0, True)
        publish(settings, 32, 20_000, 40_000)
        # on another host, as a pod that was scheduled anew
        with crew.worker("a2", FLASHCAST_GROUP_INSTANCE_ID="a", NODE_HOSTNAME="other") as again:
            until(has_ready(again, 2), 60, "its two partitions")
            publish(settings, 32, 40_000, EVENTS)
            report = reconciled(settings)
            assert again.metric(REBALANCES) == 1
            assert other.metric(REBALANCES) == rebalances
    assert report.exact, report
    assert report.repeats == 0


def test_workers_that_die_join_and_leave_while_others_take_over_are_followed_exactly(
    settings: Settings, crew: Crew
) -> None:
    publish(settings, 33, 0, 20_000)
    with crew.worker("a") as first, crew.worker("b") as second, crew.worker("c") as third:
        three = (first, second, third)
        until(lambda: all(worker.metric(READY) >= 1 for worker in three), 120, "shared")
        publish(settings, 33, 20_000, 40_000)
        rebalances = second.metric(REBALANCES)
        first.kill()
        until(lambda: second.metric(REBALANCES) > rebalances, 60, "the second takes over")
        second.kill()
        with crew.worker("a") as fourth:
            until(lambda: fourth.metric(REBALANCES) > 0, 60, "a fourth joins")
            publish(settings, 33, 40_000, 50_000)
            assert third.terminate()[0] == 0
            publish(settings, 33, 50_000, EVENTS)
            until(has_ready(fourth, 4), 60, "the fourth has them all")
            report = reconciled(settings)
    assert report.exact, report
    assert report.repeats == 0
