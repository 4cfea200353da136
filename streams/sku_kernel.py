"""The compiled part of the SKU table, and of the partitioners that say which SKUs may enter it.

Slots are found by hash, with linear probing; at most half of them are taken.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.jit import njit
from models.prefetch import AHEAD, prefetch


def _crc32_table() -> NDArray[np.uint32]:
    rows = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (0xEDB88320 if value & 1 else 0)
        rows.append(value)
    return np.array(rows, np.uint32)


_CRC32: Final = _crc32_table()


# slots: uint64 [power of two, 2], each the SKU's hash and its row + 1 (0: empty)
Slots = NDArray[np.uint64]


@njit
def fill_rows(
    begin: int,
    n: int,
    room: int,
    place: tuple[int, int, int],
    keys: tuple[Any, ...],
    rows: NDArray[np.int32],
    table: tuple[Any, ...],
    state: NDArray[np.int64],
) -> tuple[np.int64, bool, np.int64]:
    """Rows of the keys [begin, n). Returns where it stopped, whether any key was misplaced, and
    how many new SKUs there is still room for.

    It stops before a new SKU for which the arrays are too small. `room` is how many new SKUs may
    get a row; `place` is (partition, partitions, partitioner code); `keys` are data, ok, at, length
    and hash; `table` and `state` are the SkuTable's arrays. Rows: -1 for a refused record and a SKU
    without a row, -2 for a misplaced one.
    """
    data, ok, key_at, key_length, key_hash = keys
    slots, hashes, free, blob, at, length = table
    partition, partitions, code = place
    mask = np.uint64(len(slots) - 1)
    misplaced = False
    for i in range(np.uint64(begin), np.uint64(n)):
        soon = i + np.uint64(AHEAD)
        if soon < np.uint64(n):
            prefetch(slots, key_hash[soon] & mask)
        if not ok[i]:
            rows[i] = -1
            continue
        first, count = np.uint64(key_at[i]), np.uint64(key_length[i])
        slot = key_hash[i] & mask
        row = np.int64(-1)
        while slots[slot, 1] != np.uint64(0):
            if slots[slot, 0] == key_hash[i]:
                r = slots[slot, 1] - np.uint64(1)
                if np.uint64(length[r]) == count and _same(data, first, blob, at[r], count):
                    row = np.int64(r)
                    break
            slot = (slot + np.uint64(1)) & mask
        if (
            row < 0
            and code != 0
            and partition != partition_in(data, key_at[i], key_length[i], partitions, code)
        ):
            rows[i] = -2
            misplaced = True
            continue
        if row < 0 and room > 0:
            if state[2] + key_length[i] > len(blob) or (state[0] == len(at) and state[1] == 0):
                return np.int64(i), misplaced, np.int64(room)
            room -= 1
            row = _take_row(state, free)
            slots[slot, 0] = key_hash[i]
            slots[slot, 1] = np.uint64(row + 1)
            hashes[row] = key_hash[i]
            at[row] = state[2]
            length[row] = key_length[i]
            for byte in range(count):
                blob[np.uint64(state[2]) + np.uint64(byte)] = data[first + np.uint64(byte)]
            state[2] += key_length[i]
            state[3] += key_length[i]
        rows[i] = row
    return np.int64(n), misplaced, np.int64(room)


@njit
def _take_row(state: NDArray[np.int64], free: NDArray[np.int32]) -> np.int64:
    if state[1] > 0:
        state[1] -= 1
        return np.int64(free[state[1]])
    state[0] += 1
    return np.int64(state[0] - 1)


@njit
def _same(
    left: NDArray[np.uint8],
    left_at: np.uint64,
    right: NDArray[np.uint8],
    right_at: np.int64,
    count: np.uint64,
) -> bool:
    from_right = np.uint64(right_at)
    for byte in range(count):
        if left[left_at + np.uint64(byte)] != right[from_right + np.uint64(byte)]:
            return False
    return True


@njit
def fill_slots(slots: Slots, hashes: NDArray[np.uint64], length: NDArray[np.int32]) -> None:
    """Enter every row that has a name (length above 0) into empty slots."""
    mask = np.uint64(len(slots) - 1)
    for row in range(len(length)):
        if length[row] == 0:
            continue
        slot = hashes[row] & mask
        while slots[slot, 1] != np.uint64(0):
            slot = (slot + np.uint64(1)) & mask
        slots[slot, 0] = hashes[row]
        slots[slot, 1] = np.uint64(row + 1)


@njit
def remove_slot(slots: Slots, sku_hash: np.uint64, row: int) -> None:
    """Take out `row`, and move back the entries behind it that would no longer be found."""
    one = np.uint64(1)
    mask = np.uint64(len(slots) - 1)
    hole = sku_hash & mask
    while slots[hole, 1] != np.uint64(row + 1):
        hole = (hole + one) & mask
    slot = (hole + one) & mask
    while slots[slot, 1] != np.uint64(0):
        home = slots[slot, 0] & mask
        if ((slot - home) & mask) >= ((slot - hole) & mask):
            slots[hole, 0] = slots[slot, 0]
            slots[hole, 1] = slots[slot, 1]
            hole = slot
        slot = (slot + one) & mask
    slots[hole, 0] = np.uint64(0)
    slots[hole, 1] = np.uint64(0)


@njit
def partition_in(data: NDArray[np.uint8], at: int, length: int, partitions: int, code: int) -> int:
    """The partition of data[at : at + length]; `code` as in partitioner.CODES."""
    if code == 1:
        return int((murmur2(data, at, length) & np.uint32(0x7FFFFFFF)) % np.uint32(partitions))
    if code == 2:
        return int(crc32(data, at, length) % np.uint32(partitions))
    return 0


@njit
def murmur2(data: NDArray[np.uint8], at: int, length: int) -> np.uint32:
    """Kafka's murmur2 (org.apache.kafka.common.utils.Utils), seed 0x9747b28c."""
    m = np.uint32(0x5BD1E995)
    h = np.uint32(0x9747B28C) ^ np.uint32(length)
    place = np.uint64(at)
    for _ in range(length >> 2):
        k = np.uint32(data[place])
        k = np.uint32(k | np.uint32(data[place + np.uint64(1)]) << np.uint32(8))
        k = np.uint32(k | np.uint32(data[place + np.uint64(2)]) << np.uint32(16))
        k = np.uint32(k | np.uint32(data[place + np.uint64(3)]) << np.uint32(24))
        k = np.uint32(k * m)
        k = np.uint32(k ^ (k >> np.uint32(24)))
        h = np.uint32(np.uint32(h * m) ^ np.uint32(k * m))
        place += np.uint64(4)
    rest = length & 3
    if rest == 3:
        h = np.uint32(h ^ np.uint32(data[place + np.uint64(2)]) << np.uint32(16))
    if rest >= 2:
        h = np.uint32(h ^ np.uint32(data[place + np.uint64(1)]) << np.uint32(8))
    if rest >= 1:
        h = np.uint32(np.uint32(h ^ np.uint32(data[place])) * m)
    h = np.uint32(np.uint32(h ^ (h >> np.uint32(13))) * m)
    return np.uint32(h ^ (h >> np.uint32(15)))


@njit
def crc32(data: NDArray[np.uint8], at: int, length: int) -> np.uint32:
    """CRC-32 (IEEE 802.3), as zlib's."""
    value = np.uint32(0xFFFFFFFF)
    for place in range(np.uint64(at), np.uint64(at + length)):
        byte = np.uint32(data[place])
        value = np.uint32(_CRC32[(value ^ byte) & np.uint32(0xFF)] ^ value >> np.uint32(8))
    return np.uint32(value ^ np.uint32(0xFFFFFFFF))
