"""Conditions that are polled, each with a bound."""

import time
from collections.abc import Callable
from typing import TypeVar

from benchmarks.drills.errors import DrillError

POLL_S = 0.05

T = TypeVar("T")


def until(reached: Callable[[], T], timeout_s: float, what: str, poll_s: float = POLL_S) -> T:
    """What `reached` gives once it is true. Raises DrillError after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not (found := reached()):
        if time.monotonic() > deadline:
            raise DrillError(f"not within {timeout_s:g} s: {what}")
        time.sleep(poll_s)
    return found
