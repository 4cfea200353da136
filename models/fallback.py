"""The plain forecast that stands in for a cold SKU or a failed model, always marked.

Demand per bucket after Teunter, Syntetos and Babai (2011): probability of demand x its size, both
smoothed; before there is evidence, the level of the category or of the whole sale.
"""

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from models.features import Query
from models.levels import MIDDLE

if TYPE_CHECKING:
    from models.memory import ForecastMemory

Array = NDArray[Any]

COLD_DISPERSION: Final = 0.7  # wide: little is known


def plain_mean(memory: "ForecastMemory", rows: Array, origin_ms: int, horizons: Array) -> Array:
    """Cumulative means f64[n, 5] at horizons i8[n, 5] in milliseconds."""
    probability, size = memory.tsb_at(rows, memory.idle_buckets(rows, origin_ms))
    seen = memory.steps[rows] > 0
    rate = np.where(seen, probability * size, memory.prior(rows))
    return np.asarray(rate, np.float64)[:, None] * (horizons / memory.bucket_ms)


def plain_loads(query: Query, bucket_ms: int) -> Array:
    """Events a second f64[n, 2 leads, 3 kinds]: the middle level goes on."""
    rate = query.loads[:, :, MIDDLE].astype(np.float64) / (bucket_ms / 1000)
    return np.repeat(rate[:, None, :], 2, axis=1)
