"""The compiler of the kernels: numba where it is installed, plain Python where it is not.

`@njit` compiles without the GIL and keeps the result on disk until the kernel's own file changes,
so kernels that call each other share a file. Without numba the same functions run as they are,
some hundred times slower, and `COMPILED` says so. They are written for both: integers of different
signedness are never mixed (numba and numpy alike would make them floats), and arithmetic that wraps
on purpose is done on `np.uint64` and `np.uint32` values.
"""

import functools
import warnings
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import numpy as np

P = ParamSpec("P")
R = TypeVar("R")

try:
    import numba
except ImportError:
    numba = None
    warnings.warn(
        "numba is not installed: flashcast decodes and counts in plain Python, some hundred times "
        "slower; install it with `pip install numba`",
        RuntimeWarning,
        stacklevel=2,
    )

COMPILED: bool = numba is not None
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}


def njit(function: Callable[P, R]) -> Callable[P, R]:
    """Compile `function` at its first call, or leave it in Python with wrapping integers."""
    if numba is not None:
        compiled: Callable[P, R]
        try:
            compiled = numba.njit(cache=True, **OPTIONS)(function)
        except RuntimeError:  # nowhere to write, as on a read-only disk: compiled at every start
            compiled = numba.njit(**OPTIONS)(function)
        return compiled

    @functools.wraps(function)
    def wrapping(*args: P.args, **kwargs: P.kwargs) -> R:
        with np.errstate(over="ignore"):
            return function(*args, **kwargs)

    return wrapping
