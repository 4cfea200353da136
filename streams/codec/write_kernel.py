"""Arrays to the records of a batch in one compiled pass: from a template, and changelog rows.

A record is laid out as drawn in `plain`, with no timestamp of its own. Its size is worked out
before a byte is written, so that nothing is written that does not fit.
"""

from typing import Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from streams.codec.columns import Bytes, Int64s, NameArrays
from streams.codec.compiled import (
    Memory,
    byte,
    compiled,
    inlined,
    put_byte,
    put_word,
    signed,
    word,
)

_U = np.uint64
Item = TypeVar("Item", bound=np.generic)
SLACK: Final = 8  # bytes that may be written, or read, beyond the end of what is meant
INTEGER: Final = 0  # kinds of columns
THOUSANDTHS: Final = 1
CHOICE: Final = 2
ID_TEXT_BYTES: Final = 36  # 32 hexadecimal digits, and a dash after 8, 12, 16 and 20 of them
_QUOTE: Final = 0x22
_BACKSLASH: Final = 0x5C
_HEX: Final = np.frombuffer(b"0123456789abcdef", np.uint8)
_SHORT: Final = np.frombuffer(b"\0\0\0\0\0\0\0\0btn\0fr", np.uint8)  # \b \t \n \f \r


class Layout(NamedTuple):
    """A template for the kernel: piece i of all its texts is `texts[at[i] : at[i] + size[i]]`.

    With k columns: piece 0, SKU, piece 1, column 0, piece 2, ... column k - 1, piece k + 1 are the
    value; piece k + 2 and piece k + 3 the headers before and after the id; then the choices.
    """

    kinds: Int64s
    texts: Bytes
    at: Int64s
    size: Int64s


def templated(
    first: int,
    names: NameArrays,
    rows: Int64s,
    layout: Layout,
    columns: Int64s,
    ids: Bytes,
    out: Bytes,
    room: int,
) -> tuple[int, int]:
    """Records of rows[first:] into `out` until `room` is full, one at least; (bytes, records).

    `columns` int64 [n, k], none negative; `ids` uint8 [n, 16], or [0, 16] for records without.
    `out` has room for one more of the largest records than `room` says.
    """
    return _put_templated(
        first,
        _normal(names),
        _constant(rows, np.int64),
        Layout(
            _constant(layout.kinds, np.int64),
            _constant(layout.texts, np.uint8),
            _constant(layout.at, np.int64),
            _constant(layout.size, np.int64),
        ),
        _constant(columns, np.int64),
        _constant(ids, np.uint8),
        out,
        room,
    )


def rows(
    first: int, names: NameArrays, rows: Int64s, values: Bytes, out: Bytes, room: int
) -> tuple[int, int]:
    """As `windows`, the value of rows[i] being the bytes `values[i]`, uint8 [n, W]."""
    blob, at, length = _normal(names)
    values = _constant(values, np.uint8)
    return _put_rows(first, blob, at, length, _constant(rows, np.int64), values, out, room)


def _normal(names: NameArrays) -> NameArrays:
    """One type always, so that there is one compiled form."""
    return NameArrays(
        _constant(names.blob, np.uint8),
        _constant(names.at, np.int64),
        _constant(names.length, np.int32),
    )


def _constant(array: NDArray[Item], dtype: type[Item]) -> NDArray[Item]:
    view = np.ascontiguousarray(array, dtype).view()
    view.flags.writeable = False
    return view


