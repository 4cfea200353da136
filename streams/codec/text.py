"""Scanning JSON eight bytes at a time: strings, integers, white space. Parts of the kernel.

Every function takes the bytes, a place, and `end`, where the value ends; none reads beyond the
memory. A place of `end` or more means that what was looked for is not there.
"""

from typing import Final

import numpy as np

from streams.codec.compiled import Memory, byte, inlined, signed, trailing_zeros, word

U = np.uint64

QUOTE: Final = 0x22
BACKSLASH: Final = 0x5C
INVALID: Final = -1

_ONES: Final = U(0x0101010101010101)
_HIGHS: Final = U(0x8080808080808080)
_QUOTES: Final = U(0x2222222222222222)
_BACKSLASHES: Final = U(0x5C5C5C5C5C5C5C5C)
_SPACES: Final = U(0x2020202020202020)
_ZEROS: Final = U(0x3030303030303030)
_ABOVE_NINE: Final = U(0x7676767676767676)
_TENS: Final = U(1 + (10 << 8))
_HUNDREDS: Final = U(1 + (100 << 16))
_MYRIADS: Final = U(1 + (10_000 << 32))
_PAIRS: Final = U(0x00FF00FF00FF00FF)
_QUADS: Final = U(0x0000FFFF0000FFFF)
_SHIFT_8: Final = U(8)
_SHIFT_16: Final = U(16)
_SHIFT_32: Final = U(32)
_POWERS: Final = np.array([10**n for n in range(9)], np.int64)
_ESCAPES: Final = (QUOTE, BACKSLASH, 0x2F, 0x62, 0x66, 0x6E, 0x72, 0x74)  # " \\ / b f n r t
DIGITS_MAX: Final = 18  # of an integer that fits 64 bits whatever its digits


@inlined
def skip_space(b: Memory, at: int, end: int) -> int:
    """The first place that is no JSON white space."""
    while at < end:
        c = byte(b, at)
        if c > 32 or (c != 32 and c != 10 and c != 13 and c != 9):
            break
        at += 1
    return at


@inlined
def plain_end(b: Memory, at: int, end: int) -> int:
    """The first quote, backslash, control character or byte above 127; at least `end` if none."""
    while at + 8 <= b.size:
        w = word(b, at)
        quote = w ^ _QUOTES
        slash = w ^ _BACKSLASHES
        found = (
            ((quote - _ONES) & ~quote) | ((slash - _ONES) & ~slash) | ((w - _SPACES) & ~w) | w
        ) & _HIGHS
        if found != U(0):
            return at + (trailing_zeros(found) >> 3)
        at += 8
        if at >= end:
            return at
    while at < end:
        c = byte(b, at)
        if c in (QUOTE, BACKSLASH) or c < 32 or c > 127:
            break
        at += 1
    return at


@inlined
def text_end(b: Memory, at: int, end: int) -> tuple[int, bool]:
    """Where the string that began at `at` has its closing quote, and whether it has escapes.

    INVALID when it has none, or holds a control character, bad UTF-8 or a bad escape.
    """
    escaped = False
    while True:
        at = plain_end(b, at, end)
        if at >= end:
            return INVALID, escaped
        c = byte(b, at)
        if c == QUOTE:
            return at, escaped
        if c == BACKSLASH:
            escaped = True
            at = _escape_end(b, at, end)
        elif c > 127:
            at = _character_end(b, at, end)
        else:
            return INVALID, escaped
        if at == INVALID:
            return INVALID, escaped


@inlined
def _escape_end(b: Memory, at: int, end: int) -> int:
    """After the escape whose backslash is at `at`; a pair of surrogates is one escape."""
    if at + 2 > end:
        return INVALID
    c = byte(b, at + 1)
    if c != 0x75:  # u
        return at + 2 if c in _ESCAPES else INVALID
    unit = _hex(b, at + 2, end)
    if unit < 0 or 0xDC00 <= unit <= 0xDFFF:
        return INVALID
    if unit < 0xD800 or unit > 0xDFFF:
        return at + 6
    if at + 8 > end or byte(b, at + 6) != BACKSLASH or byte(b, at + 7) != 0x75:
        return INVALID
    low = _hex(b, at + 8, end)
    return at + 12 if 0xDC00 <= low <= 0xDFFF else INVALID


@inlined
def _hex(b: Memory, at: int, end: int) -> int:
    """Four hexadecimal digits; INVALID if they are not."""
    if at + 4 > end:
        return INVALID
    number = 0
    for place in range(4):
        c = byte(b, at + place)
        if 0x30 <= c <= 0x39:
            digit = c - 0x30
        elif 0x41 <= c <= 0x46:
            digit = c - 0x37
        elif 0x61 <= c <= 0x66:
            digit = c - 0x57
        else:
            return INVALID
        number = number * 16 + digit
    return number


@inlined
def _character_end(b: Memory, at: int, end: int) -> int:
    """After the UTF-8 character of more than one byte at `at` (RFC 3629, table 3-7 of Unicode)."""
    c = byte(b, at)
    low = 0x80
    high = 0xBF
    if 0xC2 <= c <= 0xDF:
        more = 1
    elif 0xE0 <= c <= 0xEF:
        more = 2
        if c == 0xE0:
            low = 0xA0
        elif c == 0xED:
            high = 0x9F
    elif 0xF0 <= c <= 0xF4:
        more = 3
        if c == 0xF0:
            low = 0x90
        elif c == 0xF4:
            high = 0x8F
    else:
        return INVALID
    if at + more >= end:
        return INVALID
    second = byte(b, at + 1)
    if second < low or second > high:
        return INVALID
    for place in range(2, more + 1):
        if byte(b, at + place) & 0xC0 != 0x80:
            return INVALID
    return at + more + 1


@inlined
def integer(b: Memory, at: int, end: int) -> tuple[int, int]:
    """The integer whose first digit is at `at`, and the place after it.

    The place is INVALID for a leading zero and for more digits than DIGITS_MAX.
    """
    start = at
    number = 0
    while at + 8 <= b.size and at < end:
        w = word(b, at) ^ _ZEROS
        others = ((w + _ABOVE_NINE) | w) & _HIGHS
        count = 8 if others == U(0) else trailing_zeros(others) >> 3
        if count == 0:
            break
        number = number * _POWERS[U(count)] + _eight(w << U(64 - 8 * count))
        at += count
        if at - start > DIGITS_MAX:
            return 0, INVALID
        if count < 8:
            break
    while at < end and 0x30 <= byte(b, at) <= 0x39:
        number = number * 10 + (byte(b, at) - 0x30)
        at += 1
        if at - start > DIGITS_MAX:
            return 0, INVALID
    if at > end or (byte(b, start) == 0x30 and at - start > 1):
        return 0, INVALID
    return number, at


@inlined
def _eight(w: np.uint64) -> int:
    """Eight digits, each a byte of 0 to 9, the lowest byte first: 2 x 2 x 2 at once."""
    w = (w * _TENS >> _SHIFT_8) & _PAIRS
    w = (w * _HUNDREDS >> _SHIFT_16) & _QUADS
    return signed(w * _MYRIADS >> _SHIFT_32)
