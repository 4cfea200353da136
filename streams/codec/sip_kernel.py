"""SipHash-1-3 compiled: `siphash.hash64` and `hash128` on bytes in memory."""

from typing import Final

import numpy as np

from streams.codec.compiled import Memory, byte, inlined, word

U = np.uint64
State = tuple[np.uint64, np.uint64, np.uint64, np.uint64]

_START_0: Final = U(0x736F6D6570736575)
_START_1: Final = U(0x646F72616E646F6D)
_START_2: Final = U(0x6C7967656E657261)
_START_3: Final = U(0x7465646279746573)
_13, _51 = U(13), U(51)
_16, _48 = U(16), U(48)
_17, _47 = U(17), U(47)
_21, _43 = U(21), U(43)
_32 = U(32)
_56 = U(56)
_LOW: Final = U(0xFF)
_WIDE: Final = U(0xEE)
_WIDE_END: Final = U(0xDD)
_NARROW: Final = U(0)


@inlined
def hash64_at(b: Memory, at: int, size: int, k0: np.uint64, k1: np.uint64) -> np.uint64:
    """SipHash-1-3 of `b[at : at + size]`."""
    v0, v1, v2, v3 = _absorbed(b, at, size, k0, k1, _NARROW)
    v2 ^= _LOW
    v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    return v0 ^ v1 ^ v2 ^ v3


@inlined
def hash128_at(
    b: Memory, at: int, size: int, k0: np.uint64, k1: np.uint64
) -> tuple[np.uint64, np.uint64]:
    """SipHash-1-3 of `b[at : at + size]` in 128 bits: (low, high)."""
    v0, v1, v2, v3 = _absorbed(b, at, size, k0, k1, _WIDE)
    v2 ^= _WIDE
    v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    low = v0 ^ v1 ^ v2 ^ v3
    v1 ^= _WIDE_END
    v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    return low, v0 ^ v1 ^ v2 ^ v3


@inlined
def _absorbed(
    b: Memory, at: int, size: int, k0: np.uint64, k1: np.uint64, width: np.uint64
) -> State:
    v0 = k0 ^ _START_0
    v1 = k1 ^ _START_1 ^ width
    v2 = k0 ^ _START_2
    v3 = k1 ^ _START_3
    end = at + size
    while at + 8 <= end:
        w = word(b, at)
        v3 ^= w
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
        v0 ^= w
        at += 8
    w = (U(size) & _LOW) << _56
    left = end - at
    if left > 0 and at + 8 <= b.size:
        w |= word(b, at) & ((U(1) << U(8 * left)) - U(1))
    else:
        for place in range(left):
            w |= U(byte(b, at + place)) << U(8 * place)
    v3 ^= w
    v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    v0 ^= w
    return v0, v1, v2, v3


@inlined
def _round(v0: np.uint64, v1: np.uint64, v2: np.uint64, v3: np.uint64) -> State:
    v0 += v1
    v1 = (v1 << _13 | v1 >> _51) ^ v0
    v0 = v0 << _32 | v0 >> _32
    v2 += v3
    v3 = (v3 << _16 | v3 >> _48) ^ v2
    v0 += v3
    v3 = (v3 << _21 | v3 >> _43) ^ v0
    v2 += v1
    v1 = (v1 << _17 | v1 >> _47) ^ v2
    v2 = v2 << _32 | v2 >> _32
    return v0, v1, v2, v3
