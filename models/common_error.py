"""How far all SKUs' loads err together: the part of the total's variance that does not average out.

Errors of single SKUs cancel in the sum, shocks to the whole shop do not. For each lead and kind of
event the excess of the total's squared error over the summed variances, relative to the squared
total, is tracked, and comes on top of the rows' own.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.read_back import TIME_MS_MAX, bounded, sums_array

Array = NDArray[Any]

LEADS: Final = 2
KINDS: Final = 3
START: Final = 0.02  # squared relative error: 14 %
GAIN: Final = 0.05
SQUARED_MAX: Final = 1.0
OPEN_MAX: Final = 64


@dataclass
class OpenTotal:
    """A forecast total that awaits its truth; lists by kind, counts over [begin, end). Lists are
    replaced, never changed: snapshots share them.
    """

    lead: int
    begin_ms: int
    end_ms: int
    mean: list[float]
    variance: list[float]
    came: list[float]


class CommonError:
    """Of one partition."""

    def __init__(self) -> None:
        self.squared = np.full((LEADS, KINDS), START)
        self.open: list[OpenTotal] = []

    def await_truth(
        self, lead: int, begin_ms: int, end_ms: int, mean: Array, variance: Array
    ) -> None:
        """Opens a total of counts, by kind; the oldest gives way when there are too many."""
        made = OpenTotal(lead, begin_ms, end_ms, mean.tolist(), variance.tolist(), [0.0] * KINDS)
        self.open = [*self.open[-OPEN_MAX + 1 :], made]

    def observe(self, bucket_start_ms: int, counts: Array) -> None:
        """Clicks, carts and orders of a closed bucket over all rows."""
        self.judge(bucket_start_ms)
        for total in self.open:
            if total.begin_ms <= bucket_start_ms < total.end_ms:
                total.came = [a + float(b) for a, b in zip(total.came, counts, strict=True)]

    def judge(self, now_ms: int) -> None:
        """Learns from totals whose time was over by `now_ms`."""
        for total in self.open:
            if total.end_ms > now_ms:
                continue
            mean, variance = np.array(total.mean), np.array(total.variance)
            excess = ((np.array(total.came) - mean) ** 2 - variance) / np.maximum(mean, 1.0) ** 2
            squared = self.squared[total.lead]
            squared += GAIN * (np.clip(excess, -SQUARED_MAX, SQUARED_MAX) - squared)
            self.squared[total.lead] = np.clip(squared, 0, SQUARED_MAX)
        self.open = [total for total in self.open if total.end_ms > now_ms]

    def shared_variance(self, mean: Array) -> Array:
        """Of totals f64[leads, kinds], on top of what the variances of single SKUs add up to."""
        return np.asarray(self.squared * mean**2)

    def meta(self) -> dict[str, Any]:
        """JSON-able."""
        open_totals = [vars(total).copy() for total in self.open]
        return {"squared": self.squared.tolist(), "open": open_totals}

    def restore(self, meta: dict[str, Any]) -> None:
        """The opposite of `meta`. Raises ValueError or TypeError for what it cannot have said."""
        self.squared = sums_array(meta["squared"], (LEADS, KINDS), "squared")
        self.open = [_open_total(total) for total in meta["open"][-OPEN_MAX:]]


def _open_total(told: dict[str, Any]) -> OpenTotal:
    total = OpenTotal(**told)
    bounded(total.lead, 0, LEADS - 1, "lead")
    for time_ms in (total.begin_ms, total.end_ms):
        bounded(time_ms, 0, TIME_MS_MAX, "time of an open total")
    for name in ("mean", "variance", "came"):
        sums_array(getattr(total, name), (KINDS,), name)
    return total
