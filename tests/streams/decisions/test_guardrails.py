"""Guardrails: the last word on every price."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from streams.decisions.guardrails import Guardrail, Guardrails, apply, clamp_names
from streams.settings import Settings

SEED = 5


@dataclass(frozen=True)
class Case:
    """One price and its surroundings."""

    wanted: int = 10_500
    old: int = 10_000
    floor: int = 6_000
    ceiling: int = 14_000
    changes_last_hour: int = 0
    since_change_ms: int = -1
    opening: bool = False


def ran(case: Case, limits: Guardrails | None = None) -> tuple[int, list[str]]:
    values = (
        np.array([case.wanted]), np.array([case.old]), np.array([case.floor]),
        np.array([case.ceiling]), np.array([case.changes_last_hour]),
        np.array([case.since_change_ms]), np.array([case.opening]),
    )  # fmt: skip
    price, clamps = apply(*values, limits or Guardrails())
    return int(price[0]), clamp_names(int(clamps[0]))


def test_a_price_within_all_limits_passes_untouched() -> None:
    assert ran(Case()) == (10_500, [])


@pytest.mark.parametrize(
    "case, price, names",
    [
        (Case(wanted=5_000, old=6_500), 6_000, ["floor"]),
        (Case(wanted=20_000, old=13_500), 14_000, ["ceiling"]),
        (Case(wanted=13_000), 11_500, ["step"]),
        (Case(wanted=20_000), 11_500, ["ceiling", "step"]),
        (Case(wanted=5_000), 8_500, ["floor", "step"]),
        (Case(changes_last_hour=4), 10_000, ["changes_per_hour"]),
        (Case(since_change_ms=299_999), 10_000, ["cooldown"]),
        (Case(wanted=13_000, changes_last_hour=9, since_change_ms=0), 10_000,
         ["step", "changes_per_hour", "cooldown"]),
    ],
)  # fmt: skip
def test_every_clamp_is_recorded_in_order(case: Case, price: int, names: list[str]) -> None:
    assert ran(case) == (price, names)


def test_a_bound_wins_over_a_step_that_would_not_reach_it() -> None:
    assert ran(Case(wanted=9_000, old=4_000)) == (6_000, ["step"])
    assert ran(Case(wanted=9_000, old=20_000)) == (14_000, ["step"])


def test_the_cooldown_ends_on_time() -> None:
    assert ran(Case(since_change_ms=300_000)) == (10_500, [])


def test_the_kill_switch_withholds_every_change_and_only_changes() -> None:
    stopped = Guardrails(kill_switch=True)
    assert ran(Case(), stopped) == (10_000, ["kill_switch"])
    assert ran(Case(opening=True, wanted=12_000), stopped) == (10_000, ["kill_switch"])
    assert ran(Case(wanted=10_000), stopped) == (10_000, [])


def test_the_opening_price_is_held_by_its_bounds_but_by_no_step() -> None:
    assert ran(Case(wanted=13_000, opening=True)) == (13_000, [])
    assert ran(Case(wanted=15_000, opening=True)) == (14_000, ["ceiling"])


def test_no_change_an_hour_means_no_change_at_all() -> None:
    assert ran(Case(), Guardrails(changes_per_hour_max=0)) == (10_000, ["changes_per_hour"])


def test_random_prices_never_leave_their_limits() -> None:
    random = np.random.default_rng(SEED)
    n = 5_000
    old = random.integers(1, 20_000, n)
    floor = random.integers(0, 10_000, n)
    ceiling = floor + random.integers(0, 10_000, n)
    wanted = random.integers(0, 30_000, n)
    opening = random.random(n) < 0.2
    changes, since = random.integers(0, 6, n), random.integers(-1, 600_000, n)
    limits = Guardrails()
    price, clamps = apply(wanted, old, floor, ceiling, changes, since, opening, limits)
    moved = price != old
    where = f"seed {SEED}"
    assert ((floor <= price) & (price <= ceiling))[moved].all(), where
    inside = (floor <= old) & (old <= ceiling) & ~opening
    assert (np.abs(price - old) <= limits.step_max * old)[inside].all(), where
    assert not moved[(changes >= 4) | ((since >= 0) & (since < 300_000) & ~opening)].any(), where
    unclamped = clamps == 0
    assert (price == wanted)[unclamped].all(), where


def test_names_of_a_mask_are_those_of_the_wire() -> None:
    assert clamp_names(0) == []
    assert clamp_names(Guardrail.KILL_SWITCH | Guardrail.FLOOR) == ["floor", "kill_switch"]


def test_settings_become_limits() -> None:
    settings = Settings(price_changes_per_hour_max=8, price_step_max=0.1, price_kill_switch=True)
    assert Guardrails.from_settings(settings) == Guardrails(0.1, 8, 300_000, True)


def test_limits_out_of_bounds_are_refused() -> None:
    with pytest.raises(ValueError, match="step_max"):
        replace(Guardrails(), step_max=0.0)
    with pytest.raises(ValueError, match="changes_per_hour_max 9"):
        replace(Guardrails(), changes_per_hour_max=9)
