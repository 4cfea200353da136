"""Which SKUs are given a row, so that a flood of SKUs that nobody sells cannot grow the memory.

SKUs that the catalog names have all of `skus_max` rows; all others together a share of them, so
that whatever comes, the shop's own products find room. An event whose SKU has no row and is given
none becomes a dead letter, which is also the record of that verdict: what the catalog said when the
event was judged cannot be found in the log again.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from streams.codec.columns import NO_ROW, Columns
from streams.errors import Reason
from streams.reference import Reference
from streams.settings import Settings
from streams.sku_table import SkuTable
from streams.topics import CATALOG, EVENT_TOPICS
from streams.windows import Windows

UNCATALOGUED_SHARE: Final = 4  # SKUs without a catalog entry: one row in so many


class Admission:
    """Of one partition."""

    def __init__(
        self, settings: Settings, skus: SkuTable, reference: Reference, windows: Windows
    ) -> None:
        self._skus = skus
        self._reference = reference
        self._windows = windows
        self._rows_max = settings.skus_max
        self._uncatalogued_max = settings.skus_max // UNCATALOGUED_SHARE
        self._catalogued_only = settings.admission == "catalog"
        self.limit_detail = (
            f"a partition has room for {settings.skus_max} SKUs (FLASHCAST_SKUS_MAX), for "
            f"{self._uncatalogued_max} of them without a catalog entry"
        )
        self.reason, self.detail = Reason.SKU_LIMIT, self.limit_detail
        if self._catalogued_only:
            self.reason = Reason.SKU_UNKNOWN
            self.detail = "the catalog has no entry for the SKU (FLASHCAST_ADMISSION=catalog)"

    def room(self, topic: str) -> int:
        """How many more SKUs may be given rows because of records of `topic`."""
        room = max(0, self._rows_max - len(self._skus))
        if topic == CATALOG:
            return room
        if topic in EVENT_TOPICS and self._catalogued_only:
            return 0
        uncatalogued = len(self._skus) - int(np.count_nonzero(self._reference.has_catalog))
        return max(0, min(room, self._uncatalogued_max - uncatalogued))

    def admit(self, topic: str, data: NDArray[np.uint8], columns: Columns) -> list[int]:
        """Fill `columns.row`: NO_ROW where a SKU is not admitted. Returns the indexes of records
        that belong to another partition.
        """
        misplaced = self._skus.rows(data, columns, room=self.room(topic))
        if not self._catalogued_only:
            return misplaced
        rows = columns.row[: columns.n]
        outside = np.flatnonzero(rows >= 0)
        outside = outside[~self._reference.has_catalog[rows[outside]]]
        if len(outside):  # a SKU withdrawn from the catalog counts on until its row is released
            rows[outside[~self._windows.have_counted(rows[outside].astype(np.int64))]] = NO_ROW
        return misplaced
