"""Discounted levels: how much a SKU, or the whole sale, does per bucket.

A level is sum / exposure, both discounted by the same factor per bucket, at three half-lives. Idle
buckets cost nothing: a gap of g buckets decays in closed form when the SKU is next looked at.
Exposure comes twice: buckets of the clock (for clicks and carts), and buckets in stock (for orders
and units), so that an empty shelf lowers no demand level. Those of SKUs are kept by
`observe_kernel`, here are those of the whole sale.
"""

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models import row_state
from models.read_back import TIME_MS_MAX, bounded, sums_array

Array = NDArray[Any]

DECAYS: Final = np.array(row_state.DECAYS)
FAST, MIDDLE, SLOW = range(3)
CHANNELS: Final = ("clicks", "carts", "orders", "units")
CLICKS, CARTS, ORDERS, UNITS = range(4)
CLOCK, IN_STOCK = range(2)


class SaleLevel:
    """The same levels of all SKUs of one memory together: the common rise and fall of the sale."""

    def __init__(self) -> None:
        self.sums = np.zeros((3, 4))
        self.exposure = np.zeros(3)
        self.last_bucket_ms = -1
        self.skus = 0  # rows ever seen

    def observe(self, bucket_start_ms: int, bucket_ms: int, totals: Array) -> None:
        """`totals` [4] over all active rows of the bucket."""
        gap = 1
        if self.last_bucket_ms >= 0:
            gap = max((bucket_start_ms - self.last_bucket_ms) // bucket_ms, 0)
        decay = DECAYS**gap
        seen = (1 - decay) / (1 - DECAYS)
        self.sums = self.sums * decay[:, None] + totals
        self.exposure = self.exposure * decay + seen
        self.last_bucket_ms = max(bucket_start_ms, self.last_bucket_ms)

    def per_sku(self) -> Array:
        """Events per bucket and SKU, [3, 4]; zeros before anything was seen."""
        return self.sums / np.maximum(self.exposure, 1e-9)[:, None] / max(self.skus, 1)

    def trends(self) -> tuple[float, float]:
        """log(fast / slow) of clicks and of units over all SKUs."""
        level = self.per_sku()
        fast, slow = level[FAST] + 1e-4, level[SLOW] + 1e-4
        return (
            math.log(fast[CLICKS] / slow[CLICKS]),
            math.log(fast[UNITS] / slow[UNITS]),
        )

    def meta(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "sums": self.sums.tolist(),
            "exposure": self.exposure.tolist(),
            "last_bucket_ms": self.last_bucket_ms,
            "skus": self.skus,
        }

    def restore(self, meta: dict[str, Any]) -> None:
        """The opposite of `meta`. Raises ValueError for what it cannot have said."""
        self.sums = sums_array(meta["sums"], self.sums.shape, "sums")
        self.exposure = sums_array(meta["exposure"], self.exposure.shape, "exposure")
        self.last_bucket_ms = bounded(meta["last_bucket_ms"], -1, TIME_MS_MAX, "last_bucket_ms")
        self.skus = bounded(meta["skus"], -(2**31), 2**31, "skus")