@compiled
def _put_templated(
    first: int,
    name_arrays: NameArrays,
    rows: Int64s,
    layout: Layout,
    columns: Int64s,
    ids: Bytes,
    out: Bytes,
    room: int,
) -> tuple[int, int]:
    names = Memory(name_arrays.blob.ctypes.data, len(name_arrays.blob))
    texts = Memory(layout.texts.ctypes.data, len(layout.texts))
    target = Memory(out.ctypes.data, len(out))
    id_bytes = Memory(ids.ctypes.data, ids.size)
    kinds, piece_at, piece_size = layout.kinds, layout.at, layout.size
    width = len(kinds)
    fixed_size = 0
    for j in range(width + 2):
        fixed_size += piece_size[_U(j)]
    headers_size = piece_size[_U(width + 2)] + piece_size[_U(width + 3)]
    if len(ids) > 0:
        headers_size += ID_TEXT_BYTES
    at = count = 0
    for i in range(first, len(rows)):
        row = _U(rows[_U(i)])
        k = _U(i)
        key_at = name_arrays.at[row]
        key_size = signed(name_arrays.length[row])
        text_size = _escaped_size(names, key_at, key_size)
        value_size = fixed_size + text_size
        for j in range(width):
            value_size += _field_size(kinds[_U(j)], columns[k, _U(j)], piece_size)
        length = _record_length(count, key_size, value_size, headers_size)
        if count > 0 and at + _varint_size(length) + length > room:
            break
        at = _put_start(target, at, length, count, names, key_at, key_size, value_size)
        at = _put_copy(target, at, texts, piece_at[0], piece_size[0])
        if text_size == key_size:
            at = _put_copy(target, at, names, key_at, key_size)
        else:
            at = _put_escaped(target, at, names, key_at, key_size)
        for j in range(width):
            piece = _U(j + 1)
            at = _put_copy(target, at, texts, piece_at[piece], piece_size[piece])
            number = columns[k, _U(j)]
            if kinds[_U(j)] == CHOICE:
                piece = _U(number)
                at = _put_copy(target, at, texts, piece_at[piece], piece_size[piece])
            elif kinds[_U(j)] == THOUSANDTHS:
                at = _put_thousandths(target, at, number)
            else:
                at = _put_number(target, at, number)
        for j in range(width + 1, width + 3):
            at = _put_copy(target, at, texts, piece_at[_U(j)], piece_size[_U(j)])
        if len(ids) > 0:
            at = _put_id(target, at, id_bytes, i * ids.shape[1])
        piece = _U(width + 3)
        at = _put_copy(target, at, texts, piece_at[piece], piece_size[piece])
        count += 1
    return at, count


@compiled
def _put_rows(
    first: int,
    blob: Bytes,
    name_at: Int64s,
    name_length: NDArray[np.int32],
    rows: Int64s,
    values: Bytes,
    out: Bytes,
    room: int,
) -> tuple[int, int]:
    names = Memory(blob.ctypes.data, len(blob))
    contents = Memory(values.ctypes.data, values.size)
    target = Memory(out.ctypes.data, len(out))
    value_size = values.shape[1]
    at = count = 0
    for i in range(first, len(rows)):
        row = _U(rows[_U(i)])
        key_size = signed(name_length[row])
        length = _record_length(count, key_size, value_size, 1)
        if count > 0 and at + _varint_size(length) + length > room:
            break
        at = _put_start(target, at, length, count, names, name_at[row], key_size, value_size)
        at = _put_copy(target, at, contents, i * value_size, value_size)
        put_byte(target, at, 0)  # no headers
        at += 1
        count += 1
    return at, count


@inlined
def _record_length(index: int, key_size: int, value_size: int, headers_size: int) -> int:
    """Of attributes, timestamp delta, offset delta, key, value, and headers with their number."""
    keys = _varint_size(key_size) + key_size
    return 2 + _varint_size(index) + keys + _varint_size(value_size) + value_size + headers_size


@inlined
def _put_start(
    out: Memory,
    at: int,
    length: int,
    index: int,
    names: Memory,
    key_at: int,
    key_size: int,
    value_size: int,
) -> int:
    """All of a record up to its value; the place after."""
    at = _put_varint(out, at, length)
    put_byte(out, at, 0)
    put_byte(out, at + 1, 0)
    at = _put_varint(out, at + 2, index)
    at = _put_varint(out, at, key_size)
    at = _put_copy(out, at, names, key_at, key_size)
    return _put_varint(out, at, value_size)


@inlined
def _varint_size(number: int) -> int:
    zigzag = number << 1
    size = 1
    while zigzag >= 128:
        zigzag >>= 7
        size += 1
    return size


