"""Arrays and numbers out of a checkpoint, checked before compiled kernels index them."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

NUMBER_MAX: Final = 1e18
TIME_MS_MAX: Final = 10**15  # far beyond any event, and every sum of two fits 64 bits


def sums_array(told: Any, shape: tuple[int, ...], name: str) -> NDArray[np.float64]:
    """`told`, sums of what never is negative, as f64 of that shape. Raises ValueError when it has
    another shape, or holds anything but numbers of [0, NUMBER_MAX].
    """
    array = np.array(told, np.float64)
    if array.shape != shape or not ((array >= 0) & (array <= NUMBER_MAX)).all():
        raise ValueError(f"{name}: {str(told)[:40]}, not {shape} numbers of 0 to {NUMBER_MAX:g}")
    return array


def bounded(told: Any, low: int, high: int, name: str) -> int:
    """`told` as an integer of [low, high]. Raises ValueError."""
    if type(told) is not int or not low <= told <= high:
        raise ValueError(f"{name} is {str(told)[:40]}, not an integer from {low} to {high}")
    return told
