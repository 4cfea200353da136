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

from streams.custody import Custody
from streams.emit import emitter_for
from streams.errors import BrokerError
from streams.faults import chance
from streams.faults.client import (
    Placed,
    SimulatedOutside,
    SimulatedProducer,
    SimulatedReader,
)
from streams.faults.run import Run
from streams.owned import Owned
from streams.state import recovery
from streams.state.partition_reader import Bounds
from tests.streams.faults.catching import Break, caught

SEEDS = range(1, 121)
SEEDS_TO_CATCH = 60
NAMED = (
    # the broker forgot a transaction, and the worker died, or was cut off, while it ended it
    *(200767, 300501, 301124, 302266),
    # a row of a checkpoint that was never finished took the row before it with it
    *(300535, 300788, 301039),
)
SEEN = (
    *("crash", "freeze", "outage", "lost_answer", "refused_batch", "compaction"),
    *("skipped_markers", "taken_from_standby"),
)


@pytest.fixture(autouse=True)
def quiet() -> Iterable[None]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    yield
    structlog.reset_defaults()


def test_everything_counts_exactly_once_whatever_happens() -> None:
    faults: Counter[str] = Counter()
    decided: Counter[str] = Counter()
    for seed in SEEDS:
        outcome = Run(seed).result()
        assert not outcome.violations, f"simulate-faults --first {seed} --seeds 1 --trace"
        faults += outcome.faults
        decided += Counter(forecasts=outcome.forecasts, decisions=outcome.decisions)
    for kind in SEEN:
        assert faults[kind], f"no {kind} in any of the seeds"
    assert faults["fenced"], "no former owner was ever shut out"
    assert min(decided["forecasts"], decided["decisions"]) > 100, f"hardly any: {decided}"


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


class HastyOutside(SimulatedOutside):
    """Of emitters that commit without awaiting."""

    def producer(self, transactional_id: str | None, transaction_timeout_ms: int) -> Any:
        return HastyProducer(self.broker, transactional_id, transaction_timeout_ms)


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


def leave_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """State is read beside an open transaction."""

    async def nothing(*_: Any) -> None:
        pass

    monkeypatch.setattr(recovery, "settle", nothing)


def trust_the_coordinator(monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction is taken for over when its coordinator says so, whatever happened to that."""
    last_is_over = SimulatedProducer.last_is_over

    async def always(self: SimulatedProducer) -> bool:
        await last_is_over(self)
        return True

    monkeypatch.setattr(SimulatedProducer, "last_is_over", always)


@pytest.mark.parametrize(
    ("seed", "broken"),
    [(8, leave_open), (30, trust_the_coordinator)],
)
def test_what_a_broker_forgot_and_nobody_ended_is_caught(
    seed: int, broken: Break, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(chance.MOMENTS, "outage", 12)
    monkeypatch.setitem(chance.RATES, "skipped_markers", 1.0)
    monkeypatch.setitem(chance.RATES, "slow_marker", 0.3)
    caught(seed, broken, monkeypatch)


@pytest.mark.parametrize("seed", NAMED)
def test_what_once_was_not_exact_is(seed: int) -> None:
    assert not Run(seed).result().violations


def test_a_worker_that_keeps_its_memory_after_a_failed_commit_is_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    discard = Custody.replace

    async def keep(self: Custody, owned: Owned, error: Exception) -> None:
        old = owned.emitter
        owned.emitter = emitter_for(old._settings, old._outside, old.partition)
        owned.emitter.attach(None, old._identity)
        try:
            await owned.emitter.start()
        except BrokerError as failed:
            await discard(self, owned, failed)
        else:
            owned.checkpoint = owned.commit = None

    monkeypatch.setattr(Custody, "replace", keep)
    caught = [seed for seed in range(1, 21) if Run(seed).result().violations]
    print(f"caught by seeds {caught}")
    assert caught
