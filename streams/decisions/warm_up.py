"""Compiles the kernels of the decisions, at install or before the first bucket, not in the path."""

import numpy as np

from streams.decisions import price, restock


def warm_up() -> None:
    """Decide once about two made-up SKUs; compiled code is kept on disk."""
    units = np.array([5, 500], np.int64)
    means = np.array([10.0, 1_000.0])
    cents = np.array([1_000, 1_000], np.int64)
    times = np.array([600_000, 600_000], np.int64)
    never = np.array([-1, -1], np.int64)
    flags = np.array([True, False])
    restock.decide(
        restock.RestockInputs(
            ~(flags & ~flags), units, means / 2, means, means, 2 * means, means, cents, cents // 2,
            times, 6 * times, never,
        ),
        restock.RestockPolicy(),
    )  # fmt: skip
    price.decide(
        price.PriceInputs(
            units, 2 * means, means, flags, cents, cents, cents // 2, cents // 2, 2 * cents, cents,
            np.array([2.0, 2.0]), np.array([0.5, 0.5]), flags, 0 * units, never,
        ),
        price.PricePolicy(),
    )  # fmt: skip
