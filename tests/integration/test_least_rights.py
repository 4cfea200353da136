"""A worker's rights are the least: each is used, and without any one it ends and says which."""

import asyncio
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest
from sales import publish_sale
from secured import SecuredKafka, SecuredWorker, until_may
from worker_process import reconciled, until

from streams import topics
from streams.acls import Grant, grants
from streams.cluster import Cluster
from streams.denied import denied
from streams.errors import ConfigurationError
from streams.log_reader import LogReader
from streams.permissions import require
from streams.records import CapacityForecast, CapacityShare
from streams.settings import Settings, load
from streams.topic_admin import create

pytestmark = pytest.mark.kafka

PREFIX = "least."
WHO = "User:restricted"
GRANTS = grants("worker", load(topic_prefix=PREFIX))
RIGHTS = [
    Grant(one.kind, one.name, (operation,), one.prefixed)
    for one in GRANTS
    for operation in one.operations
]
TOLD = [one for one in RIGHTS if one.kind != "transactional-id"]  # brokers tell nothing of those
TRANSACTIONS = [one for one in RIGHTS if one.kind == "transactional-id"]
SEED, EVENTS = 8, 3_000
WORKED, SUMMED = "flashcast_checkpoints_total", "flashcast_capacity_forecasts_total"
Shape = TypeVar("Shape")


@pytest.fixture(scope="module")
def least(secured: SecuredKafka) -> SecuredKafka:
    """`restricted` may do what a worker must, on topics of its own."""
    root = secured.settings("admin", sasl_password="admin-secret", topic_prefix=PREFIX)
    create(root)
    secured.allow(WHO, GRANTS)
    until_may(secured.settings("restricted", topic_prefix=PREFIX), GRANTS)
    return secured


@pytest.fixture
def without(least: SecuredKafka, request: pytest.FixtureRequest) -> Iterator[Grant]:
    """One right less, until the test is over."""
    one: Grant = request.param
    least.withdraw(WHO, [one])
    yield one
    least.allow(WHO, [one])
    if one.kind != "transactional-id":
        until_may(least.settings("restricted", topic_prefix=PREFIX), [one])


def shown(one: Grant) -> str:
    return f"{one.operations[0]} on {one.kind} {one.name}"


@pytest.mark.parametrize("without", TOLD, ids=shown, indirect=True)
def test_the_one_right_that_is_missing_is_named(least: SecuredKafka, without: Grant) -> None:
    settings = least.settings("restricted", topic_prefix=PREFIX)

    def said() -> str:
        try:
            require(settings, GRANTS)
        except ConfigurationError as error:
            return str(error)
        return ""

    told = until(said, 20.0, "the right is gone")
    assert told.startswith(f"KAFKA_SASL_USERNAME restricted lacks {shown(without)}; ")


@pytest.mark.parametrize("without", TRANSACTIONS, ids=shown, indirect=True)
async def test_a_transactional_id_that_is_not_granted_is_named(
    least: SecuredKafka, without: Grant
) -> None:
    settings = least.settings("restricted", topic_prefix=PREFIX)
    name = settings.transactional_id("p0")
    producer = Cluster(settings).producer(name, 10_000)
    with pytest.raises(Exception) as caught:
        await producer.start()
    await producer.discard()
    assert f"may not Write transactional id {name}" in str(denied(settings, caught.value, "Write"))


@pytest.mark.parametrize(
    "without",
    [
        Grant("topic", f"{PREFIX}{topics.CLICKS}", ("Read",)),
        Grant("group", f"{PREFIX}flashcast", ("Read",)),
        *TRANSACTIONS,
    ],
    ids=shown,
    indirect=True,
)
def test_a_worker_that_lacks_a_right_ends_and_says_which(
    least: SecuredKafka, without: Grant, tmp_path: Path
) -> None:
    settings = least.settings("restricted", topic_prefix=PREFIX, data_dir=tmp_path / "data")
    with SecuredWorker(settings, tmp_path / "log") as worker:
        assert worker.exit_code() == 2, worker.said()
    said = worker.said()
    operation = without.operations[0]
    assert shown(without) in said or (
        f"may not {operation} {without.kind.replace('-', ' ')} {without.name}" in said
    )
    assert "flashcast topics acls" in said and "Traceback" not in said


