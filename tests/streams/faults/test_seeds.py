"""Workers under simulated faults: all counts once, the same seed does the same, and faults of ours
would be seen.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog
from aiokafka.errors import KafkaError

from streams.faults.client import (
    Placed,
    SimulatedOutside,
    SimulatedProducer,
    SimulatedReader,
)
from streams.faults.run import Run
from streams.state.partition_reader import Bounds

SEEDS = range(1, 121)
SEEDS_TO_CATCH = 60


@pytest.fixture(autouse=True)
def quiet() -> Iterable[None]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    yield
    structlog.reset_defaults()


def test_everything_counts_exactly_once_whatever_happens() -> None:
    faults: Counter[str] = Counter()
    for seed in SEEDS:
        outcome = Run(seed).result()
        assert not outcome.violations, f"simulate-faults --first {seed} --seeds 1 --trace"
        faults += outcome.faults
    for kind in ("crash", "freeze", "outage", "lost_answer", "refused_batch", "compaction"):
        assert faults[kind], f"no {kind} in any of the seeds"
    assert faults["fenced"], "no former owner was ever shut out"


@pytest.mark.parametrize("seed", [28, 102, 108])
def test_a_transaction_without_markers_is_ended_before_state_is_read(seed: int) -> None:
    """Without `settle` outputs of a checkpoint whose markers the broker skipped come twice, or get
    lost, in each of these seeds.
    """
    outcome = Run(seed, skipped_markers=True).result()
    assert outcome.faults["skipped_markers"]
    assert not outcome.violations


def test_the_same_seed_does_the_same() -> None:
    first, second = (Run(7, traced=True).result() for _ in range(2))
    assert first.trace == second.trace
    assert first.trace


class HastyProducer(SimulatedProducer):
    """Says that every batch is there before the broker has."""

    async def send_batch(self, batch: Any, topic: str, *, partition: int) -> "asyncio.Future[Any]":
        sent = await super().send_batch(batch, topic, partition=partition)
        sent.add_done_callback(lambda one: one.cancelled() or one.exception())
        said: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        said.set_result(Placed(self._broker.logs[topic, partition].end))
        return said


class ForgivingProducer(SimulatedProducer):
    """Takes a failed commit for a good one, so that memory is kept."""

    async def commit_transaction(self) -> None:
        try:
            await super().commit_transaction()
        except KafkaError:
            self.fatal = None


class HastyOutside(SimulatedOutside):
    """Of emitters that commit without awaiting."""

    def producer(self, transactional_id: str | None, transaction_timeout_ms: int) -> Any:
        return HastyProducer(self.broker, transactional_id, transaction_timeout_ms)


class ForgivingOutside(SimulatedOutside):
    """Of partitions that keep their state after a failed commit."""

    def producer(self, transactional_id: str | None, transaction_timeout_ms: int) -> Any:
        return ForgivingProducer(self.broker, transactional_id, transaction_timeout_ms)


class UnfencedOutside(SimulatedOutside):
    """Of workers that shut nobody out: each life has a transactional id of its own."""

    def producer(self, transactional_id: str | None, transaction_timeout_ms: int) -> Any:
        own = None if transactional_id is None else f"{transactional_id}-{self.new_identity()!r}"
        return SimulatedProducer(self.broker, own, transaction_timeout_ms)


class ShortReader(SimulatedReader):
    """Takes what came before the last records for all there is."""

    async def bounds(self, names: Iterable[str]) -> dict[str, Bounds]:
        found = await super().bounds(names)
        return {
            name: Bounds(start, max(start, end - 2)) if name == "changelog" else Bounds(start, end)
            for name, (start, end) in found.items()
        }


class DirtyReader(SimulatedReader):
    """Reads what is not committed, and beyond the last stable offset."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.committed = False


class ShortOutside(SimulatedOutside):
    """Of restores that do not read to the end."""

    @asynccontextmanager
    async def reader(self, partition: int, *, uncommitted: bool = False) -> Any:
        yield ShortReader(self._settings, self.broker, partition, uncommitted)


class DirtyOutside(SimulatedOutside):
    """Of restores that ignore the last stable offset."""

    @asynccontextmanager
    async def reader(self, partition: int, *, uncommitted: bool = False) -> Any:
        yield DirtyReader(self._settings, self.broker, partition, uncommitted)


@pytest.mark.parametrize("broken", [HastyOutside, UnfencedOutside, ShortOutside, DirtyOutside])
def test_a_worker_that_is_broken_is_caught(broken: type[SimulatedOutside]) -> None:
    caught = (
        seed
        for seed in range(1, 1 + SEEDS_TO_CATCH)
        if Run(seed, outside=broken).result().violations
    )
    seed = next(caught, None)
    assert seed is not None, f"{broken.__name__} went unseen in {SEEDS_TO_CATCH} seeds"
    print(f"{broken.__name__} was caught by seed {seed}")


def test_a_worker_that_keeps_its_state_after_a_failed_commit_is_caught() -> None:
    """By few seeds: the commit must fail for good, and its owner must go on."""
    assert Run(248, outside=ForgivingOutside).result().violations
    assert not Run(248).result().violations
