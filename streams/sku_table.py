"""The SKUs of one partition and the row that each has in every array.

    key bytes --hash--> slot (open addressing) --> row

Rows are numbered as SKUs come, and given to another SKU when theirs leaves the sale. A SKU gets a
row only if it belongs to this partition, so that a row found is also a partition checked.
"""

from collections.abc import Sequence
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from streams.codec.columns import Columns, NameArrays
from streams.codec.siphash import HashKey
from streams.errors import ContractError, Reason
from streams.partitioner import CODES, partition_of
from streams.settings import Partitioner
from streams.sku_hash import hash_all, join
from streams.sku_kernel import fill_rows, fill_slots, remove_slot

MISPLACED: Final = -2  # in Columns.row: the key belongs to another partition
ENDLESS: Final = 2**31 - 1  # as much room as rows can be numbered
CAPACITY_FIRST: Final = 1_024
NAME_BYTES_FIRST: Final = 16  # a SKU, on average; more makes the blob grow

# places in `_state`: rows ever given, rows free, bytes used of the blob, bytes of it still named
_ROWS, _FREE, _BLOB, _NAMED = range(4)

T = TypeVar("T", bound=np.generic)


class SkuTable:
    """SKU to row and back. `capacity` rows fit before every array by row must grow."""

    def __init__(
        self, partition: int, partitions: int, partitioner: Partitioner, hash_key: HashKey
    ) -> None:
        self._place = (partition, partitions, CODES[partitioner])
        self._partitioner = partitioner
        self._hash_key = hash_key
        self._state = np.zeros(4, np.int64)
        self._slots = np.zeros((2 * CAPACITY_FIRST, 2), np.uint64)  # hash, row + 1 (0: empty)
        self._hash = np.zeros(CAPACITY_FIRST, np.uint64)
        self._free = np.zeros(CAPACITY_FIRST, np.int32)  # a stack
        self._blob = np.zeros(CAPACITY_FIRST * NAME_BYTES_FIRST, np.uint8)
        self._at = np.zeros(CAPACITY_FIRST, np.int64)
        self._length = np.zeros(CAPACITY_FIRST, np.int32)

    @property
    def capacity(self) -> int:
        """Rows there is room for: the length of every array by row."""
        return len(self._at)

    @property
    def size(self) -> int:
        """Rows ever given: each row in use is below it."""
        return int(self._state[_ROWS])

    def __len__(self) -> int:
        """SKUs that have a row now."""
        return int(self._state[_ROWS] - self._state[_FREE])

    @property
    def names(self) -> NameArrays:
        """Where the names lie; good until the next SKU comes or goes."""
        return NameArrays(self._blob, self._at, self._length)

    def name(self, row: int) -> bytes:
        """UTF-8 bytes of the row's SKU; empty when the row is free."""
        return self.names.name(row)

    def used(self, begin: int, end: int) -> NDArray[np.int64]:
        """The rows in [begin, end) that have a SKU, ascending."""
        rows: NDArray[np.int64] = begin + np.flatnonzero(self._length[begin:end])
        return rows

    def belongs(self, sku: bytes) -> bool:
        """Whether this is the partition for `sku`."""
        partition, partitions, code = self._place
        return code == 0 or partition_of(sku, partitions, self._partitioner) == partition

    def rows(self, data: NDArray[np.uint8], columns: Columns, *, room: int = ENDLESS) -> list[int]:
        """Fill `columns.row` for the keys in `data`; the first `room` unknown SKUs get new rows.

        Returns the indexes of records whose key belongs to another partition; their row is
        MISPLACED. Refused records have NO_ROW, as have the unknown SKUs beyond `room`.
        """
        misplaced = self._fill(
            columns.n,
            data,
            columns.ok,
            columns.sku_at,
            columns.sku_length,
            columns.sku_hash,
            columns.row,
            room,
        )
        if not misplaced:
            return []
        return [int(at) for at in np.flatnonzero(columns.row[: columns.n] == MISPLACED)]

    def row_of(self, sku: bytes) -> int:
        """The SKU's row, or -1."""
        return int(self.rows_of([sku], room=0)[0])

    def insert(self, sku: bytes) -> int:
        """The SKU's row, a new one if it has none.

        Raises ContractError (wrong_partition) when the SKU belongs to another partition.
        """
        return int(self.insert_all([sku])[0])

    def rows_of(self, skus: Sequence[bytes], *, room: int = ENDLESS) -> NDArray[np.int32]:
        """As `rows`, for names: int32 [n], MISPLACED where a SKU belongs elsewhere and NO_ROW where
        it is unknown and beyond `room`.
        """
        n = len(skus)
        data, at, length = join(skus)
        hashes = hash_all(self._hash_key, data, at, length)
        rows = np.zeros(n, np.int32)
        self._fill(n, data, np.ones(n, np.bool_), at, length, hashes, rows, room)
        return rows

    def insert_all(self, skus: Sequence[bytes]) -> NDArray[np.int64]:
        """`insert` for many: int64 [n] rows."""
        rows = self.rows_of(skus)
        if len(rows) and rows.min() == MISPLACED:
            sku = skus[int(rows.argmin())]
            raise ContractError(
                Reason.WRONG_PARTITION,
                f"SKU {sku.decode(errors='replace')!r} belongs to partition "
                f"{partition_of(sku, self._place[1], self._partitioner)}, not {self._place[0]}",
            )
        return rows.astype(np.int64)

    def remove(self, row: int) -> None:
        """Free a row for another SKU. What other arrays hold of it is the caller's to reset."""
        length = int(self._length[row])
        assert length > 0, f"row {row} is free already"
        remove_slot(self._slots, self._hash[row], row)
        self._length[row] = 0
        self._free[self._state[_FREE]] = row
        self._state[_FREE] += 1
        self._state[_NAMED] -= length
        if self._state[_BLOB] > 2 * self._state[_NAMED] + len(self._blob) // 2:
            self._compact()

    def _fill(
        self,
        n: int,
        data: NDArray[np.uint8],
        ok: NDArray[np.bool_],
        at: NDArray[np.int64],
        length: NDArray[np.int64],
        hashes: NDArray[np.uint64],
        rows: NDArray[np.int32],
        room: int,
    ) -> bool:
        begin, misplaced = 0, False
        while True:
            stopped, some, left = fill_rows(
                begin,
                n,
                room,
                self._place,
                (data, ok, at, length, hashes),
                rows,
                (self._slots, self._hash, self._free, self._blob, self._at, self._length),
                self._state,
            )
            begin, room = int(stopped), int(left)
            misplaced |= bool(some)
            if begin == n:
                return misplaced
            self._grow(int(length[begin]))

    def _grow(self, name_bytes: int) -> None:
        """Room for one more SKU of that length, twice as much as now where it lacks."""
        if self._state[_BLOB] + name_bytes > len(self._blob):
            self._blob = _widened(self._blob, 2 * len(self._blob) + name_bytes)
        if self._state[_ROWS] == self.capacity and not self._state[_FREE]:
            capacity = 2 * self.capacity
            self._hash = _widened(self._hash, capacity)
            self._free = _widened(self._free, capacity)
            self._at = _widened(self._at, capacity)
            self._length = _widened(self._length, capacity)
            self._slots = np.zeros((2 * capacity, 2), np.uint64)
            fill_slots(self._slots, self._hash, self._length)

    def _compact(self) -> None:
        """Close the holes that removed names left in the blob."""
        rows = np.flatnonzero(self._length)
        length = self._length[rows].astype(np.int64)
        at = np.cumsum(length) - length
        total = int(self._state[_NAMED])
        from_at = np.repeat(self._at[rows] - at, length) + np.arange(total)
        blob = np.zeros(max(2 * total, CAPACITY_FIRST * NAME_BYTES_FIRST), np.uint8)
        blob[:total] = self._blob[from_at]
        self._blob = blob
        self._at[rows] = at
        self._state[_BLOB] = total


def _widened(array: NDArray[T], length: int) -> NDArray[T]:
    wider = np.zeros(length, array.dtype)
    wider[: len(array)] = array
    return wider
