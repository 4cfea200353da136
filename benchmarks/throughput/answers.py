"""What a program answered, held against what is right, and how fast the answers came.

The rate is that of answers as a reader sees them, not of anything that a program says of itself:
`begin` is when windows that cover a quarter of the events had been appended to the output topic,
`end` when all had, and the rate is the events covered in between over the time in between.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.throughput.workload import CLOSABLE_BUCKETS, SKUS, Int64s

WARM_UP_SHARE = 0.25


@dataclass(frozen=True)
class Windows:
    """Output records in any order; `window` is a row of `Workload.windows`, -1: of none."""

    window: Int64s  # [n]
    values: Int64s  # [n, 6]
    appended_ms: Int64s  # [n], by the broker


@dataclass(frozen=True)
class Verdict:
    """The last bucket's windows need not be there; those that are must be right, and once."""

    missing: int
    double: int
    wrong: int

    @property
    def right(self) -> bool:
        return not (self.missing or self.double or self.wrong)

    def __str__(self) -> str:
        return f"{self.missing} missing, {self.double} double, {self.wrong} wrong"


@dataclass(frozen=True)
class Stretch:
    """Events between two moments of wall time, warm-up left out."""

    begin_s: float
    end_s: float
    events: int

    @property
    def events_per_s(self) -> float:
        return self.events / max(self.end_s - self.begin_s, 1e-3)


def judged(found: Windows, right: Int64s, buckets: int = CLOSABLE_BUCKETS) -> Verdict:
    """`right` as `Workload.windows` gives it; the first `buckets` must be there."""
    known = (found.window >= 0) & (found.window < len(right))
    window = found.window[known]
    times = np.bincount(window, minlength=len(right))
    differs = (found.values[known] != right[window]).any(axis=1)
    return Verdict(
        missing=int((_closable(right, buckets) & (times == 0)).sum()),
        double=int(np.maximum(times - 1, 0).sum()),
        wrong=int(differs.sum() + (~known).sum()),
    )


def closable_windows(right: Int64s, buckets: int = CLOSABLE_BUCKETS) -> int:
    return int(_closable(right, buckets).sum())


def stretch(found: Windows, right: Int64s, buckets: int = CLOSABLE_BUCKETS) -> Stretch | None:
    """From a quarter to the whole of the events that closable windows cover; None: too few came."""
    known = (found.window >= 0) & (found.window < buckets * SKUS)
    order = np.argsort(found.appended_ms[known], kind="stable")
    window, first = np.unique(found.window[known][order], return_index=True)
    appended_ms = found.appended_ms[known][order][first]
    order = np.argsort(appended_ms, kind="stable")
    appended_ms = appended_ms[order]
    covered = np.cumsum(right[window[order], :3].sum(axis=1))
    total = int(right[_closable(right, buckets), :3].sum())
    at = int(np.searchsorted(covered, WARM_UP_SHARE * total))
    if at >= len(covered):
        return None
    # whatever was appended in the same millisecond belongs to the warm-up
    at = int(np.searchsorted(appended_ms, appended_ms[at], "right")) - 1
    return Stretch(appended_ms[at] / 1_000, appended_ms[-1] / 1_000, int(covered[-1] - covered[at]))


def _closable(right: Int64s, buckets: int) -> NDArray[np.bool_]:
    closable: NDArray[np.bool_] = right[:, :3].sum(axis=1) > 0
    closable[buckets * SKUS :] = False
    return closable
