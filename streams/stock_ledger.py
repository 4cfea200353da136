"""Units sold since the shop last counted its stock, per SKU row.

`stock-levels` says what was on hand at `as_of_ms`; orders since then are ours to subtract. The sum
lives in the row, because the count may be older than the history ring.
"""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from streams.reference import Reference

Int = NDArray[np.int64]


class History(Protocol):
    """What the ledger asks of the windows."""

    def units_between(self, rows: Int, from_ms: int) -> Int: ...

    @property
    def history_start_ms(self) -> int: ...


class StockLedger:
    """int64 [capacity]: `sold` units in closed buckets since the count at `as_of_ms`."""

    def __init__(self, capacity: int = 0) -> None:
        self.sold = np.zeros(capacity, np.int64)
        self.as_of_ms = np.zeros(capacity, np.int64)

    def grow(self, capacity: int) -> None:
        """Room for `capacity` rows."""
        extra = capacity - len(self.sold)
        if extra > 0:
            self.sold = np.concatenate([self.sold, np.zeros(extra, np.int64)])
            self.as_of_ms = np.concatenate([self.as_of_ms, np.zeros(extra, np.int64)])

    def reset(self, rows: Int) -> None:
        """Forget these rows: other SKUs move in."""
        self.sold[rows] = 0
        self.as_of_ms[rows] = 0

    def add(self, rows: Int, bucket_start_ms: int, bucket_ms: int, units: Int) -> None:
        """A closed bucket; one whose middle lies before the count is in the count already."""
        counted = bucket_start_ms + bucket_ms // 2 >= self.as_of_ms[rows]
        self.sold[rows] += np.where(counted, units, 0)

    def recount(self, row: int, as_of_ms: int, history: History) -> bool:
        """A new stock level: keep only what was sold after it. Whether that changed the sum, which
        must then be made durable: a later restart may not have the history to find it again.

        A count older than the history ring keeps the sum as it is: sales between would otherwise
        be forgotten.
        """
        if as_of_ms <= self.as_of_ms[row]:
            return False
        before = self.sold[row]
        if as_of_ms >= history.history_start_ms:
            rows = np.array([row], np.int64)
            self.sold[row] = history.units_between(rows, as_of_ms)[0]
        self.as_of_ms[row] = as_of_ms
        return bool(self.sold[row] != before)

    def withdraw(self, row: int) -> None:
        """The shop took its count back: the next one counts, of whatever time it is."""
        self.as_of_ms[row] = 0

    def on_hand(self, rows: Int, reference: Reference) -> Int:
        """Units on the shelf now, at least 0, of rows with a known stock level."""
        left: Int = np.maximum(reference.on_hand[rows] - self.sold[rows], 0)
        return left

    def in_stock_share(self, rows: Int, units: Int, reference: Reference) -> NDArray[np.float64]:
        """Share of a bucket, before `add`, in which each row had stock; 1 where none is known.

        Sales are taken as even over the bucket. Sales from a shelf thought empty show that it was
        not.
        """
        before = self.on_hand(rows, reference)
        runs_out = np.where(units > before, before / np.maximum(units, 1), 1.0)
        share = np.where(before == 0, np.where(units > 0, 1.0, 0.0), runs_out)
        return np.where(reference.has_stock[rows], share, 1.0)

    def gather(self, rows: Int) -> dict[str, NDArray[np.generic]]:
        """The rows' state for a snapshot."""
        return {"stock_sold": self.sold[rows], "stock_as_of_ms": self.as_of_ms[rows]}

    def scatter(self, rows: Int, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Put back what `gather` gave."""
        self.sold[rows] = state["stock_sold"]
        self.as_of_ms[rows] = state["stock_as_of_ms"]
