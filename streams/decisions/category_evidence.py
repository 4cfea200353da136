"""What the SKUs of each category tell of its mean sensitivities: sums that are kept exactly.

A sum of floating-point numbers depends on their order, and after a restore the order is another
one. So what a SKU tells is rounded to whole multiples of `UNIT`: sums of whole numbers are the same
in any order, and what a SKU told before can be taken out again without a trace.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# 2^24 SKUs, more than FLASHCAST_SKUS_MAX can ask for, stay within 63 bits
UNIT: Final = 2.0**-28
FIGURE_MAX: Final = 2.0**10  # of one SKU
FIGURES: Final = 5  # precision bb, bg, gg; precision-weighted b, g
NONE: Final = -1  # the category of a row that tells of none


class CategoryEvidence:
    """By row [capacity], and summed by category."""

    def __init__(self, capacity: int = 0) -> None:
        self._told = np.zeros((capacity, FIGURES), np.int64)
        self._category = np.full(capacity, NONE, np.int64)  # where a row's figures are counted
        self._stale = np.ones(capacity, np.bool_)
        self._sums = np.zeros((0, FIGURES), np.int64)

    def grow(self, capacity: int) -> None:
        """Room for `capacity` rows; what is known stays."""
        extra = capacity - len(self._stale)
        if extra > 0:
            self._told = np.concatenate([self._told, np.zeros((extra, FIGURES), np.int64)])
            self._category = np.concatenate([self._category, np.full(extra, NONE, np.int64)])
            self._stale = np.concatenate([self._stale, np.ones(extra, np.bool_)])

    def touch(self, rows: Ints) -> None:
        """What these rows tell has changed."""
        self._stale[rows] = True

    def changed(self, category: NDArray[np.integer]) -> Ints:
        """Rows to `count` again, given the category of every row [capacity]."""
        return np.flatnonzero(self._stale | (self._category != category))

    def count(self, rows: Ints, category: NDArray[np.integer], figures: Floats) -> None:
        """`figures` [n, FIGURES] of distinct `rows` [n], in these categories [n] from now on."""
        size = int(category.max(initial=NONE)) + 1
        if size > len(self._sums):
            more = np.zeros((size - len(self._sums), FIGURES), np.int64)
            self._sums = np.concatenate([self._sums, more])
        told = np.rint(np.clip(figures, -FIGURE_MAX, FIGURE_MAX) / UNIT).astype(np.int64)
        was, now = self._category[rows] != NONE, category != NONE
        np.subtract.at(self._sums, self._category[rows][was], self._told[rows][was])
        np.add.at(self._sums, category[now], told[now])
        self._told[rows], self._category[rows] = told, category
        self._stale[rows] = False

    def of(self, categories: NDArray[np.integer]) -> Floats:
        """Sums [n, FIGURES] of these categories [n]; each must have been counted in once."""
        sums: Floats = self._sums[categories] * UNIT
        return sums
