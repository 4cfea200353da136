"""What the forecaster remembers of a SKU, as part of the SKU's row in the state.

It takes the same room whatever the model, or with none: so a worker without forecasts, or with a
model of another shape, can still read the rows; the forecaster then begins anew for those SKUs.
"""

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from streams.errors import StateError
from streams.records import EVENT_TIME_MS_MAX
from streams.state.snapshot import RowSchema

if TYPE_CHECKING:
    from models.memory import ForecastMemory

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]

STATE_BYTES: Final = 512
VERSION: Final = 1
SUM_MAX: Final = 2.0**63  # of events or units, discounted
_BOUNDS: Final[dict[str, tuple[float, float]]] = {  # lowest and highest that an honest row has
    "level_sums": (0, SUM_MAX),
    "exposure": (0, 1e6),  # buckets
    "converting": (0, SUM_MAX),
    "tsb_probability": (0, 1 + 1e-6),
    "tsb_size": (0, SUM_MAX),
    "last_bucket_ms": (-1, EVENT_TIME_MS_MAX),
    "steps": (0, 2**31 - 1),
    "last_share": (0, 1),
    "price_level": (-64, 64),  # a logarithm
    "sale_ms": (-1, SUM_MAX),
    "category_level": (-1, SUM_MAX),
    "failed": (0, 1),
    "due_ms": (-1, 2 * EVENT_TIME_MS_MAX),
    "due_sold": (0, SUM_MAX),
    "due_mean": (0, SUM_MAX),
    "due_dispersion": (0, SUM_MAX),
    "hidden": (-1 - 1e-3, 1 + 1e-3),  # a GRU mixes what tanh gave
}


def gather(memory: "ForecastMemory | None", rows: Ints) -> Bytes:
    """uint8 [n, STATE_BYTES]; all zero where there is no forecaster."""
    state = np.zeros((len(rows), STATE_BYTES), np.uint8)
    if memory is not None:
        fields = memory.gather(rows)
        packed = RowSchema(VERSION, fields).pack(fields)
        assert packed.shape[1] <= STATE_BYTES, f"a model's memory of {packed.shape[1]} bytes a SKU"
        state[:, : packed.shape[1]] = packed
    return state


def scatter(memory: "ForecastMemory | None", rows: Ints, state: NDArray[Any]) -> int:
    """Put back what `gather` gave; returns the number of rows whose memory begins anew: they were
    empty, of another model, or hold what no model can have left.
    """
    if memory is None:
        return 0
    schema = RowSchema(VERSION, memory.gather(rows[:0]))
    known = np.flatnonzero(state.any(axis=1))
    try:
        fields = schema.unpack(np.ascontiguousarray(state[known, : schema.width]))
    except StateError:  # of another model
        return len(rows)
    if not len(known):
        return len(rows)
    sane = np.ones(len(known), np.bool_)
    for name, values in fields.items():
        flat = values.reshape(len(known), math.prod(values.shape[1:]))
        low, high = _BOUNDS[name]
        sane &= ((flat >= low) & (flat <= high)).all(axis=1)  # which no NaN is
    if not sane.all():
        known = known[sane]
        fields = {name: values[sane] for name, values in fields.items()}
    memory.scatter(rows[known], fields)
    return len(rows) - len(known)
