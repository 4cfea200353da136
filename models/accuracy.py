"""Measures of a forecast: tiny pure functions of what happened (y) and what was forecast (f)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def wape(y: Array, f: Array) -> float:
    """sum |y - f| / sum |y|; NaN where nothing happened."""
    total = float(np.abs(y).sum())
    return float(np.abs(y - f).sum()) / total if total else float("nan")


def bias(y: Array, f: Array) -> float:
    """sum (f - y) / sum |y|: positive when forecast too high."""
    total = float(np.abs(y).sum())
    return float((f - y).sum()) / total if total else float("nan")


def rmse(y: Array, f: Array) -> float:
    """Root of the mean squared error."""
    return float(np.sqrt(np.mean((y - f) ** 2))) if len(y) else float("nan")


def rmsse(y: Array, f: Array, naive: Array) -> float:
    """RMSE over that of the naive forecast on the same stretches (Hyndman and Koehler 2006 scale
    by the training part; here by the same part, so that no training part is needed).
    """
    scale = rmse(y, naive)
    return rmse(y, f) / scale if scale else float("nan")


def pinball(y: Array, f: Array, q: float) -> float:
    """Mean pinball loss max(q (y - f), (q - 1) (y - f)) at quantile q (not twice that)."""
    error = y - f
    return float(np.maximum(q * error, (q - 1) * error).mean()) if len(y) else float("nan")


def coverage(y: Array, low: Array, high: Array) -> float:
    """Share of outcomes within [low, high]."""
    return float(((y >= low) & (y <= high)).mean()) if len(y) else float("nan")
