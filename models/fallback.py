"""The plain forecast that stands in for a cold SKU or a failed model, always marked.

Demand per bucket after Teunter, Syntetos and Babai (2011): probability of demand x its size, both
smoothed; before there is evidence, the level of the category or of the whole sale.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.features import COMPONENTS, LOAD_LEADS, QUERY
from models.levels import MIDDLE
from models.row_state import Asked

Array = NDArray[Any]

COLD_DISPERSION: Final = 0.7  # wide: little is known


def plain_mean(asked: Asked) -> Array:
    """Cumulative means f64[n, 5] at the horizons; the TSB rate holds the prior in a new row."""
    tsb, category = (COMPONENTS.index(name) for name in ("tsb", "category"))
    cold = asked.query[:, QUERY.index("log_steps")] == 0
    rate = np.where(cold, asked.components[:, category], asked.components[:, tsb])
    return np.asarray(rate.astype(np.float64)[:, None] * asked.length.cumsum(1))


def plain_loads(asked: Asked, bucket_ms: int) -> Array:
    """Events a second f64[n, 2 leads, 3 kinds]: the middle level goes on."""
    rate = asked.loads[:, :, MIDDLE].astype(np.float64) / (bucket_ms / 1000)
    return np.repeat(rate[:, None, :], LOAD_LEADS, axis=1)
