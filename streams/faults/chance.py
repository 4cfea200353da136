"""The dice: which faults a seed has, how often each comes, and how often it did."""

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, TypeVar

T = TypeVar("T")

# How often, out of as many occasions as each has; a seed has about half of the faults.
RATES: Final = {
    # the network and the broker
    "slow_answer": 0.03,
    "lost_request": 0.015,
    "lost_answer": 0.015,
    "refused_batch": 0.03,
    "slow_marker": 0.1,
    "skipped_markers": 0.8,
    "short_fetch": 0.2,
    "stale_fetch": 0.5,
    "repeated_fetch": 0.03,
    "compaction": 0.5,
    "input_aborted": 0.1,
    "input_left_open": 0.03,
    # the disk
    "disk_write_failed": 0.05,
    "disk_open_failed": 0.1,
    "copy_corrupted": 0.3,
    "copy_lost": 0.2,
    "copy_swapped": 0.3,
    "power_loss": 0.3,
    # the input
    "duplicate": 0.1,
    "reordered": 0.3,
    "late": 0.08,
    "future": 0.04,
    "poison": 0.06,
    "idle_topic": 0.3,
}
MOMENTS: Final = {  # faults that come at some moment, and how many times at most in a run
    "crash": 4,
    "leave": 2,
    "freeze": 2,
    "silence": 2,
    "outage": 3,
    "clock_step": 2,
    "transaction_killed": 2,
}
FOLLOW: Final = (  # from others
    "disk_write_torn",
    "evicted",
    "fenced",
    "transaction_timed_out",
    "taken_from_standby",
)
KINDS: Final = (*RATES, *MOMENTS, *FOLLOW)


class Chance:
    """Of one run. `quiet` ends all faults."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.quiet = False
        self._scale = {
            kind: self.rng.choice((0.0, 0.0, 0.3, 1.0, 1.0, 3.0)) for kind in (*RATES, *MOMENTS)
        }

    def forbid(self, *kinds: str) -> None:
        """These are not in this run."""
        for kind in kinds:
            self._scale[kind] = 0.0

    def happens(self, kind: str) -> bool:
        """Whether this fault comes now; counted if so."""
        rate = RATES[kind] * self._scale[kind]
        if self.quiet or not rate or self.rng.random() >= rate:
            return False
        self.note(kind)
        return True

    def times(self, kind: str) -> int:
        """How often a fault of some moment is to come in this run."""
        most = round(MOMENTS[kind] * self._scale[kind])
        return self.rng.randint(0, most) if most else 0

    def note(self, kind: str) -> None:
        """It came."""
        self.counts[kind] += 1

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self.rng.random()

    def one_of(self, options: Sequence[T]) -> T:
        return self.rng.choice(options)

    def some(self, most: int) -> int:
        """1 to `most`."""
        return self.rng.randint(1, most)

    def pick(self, low: int, high: int) -> int:
        return self.rng.randint(low, high)

    def shuffled(self, things: Sequence[T]) -> list[T]:
        mixed = list(things)
        self.rng.shuffle(mixed)
        return mixed

    def bytes(self, count: int) -> bytes:
        drawn: Any = self.rng.randbytes(count)
        return bytes(drawn)
