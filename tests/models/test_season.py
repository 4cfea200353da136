"""The week as the shop lives it, and how far all loads err together."""

import numpy as np
import pytest

from models.common_error import CommonError
from models.season import HOUR_MS, HOURS_KNOWN_MIN, Season

MONDAY = 1_699_833_600_000 // HOUR_MS  # 2023-11-13 00:00 UTC, a multiple of 24 hours


def _lived(weeks: float) -> Season:
    """Open from 8 to 18, four hours a bucket's worth each, closed on the seventh day."""
    season = Season()
    for hour in range(int(weeks * 168)):
        day, of_day = divmod(hour, 24)
        if 8 <= of_day < 18 and day % 7 != 6:
            season.observe((MONDAY + hour) * HOUR_MS, 100.0)
    return season


def test_a_sale_of_two_hours_knows_no_week() -> None:
    short = Season()
    for minute in range(120):
        short.observe(MONDAY * HOUR_MS + minute * 60_000, 50.0)
    assert not short.known
    assert (short.curve() == 0).all()


def test_opening_hours_and_the_closed_day_are_learned() -> None:
    season = _lived(3)
    curve = season.curve()
    at = [(MONDAY + day * 24 + hour) % 168 for day, hour in ((1, 12), (1, 3), (6, 12))]
    noon, night, closed = curve[at]
    assert noon > 0.5 and night < -2 and closed < noon - 0.7


def test_the_factor_is_fresh_after_every_hour_and_survives_a_snapshot() -> None:
    season = _lived(2)
    before = season.curve().copy()
    season.observe((MONDAY + 400) * HOUR_MS, 5_000.0)
    season.observe((MONDAY + 401) * HOUR_MS, 1.0)
    assert np.abs(season.curve() - before).max() > 0
    other = Season()
    other.restore(season.meta())
    np.testing.assert_array_equal(other.curve(), season.curve())
    assert season.hours_seen >= HOURS_KNOWN_MIN


def _errors(relative: float, rounds: int = 400) -> CommonError:
    random = np.random.default_rng(1)
    error = CommonError()
    mean, variance = np.full(3, 1_000.0), np.full(3, 1_000.0)
    for turn in range(rounds):
        begin = turn * 60_000
        error.await_truth(0, begin, begin + 60_000, mean, variance)
        shock = np.exp(relative * random.normal())
        error.observe(begin + 10_000, random.poisson(mean * shock / 2))
        error.observe(begin + 50_000, random.poisson(mean * shock / 2))
    error.judge(rounds * 60_000)
    return error


def test_a_shock_to_all_is_found_and_independent_errors_are_not() -> None:
    shocked, calm = _errors(0.3).squared[0], _errors(0.0).squared[0]
    assert shocked == pytest.approx(np.full(3, 0.09), abs=0.05)
    assert (calm < 0.002).all()


def test_open_totals_are_bounded_and_survive_a_snapshot() -> None:
    error = CommonError()
    for turn in range(200):
        error.await_truth(1, turn, turn + 10**9, np.ones(3), np.ones(3))
    assert len(error.open) == 64
    other = CommonError()
    other.restore(error.meta())
    assert other.open == error.open
