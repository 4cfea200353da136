"""Restocks of our own that the shop's stock level does not know of yet, per SKU row.

They count into the inventory position until a stock level taken after their origin arrives, so that
nothing is ordered twice while `stock-levels` has not answered.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

PENDING: Final = 6  # restocks remembered one by one; an older one joins its successor
_FIELDS: Final = {"restock_origin_ms": (PENDING,), "restock_quantity": (PENDING,)}


class RestockMemory:
    """Arrays by row [capacity]: the last `PENDING` restocks, newest first."""

    def __init__(self, capacity: int = 0) -> None:
        self.restock_origin_ms = np.zeros((capacity, PENDING), np.int64)  # 0: none
        self.restock_quantity = np.zeros((capacity, PENDING), np.int64)  # units

    def grow(self, capacity: int) -> None:
        """Room for `capacity` rows; what is known stays."""
        for name, shape in _FIELDS.items():
            old = getattr(self, name)
            if len(old) < capacity:
                new = np.zeros((capacity, *shape), old.dtype)
                new[: len(old)] = old
                setattr(self, name, new)

    def reset(self, rows: Ints) -> None:
        """Forget what these rows carried: another SKU moves in."""
        for name in _FIELDS:
            getattr(self, name)[rows] = 0

    def gather(self, rows: Ints) -> dict[str, NDArray[np.generic]]:
        """State of `rows` [n] for the snapshot: arrays [n, ...]."""
        return {name: getattr(self, name)[rows] for name in _FIELDS}

    def scatter(self, rows: Ints, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Put back what `gather` gave."""
        for name in _FIELDS:
            getattr(self, name)[rows] = state[name]

    def add(self, rows: Ints, origin_ms: int, quantity: Ints) -> None:
        """Restocks of `quantity` [n] units ordered at `origin_ms`; rows are distinct."""
        origins, quantities = self.restock_origin_ms, self.restock_quantity
        # the two oldest become one with the later origin: counted longer rather than forgotten
        quantities[rows, -2] += quantities[rows, -1]
        origins[rows, 1:] = np.concatenate([origins[rows, :-2], origins[rows, -2:-1]], axis=1)
        quantities[rows, 1:] = quantities[rows, :-1]
        origins[rows, 0] = origin_ms
        quantities[rows, 0] = quantity

    def outstanding(self, rows: Ints, as_of_ms: Ints) -> Ints:
        """Units [n] ordered after the stock level of `as_of_ms` [n] was taken."""
        unknown = self.restock_origin_ms[rows] > as_of_ms[:, None]
        units: Ints = np.where(unknown, self.restock_quantity[rows], 0).sum(axis=1)
        return units

    def since_restock_ms(self, rows: Ints, now_ms: int) -> Ints:
        """Time [n] since the last restock, at least 0; -1 where there was none."""
        last = self.restock_origin_ms[rows, 0]
        return np.where(last > 0, np.maximum(now_ms - last, 0), -1)
