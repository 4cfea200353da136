"""What a worker must know of a partition to take it over, kept as its logs grow.

    changelog ------> image: newest row of each SKU, cuts, marker
    events ---------> fingerprints of what lies behind the marker, as far back as duplicates go
    demand-windows -> history rings

A standby follows the logs with it (standby.py); the pipeline that takes over goes on with its very
tables. Each method takes in one fetch whole and says how far it has come, so that one may stop
between any two.
"""

from collections.abc import Iterable
from typing import Final

import numpy as np

from streams.codec.decode import START, Decoder, Fetch, Position
from streams.codec.siphash import HashKey
from streams.dedupe import Duplicates, remember_slice
from streams.history import History, decode_windows
from streams.settings import Settings
from streams.sku_table import SkuTable
from streams.state import marker as markers
from streams.state.changelog import RESERVED, Change, Image
from streams.state.marker import Marker
from streams.topics import EVENT_TOPICS
from streams.window_config import WindowsConfig

NOWHERE: Final = -1

LogRecord = tuple[int, bytes | None, bytes | None]  # offset, key, value


class Warm:
    """One partition. `changelog_offset`, `windows_offset` and `event_offsets` are the first offsets
    not taken in yet; of `demand-windows` and the events NOWHERE until there is a marker.
    """

    def __init__(
        self, settings: Settings, partition: int, partitions: int, hash_key: HashKey
    ) -> None:
        config = WindowsConfig.of(settings)
        self.image = Image()
        self.skus = SkuTable(partition, partitions, settings.partitioner, hash_key)
        self.duplicates = [Duplicates(config.dedupe_horizon_records) for _ in EVENT_TOPICS]
        self.history = History(config.history, config.bucket_ms)
        self.history_from_ms: int | None = None
        self.changelog_offset = 0
        self.windows_offset = NOWHERE
        self.event_offsets = dict.fromkeys(EVENT_TOPICS, NOWHERE)
        self._decoder = Decoder(hash_key, settings.future_tolerance_ms)
        self._marker: tuple[bytes, Marker] | None = None

    @property
    def marker(self) -> Marker | None:
        """The newest that the image holds. Raises StateError when it cannot be read."""
        packed = self.image.marker
        if packed is None:
            return None
        if self._marker is None or self._marker[0] != packed:
            self._marker = packed, markers.decode(packed)
        return self._marker[1]

    def follow_changelog(self, records: list[LogRecord], next_offset: int) -> list[Change]:
        """Records in log order, up to `next_offset`; what has changed by them."""
        changes = self.image.apply(records)
        self.changelog_offset = next_offset
        self._forget(key for key, value in changes if value is None)
        return changes

    def _forget(self, keys: Iterable[bytes]) -> None:
        for key in keys:
            row = -1 if key.startswith(RESERVED) else self.skus.row_of(key)
            if row >= 0:
                self._free(row)

    def settle(self) -> None:
        """Before a pipeline goes on with it: forget SKUs that have history and no row any more."""
        rows = self.skus.insert_all(list(self.image.rows))
        known = np.zeros(self.skus.capacity, np.bool_)
        known[rows] = True
        for row in np.flatnonzero((self.skus.names.length > 0) & ~known).tolist():
            self._free(row)

    def _free(self, row: int) -> None:
        self.skus.remove(row)
        self.history.grow(self.skus.capacity)  # SKUs may have come that have no closed bucket yet
        self.history.reset(np.array([row]))

    def remember(self, fetch: Fetch) -> None:
        """Events behind the marker: their ids are seen from now on."""
        kind = EVENT_TOPICS.index(fetch.topic)
        data, columns = np.frombuffer(fetch.data, np.uint8), self._decoder.columns
        position: Position | None = START
        while position is not None:
            position, _ = self._decoder.decode(data, kind, fetch.first_offset, position)
            remember_slice(self.duplicates[kind], self.skus, columns, data)
        self.event_offsets[fetch.topic] = fetch.next_offset

    def follow_windows(self, records: list[LogRecord], next_offset: int) -> None:
        """Closed buckets, in log order, up to `next_offset`."""
        self.windows_offset = next_offset
        names, starts_ms, units = decode_windows(value for _, _, value in records if value)
        if not names:
            return
        rows = self.skus.insert_all(names)
        self.history.grow(self.skus.capacity)
        self.history.push(rows, starts_ms, units)
        first_ms = int(starts_ms.min())
        known_ms = self.history_from_ms
        self.history_from_ms = first_ms if known_ms is None else min(known_ms, first_ms)
