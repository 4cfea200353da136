"""Discounted levels: how much a SKU, or the whole sale, does per bucket.

A level is sum / exposure, both discounted by the same factor per bucket, at three half-lives. Idle
buckets cost nothing: a gap of g buckets decays in closed form when the SKU is next looked at.
Exposure comes twice: buckets of the clock (for clicks and carts), and buckets in stock (for orders
and units), so that an empty shelf lowers no demand level.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

HALF_LIVES_BUCKETS: Final = (4, 30, 240)  # fast, middle, slow
DECAYS: Final = np.array([0.5 ** (1 / h) for h in HALF_LIVES_BUCKETS], np.float32)
FAST, MIDDLE, SLOW = range(3)
CHANNELS: Final = ("clicks", "carts", "orders", "units")
CLICKS, CARTS, ORDERS, UNITS = range(4)
CLOCK, IN_STOCK = range(2)
EXPOSURE_OF: Final = np.array([CLOCK, CLOCK, IN_STOCK, IN_STOCK])  # by channel


def discounted(gap_buckets: Array) -> Array:
    """decay ** gap, f32[n, 3]."""
    return np.asarray(
        np.power(DECAYS, gap_buckets.astype(np.float32)[:, None], dtype=np.float32), np.float32
    )


def observe(
    sums: Array, exposure: Array, gap_buckets: Array, counts: Array, share: Array, before: Array
) -> tuple[Array, Array]:
    """Levels after a bucket with `counts` f32[n, 4], `gap_buckets` >= 1 after the last one seen.

    sums f32[n, 3, 4], exposure f32[n, 3, 2]; `share` of this bucket in stock, `before`: share at
    the last one seen, taken to hold for the idle buckets between. Returns new sums and exposure.
    """
    decay = discounted(gap_buckets)
    idle = (DECAYS - decay) / (1 - DECAYS)  # the g - 1 buckets between
    exposure = exposure * decay[:, :, None]
    exposure[:, :, CLOCK] += idle + 1
    exposure[:, :, IN_STOCK] += idle * before[:, None] + share[:, None]
    return sums * decay[:, :, None] + counts[:, None, :], exposure


def at_origin(
    sums: Array, exposure: Array, idle_buckets: Array, share: Array
) -> tuple[Array, Array]:
    """Levels after `idle_buckets` >= 0 buckets without any event. Shapes as in `observe`."""
    decay = discounted(idle_buckets)
    idle = (1 - decay) / (1 - DECAYS)
    exposure = exposure * decay[:, :, None]
    exposure[:, :, CLOCK] += idle
    exposure[:, :, IN_STOCK] += idle * share[:, None]
    return sums * decay[:, :, None], exposure


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
        decay = np.power(DECAYS.astype(np.float64), gap)
        seen = (1 - decay) / (1 - DECAYS)
        self.sums = self.sums * decay[:, None] + totals
        self.exposure = self.exposure * decay + seen
        self.last_bucket_ms = max(bucket_start_ms, self.last_bucket_ms)

    def per_sku(self) -> Array:
        """Events per bucket and SKU, [3, 4]; zeros before anything was seen."""
        return self.sums / np.maximum(self.exposure, 1e-9)[:, None] / max(self.skus, 1)

    def meta(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "sums": self.sums.tolist(),
            "exposure": self.exposure.tolist(),
            "last_bucket_ms": self.last_bucket_ms,
            "skus": self.skus,
        }

    def restore(self, meta: dict[str, Any]) -> None:
        """The opposite of `meta`."""
        self.sums = np.array(meta["sums"], np.float64)
        self.exposure = np.array(meta["exposure"], np.float64)
        self.last_bucket_ms = int(meta["last_bucket_ms"])
        self.skus = int(meta["skus"])
