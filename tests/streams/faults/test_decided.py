"""Forecasts, decisions and standbys under simulated faults: what only they can catch is caught."""

from collections.abc import Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog

from models.memory import ForecastMemory
from streams import announcing
from streams.decisions.price_memory import PriceMemory
from streams.decisions.restock_memory import RestockMemory
from streams.faults.client import SimulatedOutside, SimulatedReader
from streams.standby import Standbys
from streams.state import following
from streams.state.following import Follower
from streams.stock_ledger import StockLedger
from tests.streams.faults.catching import Break, caught


@pytest.fixture(autouse=True)
def quiet() -> Iterable[None]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    yield
    structlog.reset_defaults()


def forget_hidden_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows come back without what the network carried."""
    scatter = ForecastMemory.scatter

    def zeroed(self: ForecastMemory, rows: Any, state: Mapping[str, Any]) -> None:
        scatter(self, rows, {**state, "hidden": 0 * state["hidden"]})

    monkeypatch.setattr(ForecastMemory, "scatter", zeroed)


def forget_levels_of_the_sale(monkeypatch: pytest.MonkeyPatch) -> None:
    """What belongs to the partition as a whole begins anew."""
    monkeypatch.setattr(ForecastMemory, "restore_meta", lambda self, meta: None)


def forget_restocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is under way is ordered again."""
    monkeypatch.setattr(RestockMemory, "scatter", lambda self, rows, state: None)


def forget_prices(monkeypatch: pytest.MonkeyPatch) -> None:
    """When a price was set, and what that taught."""
    monkeypatch.setattr(PriceMemory, "scatter", lambda self, rows, state: None)


def forget_what_was_sold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Since a count that lies behind what windows remember."""
    monkeypatch.setattr(StockLedger, "scatter", lambda self, rows, state: None)


def name_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """An id depends on when it was given."""
    ids, calls = announcing.decision_ids, iter(range(10**9))

    def anew(kind: str, keys: Any, origin_ms: int) -> Any:
        return ids(kind, keys, origin_ms + next(calls))

    monkeypatch.setattr(announcing, "decision_ids", anew)


@pytest.mark.parametrize(
    ("seed", "broken"),
    [
        (14, forget_hidden_state),
        (14, forget_levels_of_the_sale),
        (14, forget_restocks),
        (14, forget_prices),
        (14, forget_what_was_sold),
        (5, name_by_the_clock),
    ],
)
def test_state_of_forecasts_and_decisions_that_is_not_restored_is_caught(
    seed: int, broken: Break, monkeypatch: pytest.MonkeyPatch
) -> None:
    caught(seed, broken, monkeypatch)


class HastyReader(SimulatedReader):
    """Reads what is not committed."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.committed = False


class HastyOutside(SimulatedOutside):
    """Of standbys alone."""

    @asynccontextmanager
    async def reader(self, partition: int, *, uncommitted: bool = False) -> Any:
        yield HastyReader(self._settings, self.broker, partition, uncommitted)


def follow_what_is_not_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    """And do not ask whether it was."""
    begin = Standbys.__init__

    def hastily(self: Standbys, settings: Any, outside: Any, *arguments: Any) -> None:
        hasty = HastyOutside(settings, outside.broker, outside.disk)
        hasty.clock = outside.clock
        begin(self, settings, hasty, *arguments)

    async def trust(*_: Any) -> None:
        pass

    monkeypatch.setattr(Standbys, "__init__", hastily)
    monkeypatch.setattr(following, "check_place", trust)


def follow_no_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """Duplicates are not known after a takeover."""

    async def pass_over(*_: Any) -> None:
        pass

    monkeypatch.setattr(Follower, "_follow_events", pass_over)


def leave_out_the_last_stretch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A takeover goes on with what the standby had when it last looked."""
    hand_over = Follower.hand_over

    async def at_once(self: Follower, reader: Any, bounds: Any) -> Any:
        async def nothing(*_: Any) -> int:
            return 0

        monkeypatch.setattr(self, "catch_up", nothing)
        return await hand_over(self, reader, bounds)

    monkeypatch.setattr(Follower, "hand_over", at_once)


@pytest.mark.parametrize(
    ("seed", "broken"),
    [
        (69, follow_what_is_not_committed),
        (148, follow_no_events),
        (92, leave_out_the_last_stretch),
    ],
)
def test_a_standby_that_is_not_what_its_owner_was_is_caught(
    seed: int, broken: Break, monkeypatch: pytest.MonkeyPatch
) -> None:
    caught(seed, broken, monkeypatch, lambda sound: sound.faults["taken_from_standby"])