def test_a_right_that_is_withdrawn_ends_a_worker_and_loses_nothing_and_every_one_is_used(
    least: SecuredKafka, tmp_path: Path
) -> None:
    root = least.settings("admin", sasl_password="admin-secret", topic_prefix=PREFIX)
    settings = least.settings("restricted", topic_prefix=PREFIX, data_dir=tmp_path / "data")
    rights = [
        Grant("topic", settings.topic(name), (operation,))
        for name, operation in (
            (topics.DEMAND_WINDOWS, "Write"),
            (topics.ORDERS, "Read"),
            (topics.CAPACITY_SHARES, "Read"),  # by the sum over partitions
            (topics.CAPACITY_FORECASTS, "Write"),
            (topics.CAPACITY_FORECASTS, "Read"),  # by the web, too
        )
    ]
    stretch = EVENTS // (len(rights) + 1)
    asyncio.run(publish_sale(root, SEED, EVENTS, end=stretch))
    for number, right in enumerate(rights, 1):
        with SecuredWorker(settings, tmp_path / f"log-{number}") as worker:
            worker.wait_until_ready()
            until(lambda one=worker: one.metric(WORKED) or one.metric(SUMMED), 60.0, "at work")
            least.withdraw(WHO, [right])
            try:
                begin, end = stretch * number, stretch * (number + 1)
                asyncio.run(publish_sale(root, SEED, EVENTS, begin=begin, end=end))
                assert worker.exit_code(90.0) == 2, worker.said()
            finally:
                least.allow(WHO, [right])
        assert f"may not {right.operations[0]} topic {right.name}" in worker.said()
        until_may(settings, [right])
    with SecuredWorker(settings, tmp_path / "log") as worker:
        worker.wait_until_ready()
        report = reconciled(root)
        assert report.exact and report.repeats == 0, report
        until(lambda: summed_through(root) == shared_through(root), 60.0, "every share summed")
        assert worker.terminate()[0] == 0
    assert_every_right_is_used(least)


def shared_through(root: Settings) -> int:
    """Where the newest bucket of any share ends, event time."""
    shares = committed(root, topics.CAPACITY_SHARES, CapacityShare)
    return max(one.bucket_start_ms + one.bucket_ms for one in shares)


def summed_through(root: Settings) -> int:
    """When the last capacity forecast is of, event time; each is of a later time than the one
    before.
    """
    times = [one.as_of_ms for one in committed(root, topics.CAPACITY_FORECASTS, CapacityForecast)]
    assert all(before < after for before, after in pairwise(times)), times
    return times[-1]


def committed(root: Settings, topic: str, shape: type[Shape]) -> list[Shape]:
    """All that a topic holds for its readers."""

    async def read() -> list[Shape]:
        found = []
        async with LogReader(root) as reader:
            for number in range(await reader.partitions(topic)):
                bounds = await reader.bounds(topic, number)
                async for records in reader.read(topic, number, *bounds):
                    found += [msgspec.json.decode(one.value or b"", type=shape) for one in records]
        return found

    return asyncio.run(read())


def assert_every_right_is_used(least: SecuredKafka) -> None:
    """By the broker's own word, of all that the workers of this module have done. Windows are read
    back after a restore only where there is history to fill with them, which not every run has.
    """
    read_back = ("topic", f"{PREFIX}{topics.DEMAND_WINDOWS}", "Read")
    used = least.used_by(WHO) | {read_back}
    assert used == {(one.kind, one.name, one.operations[0]) for one in TOLD} | {
        ("transactional-id", f"{PREFIX}flashcast-{owner}", "Write")
        for owner in ("p0", "p1", "capacity")
    }
