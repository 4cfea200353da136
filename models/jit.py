"""The compiler of the kernels: numba where it is installed, else plain Python, slowly."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

try:
    import numba
except ImportError:
    numba = None

COMPILED: bool = numba is not None


def njit(function: Callable[P, R]) -> Callable[P, R]:
    """Compile `function` at its first call without the GIL, and keep the result on disk."""
    if numba is None:
        return function
    compiled: Callable[P, R]
    try:
        compiled = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # nowhere to write, as on a read-only disk: compiled at every start
        compiled = numba.njit(nogil=True, error_model="numpy")(function)
    return compiled
