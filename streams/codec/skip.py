"""Skipping a JSON value of an unknown field, nested or not. A part of the kernel."""

from typing import Final

import numpy as np

from streams.codec.compiled import Memory, apart, byte, inlined
from streams.codec.text import DIGITS_MAX, INVALID, QUOTE, skip_space, text_end

DEPTH_MAX: Final = 60  # below the strict decoder's limit, within the bits of a word
COLON: Final = 0x3A
COMMA: Final = 0x2C
OPEN: Final = 0x7B
CLOSE: Final = 0x7D
_OPEN_ARRAY: Final = 0x5B
_CLOSE_ARRAY: Final = 0x5D
_MINUS: Final = 0x2D
_POINT: Final = 0x2E
_EXPONENT_DIGITS_MAX: Final = 2  # so that no number is beyond what floats hold
_NULL: Final = int.from_bytes(b"null", "little")
_TRUE: Final = int.from_bytes(b"true", "little")
_FALS: Final = int.from_bytes(b"fals", "little")
_U = np.uint64
_ONE: Final = _U(1)


@apart
def value_end(b: Memory, at: int, end: int) -> int:
    """After the JSON value at `at`; INVALID if it is not valid, or deeper or longer than this
    function is sure of.
    """
    depth = 0
    objects = _U(0)  # one bit a level, the innermost lowest: an object, or an array
    while True:
        at = skip_space(b, at, end)
        if at >= end:
            return INVALID
        c = byte(b, at)
        if c in (OPEN, _OPEN_ARRAY):
            if depth == DEPTH_MAX:
                return INVALID
            depth += 1
            objects = objects << _ONE | _U(c == OPEN)
            at = skip_space(b, at + 1, end)
            if at >= end:
                return INVALID
            if byte(b, at) != (CLOSE if c == OPEN else _CLOSE_ARRAY):
                if c == OPEN:
                    at = _name_end(b, at, end)
                    if at == INVALID:
                        return INVALID
                continue
        elif c == QUOTE:
            at, _ = text_end(b, at + 1, end)
            if at == INVALID:
                return INVALID
            at += 1
        else:
            is_number = c == _MINUS or 0x30 <= c <= 0x39
            at = number_end(b, at, end) if is_number else literal_end(b, at, end)
            if at == INVALID:
                return INVALID
        while depth > 0:
            at = skip_space(b, at, end)
            if at >= end:
                return INVALID
            c = byte(b, at)
            in_object = objects & _ONE != _U(0)
            at += 1
            if c == COMMA:
                if in_object:
                    at = _name_end(b, skip_space(b, at, end), end)
                    if at == INVALID:
                        return INVALID
                break
            if c != (CLOSE if in_object else _CLOSE_ARRAY):
                return INVALID
            depth -= 1
            objects >>= _ONE
        if depth == 0:
            return at


@inlined
def _name_end(b: Memory, at: int, end: int) -> int:
    """After the colon that follows the name at `at`."""
    if at >= end or byte(b, at) != QUOTE:
        return INVALID
    at, _ = text_end(b, at + 1, end)
    if at == INVALID:
        return INVALID
    at = skip_space(b, at + 1, end)
    return at + 1 if at < end and byte(b, at) == COLON else INVALID


@inlined
def number_end(b: Memory, at: int, end: int) -> int:
    """After the number at `at`; INVALID if it is none, or one with very many digits."""
    if byte(b, at) == _MINUS:
        at += 1
    start = at
    at = _digits_end(b, at, end)
    if at == start or at - start > DIGITS_MAX or (byte(b, start) == 0x30 and at - start > 1):
        return INVALID
    if at < end and byte(b, at) == _POINT:
        start = at + 1
        at = _digits_end(b, start, end)
        if at == start or at - start > DIGITS_MAX:
            return INVALID
    if at < end and byte(b, at) | 0x20 == 0x65:  # e or E
        at += 1
        if at < end and (byte(b, at) == 0x2B or byte(b, at) == _MINUS):
            at += 1
        start = at
        at = _digits_end(b, at, end)
        if at == start or at - start > _EXPONENT_DIGITS_MAX:
            return INVALID
    return at


@inlined
def _digits_end(b: Memory, at: int, end: int) -> int:
    while at < end and 0x30 <= byte(b, at) <= 0x39:
        at += 1
    return at


@inlined
def literal_end(b: Memory, at: int, end: int) -> int:
    """After null, true or false; INVALID for anything else."""
    if at + 5 > end:  # after a whole literal there is a brace at least
        return INVALID
    four = byte(b, at) | byte(b, at + 1) << 8 | byte(b, at + 2) << 16 | byte(b, at + 3) << 24
    if four in (_NULL, _TRUE):
        return at + 4
    return at + 5 if four == _FALS and byte(b, at + 4) == 0x65 else INVALID
