"""SKUs that have left the sale give their rows back, for others.

A SKU leaves when the catalog withdraws it, or when `retention_ms` of event time have passed without
a sign of it: the end of its sale, its last bucket, what the shop last said of its stock or of a
competitor's price. All that was known of it is forgotten, and its changelog record is removed with
the next checkpoint: should it come back, it is a new SKU.

Nothing is lost by that, nor counted twice: a row goes only when it holds nothing that is not
durable, no open bucket, and no event that a restart would read again (`Windows.release`); repeats
of its events are found by their ids, which no row holds.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streams.deciding import Decider
from streams.sku_table import SkuTable
from streams.watermark import NEVER_MS
from streams.windows import Windows

LOOKED_AT_MAX: Final = 4_096  # rows at each checkpoint, in turn: a quarter million in a minute
RELEASED_MAX: Final = 1_024  # of them


class Leaving:
    """Of one partition. Those released are added to `counts`."""

    def __init__(
        self,
        skus: SkuTable,
        windows: Windows,
        decider: Decider,
        retention_ms: int,
        counts: Counter[tuple[str, ...]],
    ) -> None:
        self._skus = skus
        self._windows = windows
        self._decider = decider
        self._retention_ms = retention_ms
        self._counts = counts
        self._next = 0  # row to look at

    def release(self, durable: Mapping[str, Any]) -> list[bytes]:
        """Free the rows of some SKUs that have left; `durable` is the windows' `meta` of the last
        committed checkpoint, and none is in flight. Returns the SKUs.
        """
        clock_ms = int(durable["closed_through_ms"])
        if clock_ms == NEVER_MS:
            return []
        begin = self._next if self._next < self._skus.size else 0
        self._next = min(begin + LOOKED_AT_MAX, self._skus.size)
        rows = self._left(self._skus.used(begin, self._next), clock_ms)
        if len(rows) > RELEASED_MAX:
            self._next = int(rows[RELEASED_MAX])
            rows = rows[:RELEASED_MAX]
        freed = self._windows.release(rows.tolist(), durable)
        self._decider.reset(np.array([row for row, _ in freed], np.int64))
        self._counts["skus_released",] += len(freed)
        return [name for _, name in freed]

    def _left(self, rows: NDArray[np.int64], clock_ms: int) -> NDArray[np.int64]:
        reference = self._decider.reference
        sale_end_ms = np.where(reference.has_catalog[rows], reference.sale_end_ms[rows], 0)
        seen_ms = np.maximum(self._windows.last_end_ms(rows), reference.informed_ms[rows])
        last_ms = np.maximum(seen_ms, sale_end_ms)
        reference.informed_ms[rows[last_ms == 0]] = clock_ms  # never seen: its time begins now
        over = (last_ms > 0) & (last_ms + self._retention_ms <= clock_ms)
        return rows[(over | reference.withdrawn[rows]) & ~self._decider.origins.awaited(rows)]
