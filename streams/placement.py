"""Which partition a key belongs to, from the client libraries' own code: for publishing and for
checking what the worker's compiled partitioner decided.
"""

import zlib

from kafka.partitioner.default import murmur2

from streams.settings import Partitioner

KeyedRecord = tuple[bytes | None, bytes | None]  # key, value


class Placement:
    """Partitions of one topic's keys. Remembers every key, of which a sale has few."""

    def __init__(self, partitioner: Partitioner, partitions: int) -> None:
        """`none` places like `murmur2`, the default of most producers."""
        self._crc32 = partitioner == "crc32"
        self.partitions = partitions
        self._known: dict[bytes, int] = {}

    def of(self, key: bytes) -> int:
        """The partition of `key`."""
        found = self._known.get(key)
        if found is None:
            code: int = zlib.crc32(key) if self._crc32 else murmur2(key) & 0x7FFF_FFFF
            found = self._known[key] = code % self.partitions
        return found
