"""The load that a partition's forecasts add up to: each slot's newest forecasts, over all slots.

Before every slot has been forecast the sum would fall short, and nothing is said.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.prediction import Prediction
from models.read_back import sums_array
from models.row_state import LOAD_LEADS_MS
from streams.origins import Origin
from streams.topics import EVENT_TOPICS

if TYPE_CHECKING:
    from models.memory import ForecastMemory

Table = list[list[float]]  # by lead and event topic


class PartitionLoad:
    """Events a second, and their variance, [slots, leads, event topics]."""

    def __init__(self, slots: int, memory: "ForecastMemory | None") -> None:
        self._memory = memory
        shape = (slots, len(LOAD_LEADS_MS), len(EVENT_TOPICS))
        self._mean, self._variance = np.zeros(shape), np.zeros(shape)
        self._known = np.zeros(slots, np.bool_)

    def put(self, origin: Origin, prediction: Prediction | None) -> None:
        """What the SKUs of a slot were forecast at an origin; None: none of them was active."""
        self._known[origin.slot] = True
        mean: Any = 0.0 if prediction is None else prediction.load_mean.sum(axis=0)
        variance: Any = 0.0 if prediction is None else prediction.load_variance.sum(axis=0)
        self._mean[origin.slot], self._variance[origin.slot] = mean, variance
        if origin.slot == 0 and self._known.all() and self._memory is not None:
            self._memory.await_load(origin.at_ms, *self._total())

    def told(self) -> tuple[Table, Table] | None:
        """Mean and variance over all SKUs; None before every slot has been forecast."""
        if self._memory is None or not self._known.all():
            return None
        mean, variance = self._total()
        return mean.tolist(), self._memory.load_variance(mean, variance).tolist()

    def _total(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return self._mean.sum(axis=0), self._variance.sum(axis=0)

    def meta(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "known": self._known.tolist(),
            "mean": self._mean.tolist(),
            "variance": self._variance.tolist(),
        }

    def restore_meta(self, meta: Mapping[str, Any]) -> None:
        """The opposite of `meta`; of another number of slots, all is forecast anew. Raises
        LookupError, TypeError or ValueError for what no `meta` can have said.
        """
        known = list(meta["known"])
        shape = (len(known), *self._mean.shape[1:])
        mean, variance = (sums_array(meta[name], shape, name) for name in ("mean", "variance"))
        if not all(isinstance(one, bool) for one in known):
            raise ValueError(f"known = {known!r}")
        if shape == self._mean.shape:
            self._mean, self._variance = mean.copy(), variance.copy()
            self._known = np.array(known, np.bool_)
