"""Numbers by row and cell of event time, for the last so many cells: the page's bounded memory.

Cell `c` covers `[c * cell_ms, (c + 1) * cell_ms)` and lives in column `c % cells`. When a newer
cell is written the oldest columns are cleared for it; what is older than the ring is refused.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

ROWS_FIRST: Final = 64


class Clock:
    """Which cells the rings hold. Shared by the grids of one board."""

    def __init__(self, cell_ms: int, cells: int) -> None:
        assert cell_ms > 0 and cells > 1
        self.cell_ms = cell_ms
        self.cells = cells
        self.newest = -1
        self.first = -1  # the first cell ever written: before it nothing is known
        self._grids: list[Grid] = []

    def attach(self, grid: "Grid") -> None:
        """Have `grid` cleared as the ring moves on."""
        self._grids.append(grid)

    def column(self, time_ms: int) -> int | None:
        """The column of a time, moving the ring on if it is new; None: too old for the ring."""
        cell = time_ms // self.cell_ms
        if cell > self.newest:
            self._advance(cell)
        elif cell <= self.newest - self.cells:
            return None
        self.first = min(self.first, cell)
        return cell % self.cells

    def _advance(self, cell: int) -> None:
        if self.newest < 0:
            self.first = cell
        else:
            fresh = range(max(self.newest + 1, cell - self.cells + 1), cell + 1)
            columns = np.fromiter((one % self.cells for one in fresh), np.int64)
            for grid in self._grids:
                grid.values[:, columns] = grid.blank
        self.newest = cell

    def held(self) -> NDArray[np.int64]:
        """int64 [k]: the cells that the ring holds and that may have content, oldest first."""
        if self.newest < 0:
            return np.empty(0, np.int64)
        oldest = max(self.first, self.newest - self.cells + 1)
        return np.arange(oldest, self.newest + 1, dtype=np.int64)


class Grid:
    """`values` [rows, cells, *inner]; rows grow by doubling."""

    def __init__(
        self, clock: Clock, dtype: type[np.generic], inner: tuple[int, ...] = (), blank: float = 0
    ) -> None:
        self.blank = blank
        self._clock = clock
        self.values: NDArray[Any] = np.full((ROWS_FIRST, clock.cells, *inner), blank, dtype=dtype)
        clock.attach(self)

    def grow(self, rows: int) -> None:
        """Make room for at least `rows` rows."""
        have = len(self.values)
        if rows > have:
            shape = (max(rows, 2 * have) - have, *self.values.shape[1:])
            more = np.full(shape, self.blank, dtype=self.values.dtype)
            self.values = np.concatenate([self.values, more])

    def series(self, row: int, cells: NDArray[np.int64]) -> NDArray[Any]:
        """[len(cells), *inner]: one row over `cells`; cells outside the ring are blank."""
        inside = (cells > self._clock.newest - self._clock.cells) & (cells <= self._clock.newest)
        found: NDArray[Any] = self.values[row, cells % self._clock.cells].copy()
        found[~inside] = self.blank
        return found
