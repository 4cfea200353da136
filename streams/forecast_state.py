"""What the forecaster remembers of a SKU, as part of the SKU's row in the state.

It takes the same room whatever the model, or with none: so a worker without forecasts, or with a
model of another shape, can still read the rows; the forecaster then begins anew for those SKUs.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.memory import ForecastMemory
from streams.errors import StateError
from streams.state.snapshot import RowSchema

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]

STATE_BYTES: Final = 512
VERSION: Final = 1


def gather(memory: ForecastMemory | None, rows: Ints) -> Bytes:
    """uint8 [n, STATE_BYTES]; all zero where there is no forecaster."""
    state = np.zeros((len(rows), STATE_BYTES), np.uint8)
    if memory is not None:
        fields = memory.gather(rows)
        packed = RowSchema(VERSION, fields).pack(fields)
        assert packed.shape[1] <= STATE_BYTES, f"a model's memory of {packed.shape[1]} bytes a SKU"
        state[:, : packed.shape[1]] = packed
    return state


def scatter(memory: ForecastMemory | None, rows: Ints, state: NDArray[Any]) -> int:
    """Put back what `gather` gave; returns the number of rows whose memory begins anew."""
    if memory is None:
        return 0
    schema = RowSchema(VERSION, memory.gather(rows[:0]))
    known = np.flatnonzero(state.any(axis=1))
    try:
        fields = schema.unpack(np.ascontiguousarray(state[known, : schema.width]))
    except StateError:  # of another model
        return len(rows)
    memory.scatter(rows[known], fields)
    return len(rows) - len(known)