@inlined
def _put_varint(out: Memory, at: int, number: int) -> int:
    zigzag = number << 1  # never negative here
    while zigzag >= 128:
        put_byte(out, at, zigzag & 127 | 128)
        zigzag >>= 7
        at += 1
    put_byte(out, at, zigzag)
    return at + 1


@inlined
def _put_copy(out: Memory, at: int, source: Memory, source_at: int, size: int) -> int:
    """`size` bytes of `source`; up to SLACK bytes after them in `out` are overwritten."""
    done = 0
    while done < size and source_at + done + 8 <= source.size:
        put_word(out, at + done, word(source, source_at + done))
        done += 8
    while done < size:
        put_byte(out, at + done, byte(source, source_at + done))
        done += 1
    return at + size


@inlined
def _digits(number: int) -> int:
    count = 1
    while number >= 10_000:
        number //= 10_000
        count += 4
    if number >= 1_000:
        return count + 3
    if number >= 100:
        return count + 2
    return count + 1 if number >= 10 else count


@inlined
def _put_number(out: Memory, at: int, number: int) -> int:
    end = at + _digits(number)
    left = _U(number)
    place = end - 1
    while place >= at:
        quotient = left // _U(10)
        put_byte(out, place, signed(left - quotient * _U(10)) + 0x30)
        left = quotient
        place -= 1
    return end


@inlined
def _field_size(kind: int, number: int, piece_size: Int64s) -> int:
    if kind == CHOICE:
        return piece_size[_U(number)]  # type: ignore[no-any-return]
    if kind == THOUSANDTHS:
        return _digits(number // 1_000) + 1 + _decimals(number % 1_000)
    return _digits(number)


@inlined
def _decimals(thousandths: int) -> int:
    """Digits after the point: as few as say it, one at least."""
    if thousandths % 100 == 0:
        return 1
    return 2 if thousandths % 10 == 0 else 3


@inlined
def _put_thousandths(out: Memory, at: int, number: int) -> int:
    at = _put_number(out, at, number // 1_000)
    rest = number % 1_000
    put_byte(out, at, 0x2E)  # the point
    put_byte(out, at + 1, 0x30 + rest // 100)
    put_byte(out, at + 2, 0x30 + rest // 10 % 10)
    put_byte(out, at + 3, 0x30 + rest % 10)
    return at + 1 + _decimals(rest)


@inlined
def _put_id(out: Memory, at: int, ids: Memory, id_at: int) -> int:
    for place in range(16):
        if place in (4, 6, 8, 10):
            put_byte(out, at, 0x2D)  # a dash
            at += 1
        c = byte(ids, id_at + place)
        put_byte(out, at, signed(_HEX[_U(c >> 4)]))
        put_byte(out, at + 1, signed(_HEX[_U(c & 15)]))
        at += 2
    return at


@inlined
def _escaped_size(names: Memory, at: int, size: int) -> int:
    """Bytes of a name as a JSON string, without its quotes."""
    total = size
    for place in range(at, at + size):
        c = byte(names, place)
        if c in (_QUOTE, _BACKSLASH):
            total += 1
        elif c < 32:
            total += 1 if c < len(_SHORT) and _SHORT[_U(c)] != 0 else 5
    return total


@inlined
def _put_escaped(out: Memory, at: int, names: Memory, name_at: int, size: int) -> int:
    for place in range(name_at, name_at + size):
        c = byte(names, place)
        if c >= 32 and c != _QUOTE and c != _BACKSLASH:
            put_byte(out, at, c)
            at += 1
            continue
        put_byte(out, at, _BACKSLASH)
        if c >= 32:
            put_byte(out, at + 1, c)
            at += 2
        elif c < len(_SHORT) and _SHORT[_U(c)] != 0:
            put_byte(out, at + 1, signed(_SHORT[_U(c)]))
            at += 2
        else:
            put_byte(out, at + 1, 0x75)  # u
            put_byte(out, at + 2, 0x30)
            put_byte(out, at + 3, 0x30)
            put_byte(out, at + 4, signed(_HEX[_U(c >> 4)]))
            put_byte(out, at + 5, signed(_HEX[_U(c & 15)]))
            at += 6
    return at
