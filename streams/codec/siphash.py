"""SipHash in plain Python: the meaning of the hashes that the kernel computes.

Keyed, so that nobody who chooses SKUs or event ids can choose collisions. Aumasson and Bernstein,
"SipHash: a fast short-input PRF" (2012); the 128-bit form is that of the authors' reference code.
Rounds are 1 and 3, as in Python's own hash of bytes.
"""

from typing import Final

MASK: Final = 2**64 - 1
START: Final = (0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573)

HashKey = tuple[int, int]


def hash64(key: HashKey, data: bytes) -> int:
    """SipHash-1-3 of `data`, 64 bits."""
    return siphash(key, data, 1, 3, wide=False)[0]


def hash128(key: HashKey, data: bytes) -> tuple[int, int]:
    """SipHash-1-3 of `data`, 128 bits: (low, high)."""
    low, high = siphash(key, data, 1, 3, wide=True)
    return low, high


def siphash(key: HashKey, data: bytes, blocks: int, ends: int, *, wide: bool) -> tuple[int, int]:
    """SipHash-`blocks`-`ends`; the second word is 0 unless `wide`."""
    v0, v1, v2, v3 = (word ^ key[place & 1] for place, word in enumerate(START))
    if wide:
        v1 ^= 0xEE
    whole = len(data) & ~7
    words = [int.from_bytes(data[at : at + 8], "little") for at in range(0, whole, 8)]
    words.append(int.from_bytes(data[whole:], "little") | (len(data) & 0xFF) << 56)
    state = (v0, v1, v2, v3)
    for word in words:
        v0, v1, v2, v3 = state
        v0, v1, v2, v3 = _rounds((v0, v1, v2, v3 ^ word), blocks)
        state = (v0 ^ word, v1, v2, v3)
    v0, v1, v2, v3 = state
    state = _rounds((v0, v1, v2 ^ (0xEE if wide else 0xFF), v3), ends)
    first = state[0] ^ state[1] ^ state[2] ^ state[3]
    if not wide:
        return first, 0
    v0, v1, v2, v3 = state
    state = _rounds((v0, v1 ^ 0xDD, v2, v3), ends)
    return first, state[0] ^ state[1] ^ state[2] ^ state[3]


def _rounds(state: tuple[int, int, int, int], count: int) -> tuple[int, int, int, int]:
    v0, v1, v2, v3 = state
    for _ in range(count):
        v0 = (v0 + v1) & MASK
        v1 = _rotated(v1, 13) ^ v0
        v0 = _rotated(v0, 32)
        v2 = (v2 + v3) & MASK
        v3 = _rotated(v3, 16) ^ v2
        v0 = (v0 + v3) & MASK
        v3 = _rotated(v3, 21) ^ v0
        v2 = (v2 + v1) & MASK
        v1 = _rotated(v1, 17) ^ v2
        v2 = _rotated(v2, 32)
    return v0, v1, v2, v3


def _rotated(word: int, bits: int) -> int:
    return (word << bits | word >> (64 - bits)) & MASK
