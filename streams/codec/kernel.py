"""Record batches to columns in one compiled pass, no Python object per event.

It takes what is plainly good. A record it is not sure of gets `ok` False and goes to the strict
decoder; so the kernel never refuses a record, and it must never accept one that the strict
decoder would refuse. The layout of a batch is drawn in `plain`.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from streams.codec import write_columns
from streams.codec.columns import Bytes, Columns, Int64s, NameArrays, UInt64s
from streams.codec.compiled import Memory, byte, compiled, inlined, signed, word
from streams.codec.crc_kernel import HAS_INSTRUCTION, checksums
from streams.codec.event_kernel import SURE_WITH_UNKNOWN, UNSURE, scan_event
from streams.codec.plain import (
    CODEC_MASK,
    CONTROL,
    HEADER_BYTES,
    LENGTH_END,
    LOG_APPEND_TIME,
    OFFSET_MAX,
)
from streams.codec.sip_kernel import hash64_at, hash128_at
from streams.codec.siphash import HashKey
from streams.codec.strict import VALUE_BYTES_MAX

FINISHED: Final = 0
FULL: Final = 1  # the columns are full: go on at `place`
CORRUPT: Final = 2  # `place` is in a corrupt batch

_U = np.uint64
_VARINT_BITS: Final = 70
_BAD: Final = -(2**62)  # a place or length that means: corrupt
_NULL: Final = -1


def decode(
    data: Bytes,
    kind: int,
    first_offset: int,
    future_tolerance_ms: int,
    key: HashKey,
    place: Int64s,
    columns: Columns,
) -> tuple[int, int, int]:
    """Fills `columns` from `data`, uint8, from `place` on: see `Decoder.decode`.

    `place` is [batch at, record index, record at] and is moved on. Returns (records,
    records with unknown fields, FINISHED or FULL or CORRUPT).
    """
    data = data.view()
    data.flags.writeable = False  # of one type always, so that there is one compiled form
    return _decode(
        data,
        kind,
        first_offset,
        future_tolerance_ms,
        np.uint64(key[0]),
        np.uint64(key[1]),
        place,
        columns.offset,
        columns.timestamp_ms,
        columns.record_at,
        columns.event_time_ms,
        columns.price_cents,
        columns.quantity,
        columns.sku_at,
        columns.sku_length,
        columns.sku_hash,
        columns.event_hash_low,
        columns.event_hash_high,
        columns.ok,
    )


@compiled
def _decode(
    data: Bytes,
    kind: int,
    first_offset: int,
    future_tolerance_ms: int,
    k0: np.uint64,
    k1: np.uint64,
    place: Int64s,
    offset: Int64s,
    timestamp_ms: Int64s,
    record_at: Int64s,
    event_time_ms: Int64s,
    price_cents: Int64s,
    quantity: Int64s,
    sku_at: Int64s,
    sku_length: Int64s,
    sku_hash: UInt64s,
    event_hash_low: UInt64s,
    event_hash_high: UInt64s,
    ok: NDArray[np.bool_],
) -> tuple[int, int, int]:
    b = Memory(data.ctypes.data, len(data))
    capacity = len(offset)
    n = unknown = 0
    batch_at, index, at = place[0], place[1], place[2]
    while batch_at + HEADER_BYTES <= b.size:
        base = _big(b, batch_at, 8)
        length = _big(b, batch_at + 8, 4)
        attributes = _big(b, batch_at + 21, 2)
        delta_max = _big(b, batch_at + 23, 4)
        first_ms = _big(b, batch_at + 27, 8)
        max_ms = _big(b, batch_at + 35, 8)
        count = _big(b, batch_at + 57, 4)
        batch_end = batch_at + LENGTH_END + length
        place[0], place[1], place[2] = batch_at, index, at
        if (
            byte(b, batch_at + 16) != 2
            or length < HEADER_BYTES - LENGTH_END
            or attributes & (CODEC_MASK | CONTROL)
            or delta_max < 0
            or count < 0
            or not 0 <= base <= OFFSET_MAX
        ):
            return n, unknown, CORRUPT
        if batch_end > b.size:
            break
        while index < count:
            if n == capacity:
                place[1], place[2] = index, at
                return n, unknown, FULL
            delta_ms, delta, key_at, key_size, value_at, value_size, end = _record(b, at, batch_end)
            if end == _BAD or not 0 <= delta <= delta_max:
                return n, unknown, CORRUPT
            if base + delta >= first_offset:
                k = _U(n)
                offset[k] = base + delta
                stamp_ms = max_ms if attributes & LOG_APPEND_TIME else first_ms + delta_ms
                timestamp_ms[k] = stamp_ms
                record_at[k] = at
                status = UNSURE
                time_ms = price = units = id_at = id_size = sku = sku_size = 0
                if 0 <= value_size <= VALUE_BYTES_MAX:
                    status, time_ms, price, units, id_at, id_size, sku, sku_size = scan_event(
                        b, value_at, value_at + value_size, kind
                    )
                good = (
                    status != UNSURE
                    and sku_size == key_size
                    and _same(b, sku, key_at, key_size)
                    and time_ms - future_tolerance_ms <= stamp_ms
                )
                ok[k] = good
                if good:
                    unknown += status == SURE_WITH_UNKNOWN
                    event_time_ms[k] = time_ms
                    price_cents[k] = price
                    quantity[k] = units
                    sku_at[k] = key_at
                    sku_length[k] = key_size
                    sku_hash[k] = hash64_at(b, key_at, key_size, k0, k1)
                    low, high = hash128_at(b, id_at, id_size, k0, k1)
                    event_hash_low[k] = low
                    event_hash_high[k] = high
                n += 1
            index += 1
            at = end
        if at != batch_end:
            return n, unknown, CORRUPT
        batch_at, index, at = batch_end, 0, batch_end + HEADER_BYTES
    place[0], place[1], place[2] = batch_at, index, at
    return n, unknown, FINISHED


def is_sound(data: Bytes, batch_at: int, batch_end: int) -> bool:
    """Whether the uncompressed batch `data[batch_at : batch_end]`, uint8, is made of records as its
    header says, their offsets ascending.
    """
    data = data.view()
    data.flags.writeable = False
    return bool(_is_sound(data, batch_at, batch_end))


@compiled
def _is_sound(data: Bytes, batch_at: int, batch_end: int) -> bool:
    b = Memory(data.ctypes.data, len(data))
    delta_max = _big(b, batch_at + 23, 4)
    count = _big(b, batch_at + 57, 4)
    at = batch_at + HEADER_BYTES
    before = -1
    for _ in range(count):
        _, delta, _, _, _, _, end = _record(b, at, batch_end)
        if end == _BAD or not before < delta <= delta_max:
            return False
        before = delta
        at = end
    return count >= 0 and delta_max >= 0 and at == batch_end


@inlined
def _record(b: Memory, at: int, limit: int) -> tuple[int, int, int, int, int, int, int]:
    """(timestamp delta, offset delta, key's place and size, value's, where the record ends).

    The last is _BAD when the record does not fit itself or `limit`.
    """
    bad = (0, 0, 0, 0, 0, 0, _BAD)
    length, at = _varint(b, at, limit)
    if at == _BAD or length < 1 or length > limit - at:
        return bad
    end = at + length
    delta_ms, at = _varint(b, at + 1, end)
    delta, at = _varint(b, at, end)
    key_size, key_at = _varint(b, at, end)
    at = _after(key_at, key_size, end)
    value_size, value_at = _varint(b, at, end)
    at = _after(value_at, value_size, end)
    headers, at = _varint(b, at, end)
    if headers < 0:
        return bad
    while headers > 0 and at != _BAD:
        size, at = _varint(b, at, end)
        if size < 0:
            return bad
        at = _after(at, size, end)
        size, at = _varint(b, at, end)
        at = _after(at, size, end)
        headers -= 1
    if at != end:
        return bad
    return delta_ms, delta, key_at, key_size, value_at, value_size, end


@inlined
def _after(at: int, size: int, end: int) -> int:
    """The place after a field of `size` bytes, which is -1 for null; _BAD if it is beyond `end`."""
    if at == _BAD or size < _NULL or size > end - at:
        return _BAD
    return at + size if size > 0 else at


@inlined
def _varint(b: Memory, at: int, end: int) -> tuple[int, int]:
    """The zigzag integer at `at` and the place after it; _BAD if it is cut off or too long."""
    if at == _BAD or at >= end:
        return 0, _BAD
    c = byte(b, at)
    at += 1
    if c < 128:
        return (c >> 1) ^ -(c & 1), at
    number = _U(c & 127)
    shift = 7
    while at < end and shift < _VARINT_BITS:
        c = byte(b, at)
        at += 1
        number |= _U(c & 127) << _U(shift)
        if c < 128:
            return signed(number >> _U(1)) ^ -signed(number & _U(1)), at
        shift += 7
    return 0, _BAD


@inlined
def _big(b: Memory, at: int, size: int) -> int:
    """A signed big-endian integer of a batch header."""
    number = byte(b, at)
    if number > 127:
        number -= 256
    for place in range(1, size):
        number = number << 8 | byte(b, at + place)
    return number


@inlined
def _same(b: Memory, one: int, other: int, size: int) -> bool:
    """Are the `size` bytes at both places alike?"""
    while size >= 8:
        if word(b, one) != word(b, other):
            return False
        one += 8
        other += 8
        size -= 8
    for place in range(size):  # noqa: SIM110 - compiled, where a loop is what it is
        if byte(b, one + place) != byte(b, other + place):
            return False
    return True


def warm_up() -> None:
    """Compiles all there is to compile, or finds it on disk: some seconds, or a fraction of one."""
    names = NameArrays.of([b"warm"])
    rows = np.zeros(1, np.int64)
    (batch,) = write_columns.encode_rows(names, rows, np.zeros((1, 1), np.uint8))
    write_columns.encode_windows(0, 1, names, rows, np.zeros((1, 8), np.int64))
    data = np.frombuffer(batch.whole(0, 0), np.uint8)
    place = np.array([0, 0, HEADER_BYTES], np.int64)
    decode(data, 0, 0, 0, (0, 0), place, Columns.of(1))
    is_sound(data, 0, len(data))
    if HAS_INSTRUCTION:
        checksums(np.zeros((1, 1), np.uint8), 0)
