"""SipHash: against the authors' vectors, Python's own hash of bytes, and the kernel."""

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from numba import njit

from streams.codec.columns import Bytes
from streams.codec.compiled import Memory
from streams.codec.sip_kernel import hash64_at, hash128_at
from streams.codec.siphash import hash64, hash128, siphash

REFERENCE_KEY = (0x0706050403020100, 0x0F0E0D0C0B0A0908)
# SipHash-2-4 of the bytes 0, 1, ... n - 1, from vectors.h of the authors' code
VECTORS_64 = {
    0: "310e0edd47db6f72",
    1: "fd67dc93c539f874",
    2: "5a4fa9d909806c0d",
    3: "2d7efbd796666785",
    15: "e545be4961ca29a1",
}
VECTORS_128 = {
    0: "a3817f04ba25a8e66df67214c7550293",
    1: "da87c1d86b99af44347659119b22fc45",
    2: "8177228da4a45dc7fca38bdef60affe4",
}


def packed(*words: int) -> str:
    return b"".join(word.to_bytes(8, "little") for word in words).hex()


@pytest.mark.parametrize(("size", "expected"), VECTORS_64.items())
def test_64_bits_agree_with_the_authors(size: int, expected: str) -> None:
    assert packed(siphash(REFERENCE_KEY, bytes(range(size)), 2, 4, wide=False)[0]) == expected


@pytest.mark.parametrize(("size", "expected"), VECTORS_128.items())
def test_128_bits_agree_with_the_authors(size: int, expected: str) -> None:
    assert packed(*siphash(REFERENCE_KEY, bytes(range(size)), 2, 4, wide=True)) == expected


@pytest.mark.skipif(sys.hash_info.algorithm != "siphash13", reason="another hash in this Python")
def test_one_and_three_rounds_agree_with_the_hash_of_python() -> None:
    texts = [bytes(range(size)) for size in range(1, 40)]
    code = f"print([hash(text) % 2**64 for text in {texts!r}])"
    environment = {**os.environ, "PYTHONHASHSEED": "0"}  # a key of zeros
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == str([hash64((0, 0), text) for text in texts])


@njit  # type: ignore[untyped-decorator]
def compiled(data: Bytes, at: int, size: int, k0: np.uint64, k1: np.uint64) -> Any:
    memory = Memory(data.ctypes.data, len(data))
    low, high = hash128_at(memory, at, size, k0, k1)
    return hash64_at(memory, at, size, k0, k1), low, high


def test_the_kernel_agrees_for_every_size_and_place() -> None:
    key = (0xFEDCBA9876543210, 0x8877665544332211)
    text = bytes(range(100, 180))
    data = np.frombuffer(text, np.uint8)
    words = (np.uint64(key[0]), np.uint64(key[1]))
    for size in range(41):
        for at in (0, 3, len(text) - size):  # the last: up to the very end of the memory
            part = text[at : at + size]
            assert compiled(data, at, size, *words) == (hash64(key, part), *hash128(key, part))
