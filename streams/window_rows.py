"""Open buckets by SKU row: int64 cells in a ring, the rows active in each bucket, the stamps."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams import windows_kernel as kernel
from streams.errors import StateError
from streams.topics import EVENT_TOPICS

Int64s = NDArray[np.int64]
KINDS = len(EVENT_TOPICS)


class WindowRows:
    """One cell of a row's ring for each bucket that can be open.

    Which rows are active in a bucket is listed as they come, so that closing costs as much as there
    is to close. Rows restored with open buckets are listed apart, since a row that is newer than
    its marker may hold buckets beyond those that are open now.
    """

    def __init__(self, cells: int) -> None:
        self.cells = cells
        self.arrays = _arrays(0, cells)
        self._restored: dict[int, list[int]] = {}  # bucket to rows

    def grow(self, capacity: int) -> bool:
        """Room for `capacity` rows; False when there is already."""
        old = len(self.arrays.heads)
        if capacity <= old:
            return False
        wider = _arrays(capacity, self.cells)
        wider.cells[:old] = self.arrays.cells
        wider.heads[:old] = self.arrays.heads
        wider.dirty[:old] = self.arrays.dirty
        wider.active[:, :old] = self.arrays.active
        wider.active_count[:] = self.arrays.active_count
        wider.active_bucket[:] = self.arrays.active_bucket
        self.arrays = wider
        return True

    def oldest_bucket(self) -> int | None:
        """The first open bucket that has content."""
        return min(self._open_buckets(), default=None)

    def newest_bucket(self) -> int | None:
        """The last open bucket that has content."""
        return max(self._open_buckets(), default=None)

    def _open_buckets(self) -> list[int]:
        counted = self.arrays.active_bucket[self.arrays.active_count > 0]
        return [*counted.tolist(), *self._restored]

    def close(self, bucket: int) -> tuple[Int64s, Int64s]:
        """Empty one bucket: the rows active in it, ascending, and their sums [n, CELL_FIELDS]."""
        cell = bucket % self.cells
        rows = np.array(self._restored.pop(bucket, []), np.int64)
        count = int(self.arrays.active_count[cell])
        if count and self.arrays.active_bucket[cell] == bucket:
            rows = np.concatenate([rows, self.arrays.active[cell, :count]])
            self.arrays.active_count[cell] = 0
        rows.sort()
        sums = np.zeros((len(rows), kernel.CELL_FIELDS), np.int64)
        kernel.close_cells(rows, cell, bucket, self.arrays, sums)
        return rows, sums

    def open_units(self, rows: Int64s) -> Int64s:
        """Units ordered in open buckets, int64 [n]."""
        units: Int64s = self.arrays.cells[rows, :, kernel.UNITS].sum(axis=1)
        return units

    def last_bucket(self, rows: Int64s) -> Int64s:
        """The last bucket closed with content, int64 [n]; -1: none."""
        last: Int64s = self.arrays.heads[rows, kernel.LAST_BUCKET]
        return last

    def have_counted(self, rows: Int64s) -> NDArray[np.bool_]:
        """Whether any event was ever applied to each row, bool [n]."""
        counted: NDArray[np.bool_] = self.arrays.heads[rows, :KINDS].max(axis=1) >= 0
        return counted

    def is_settled(self, row: int, positions: list[int], closed_through_bucket: int) -> bool:
        """Whether all that the row holds is durable in a checkpoint at `positions`."""
        head = self.arrays.heads[row]
        return bool(
            not self.arrays.dirty[row]
            and not self.arrays.cells[row, :, kernel.BUCKET].any()
            and head[kernel.LAST_BUCKET] < closed_through_bucket
            and (head[:KINDS] < positions).all()
        )

    def reset(self, row: int) -> None:
        """Forget a row that has no open buckets."""
        self.arrays.heads[row] = -1

    def gather(self, rows: Int64s) -> dict[str, NDArray[Any]]:
        """The rows' state for a snapshot: arrays [n, ...], copied."""
        cells = self.arrays.cells[rows]
        return {
            "open_bucket": cells[:, :, kernel.BUCKET],
            "open_events": cells[:, :, kernel.CLICKS : kernel.UNITS].astype(np.uint32),
            "open_units": cells[:, :, kernel.UNITS],
            "open_revenue_cents": cells[:, :, kernel.REVENUE],
            "open_price_sum": cells[:, :, kernel.PRICE_SUM],
            "stamps": self.arrays.heads[rows, :KINDS],
            "last_bucket": self.arrays.heads[rows, kernel.LAST_BUCKET],
        }

    def scatter(self, rows: Int64s, state: Mapping[str, NDArray[Any]]) -> None:
        """Put back what `gather` gave, into rows that are still empty."""
        bucket = state["open_bucket"]
        if bucket.shape[1:] != (self.cells,):
            raise StateError(
                f"rows with {bucket.shape[1]} open buckets each do not fit the {self.cells} that "
                "FLASHCAST_BUCKET_MS, FLASHCAST_ALLOWED_LATENESS_MS and "
                "FLASHCAST_FUTURE_TOLERANCE_MS now ask for: set them back"
            )
        cells = np.zeros((len(rows), *self.arrays.cells.shape[1:]), np.int64)
        cells[:, :, kernel.BUCKET] = bucket
        cells[:, :, kernel.CLICKS : kernel.UNITS] = state["open_events"]
        cells[:, :, kernel.UNITS] = state["open_units"]
        cells[:, :, kernel.REVENUE] = state["open_revenue_cents"]
        cells[:, :, kernel.PRICE_SUM] = state["open_price_sum"]
        self.arrays.cells[rows] = cells
        self.arrays.heads[rows, :KINDS] = state["stamps"]
        self.arrays.heads[rows, kernel.LAST_BUCKET] = state["last_bucket"]
        for at, cell in zip(*np.nonzero(bucket), strict=True):
            self._restored.setdefault(int(bucket[at, cell]), []).append(int(rows[at]))


def _arrays(capacity: int, cells: int) -> kernel.RowArrays:
    return kernel.RowArrays(
        cells=np.zeros((capacity, cells, kernel.CELL_FIELDS), np.int64),
        heads=np.full((capacity, kernel.HEAD_FIELDS), -1, np.int64),
        dirty=np.zeros(capacity, np.bool_),
        active=np.zeros((cells, capacity), np.int32),
        active_count=np.zeros(cells, np.int64),
        active_bucket=np.zeros(cells, np.int64),
    )
