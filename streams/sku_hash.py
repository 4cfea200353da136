"""The keyed hash of SKUs that came around the decoder: restored rows, reference records."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.jit import COMPILED
from streams.codec.siphash import HashKey, hash64

Int64s = NDArray[np.int64]

if COMPILED:
    from streams.codec.compiled import Memory, compiled
    from streams.codec.sip_kernel import hash64_at

    @compiled
    def _hash_all(
        address: int,
        size: int,
        at: Int64s,
        length: Int64s,
        key_low: np.uint64,
        key_high: np.uint64,
        hashes: NDArray[np.uint64],
    ) -> None:
        data = Memory(address, size)
        for i in range(len(at)):
            hashes[i] = hash64_at(data, at[i], length[i], key_low, key_high)


def join(skus: Sequence[bytes]) -> tuple[NDArray[np.uint8], Int64s, Int64s]:
    """The SKUs in one array, where each begins in it, and how long each is."""
    length = np.fromiter((len(sku) for sku in skus), np.int64, len(skus))
    return np.frombuffer(b"".join(skus), np.uint8), np.cumsum(length) - length, length


def hash_all(
    key: HashKey, data: NDArray[np.uint8], at: Int64s, length: Int64s
) -> NDArray[np.uint64]:
    """SipHash-1-3 of each data[at : at + length], as the decoder's columns have it."""
    hashes = np.zeros(len(at), np.uint64)
    if COMPILED:
        low, high = np.uint64(key[0]), np.uint64(key[1])
        _hash_all(data.ctypes.data, len(data), at, length, low, high, hashes)
    else:
        for i, (begin, count) in enumerate(zip(at.tolist(), length.tolist(), strict=True)):
            hashes[i] = hash64(key, data[begin : begin + count].tobytes())
    return hashes
