"""The kernels' raw memory for plain Python: every access is looked at, one outside is a find.

Compiled, they read and write where they are told; here an index beyond an array, too, is an error.
Numbers are of numpy's types, so that they wrap as the compiled ones do.
"""

import ctypes

import numpy as np

from streams.codec.compiled import Memory

WORD_BYTES = 8
_LOW = np.uint64(0xFF)


def byte(memory: Memory, at: int) -> np.int64:
    return np.int64(ctypes.string_at(_inside(memory, at, 1), 1)[0])


def word(memory: Memory, at: int) -> np.uint64:
    data = ctypes.string_at(_inside(memory, at, WORD_BYTES), WORD_BYTES)
    return np.uint64(int.from_bytes(data, "little"))


def put_byte(memory: Memory, at: int, number: int) -> None:
    ctypes.memset(_inside(memory, at, 1), int(number) & 0xFF, 1)


def put_word(memory: Memory, at: int, number: np.uint64) -> None:
    place = _inside(memory, at, WORD_BYTES)
    ctypes.memmove(place, int(number).to_bytes(WORD_BYTES, "little"), WORD_BYTES)


def trailing_zeros(number: np.uint64) -> int:
    assert number != 0, "of no use to the kernels, and undefined when compiled"
    return (int(number) & -int(number)).bit_length() - 1


def _inside(memory: Memory, at: int, size: int) -> int:
    if not 0 <= at <= memory.size - size:
        raise IndexError(f"{size} bytes at {at} of {memory.size}")
    return int(memory.address) + int(at)
