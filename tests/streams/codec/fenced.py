"""Decodes damaged batches that lie against memory nobody may touch, on both sides of it.

Run by a test as a process of its own: a read or write too far ends it with a fault of memory.
"""

import ctypes
import mmap
import random
import sys

import numpy as np

from streams.codec import kernel
from streams.codec.columns import Columns, NameArrays
from streams.codec.plain import HEADER_BYTES
from streams.codec.write_columns import encode_rows, encode_windows
from tests.streams.codec.logs import HASH_KEY, NOW_MS, ORDER, TOLERANCE_MS, foreign_log, value

PAGES = 4
ROUNDS = 4_000
TAILS = (  # of values cut where the next bytes matter
    [b"\xc3", b"\xe6", b"\xe6\x9d", b"\xf0", b"\xf0\x9f", b"\xf0\x9f\x9b", b"\\", b"\\u", b"\\u12"]
    + [
        b"\\ud83d",
        b"\\ud83d\\",
        b"\\ud83d\\u",
        b"n",
        b"nu",
        b"nul",
        b"null",
        b"fals",
        b"1",
        b"-",
        b"1.",
    ]
    + [b"1e", b"1e+", b"[", b"{", b'{"a"', b'{"a":', b"[1,", b'["a']
    + [b"7" * size for size in range(1, 20)]
)


class Fenced:
    """`PAGES` pages of memory between two that may not be touched."""

    def __init__(self) -> None:
        page = mmap.PAGESIZE
        self._map = mmap.mmap(-1, (PAGES + 2) * page)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        mprotect = ctypes.CDLL(None, use_errno=True).mprotect
        for fence in (start, start + (PAGES + 1) * page):
            assert mprotect(ctypes.c_void_p(fence), page, 0) == 0
        self.bytes = np.frombuffer(self._map, np.uint8)[page : (PAGES + 1) * page]

    def at_end(self, data: bytes) -> np.ndarray:
        self.bytes[len(self.bytes) - len(data) :] = np.frombuffer(data, np.uint8)
        return self.bytes[len(self.bytes) - len(data) :]

    def at_start(self, data: bytes) -> np.ndarray:
        self.bytes[: len(data)] = np.frombuffer(data, np.uint8)
        return self.bytes[: len(data)]


def damaged(rng: random.Random) -> bytes:
    whole = bytearray(
        foreign_log(
            [
                (NOW_MS, b"SKU-1", value(event_id="e" * rng.randint(1, 40), region="東"), headers)
                for headers in ([], [("h", b"v")], [])
            ]
        )
    )
    for _ in range(rng.randint(0, 3)):
        whole[rng.randrange(8, len(whole))] = rng.choice((0, 1, 0x22, 0x5C, 0x7F, 0x80, 0xFF))
    cut = rng.choice((len(whole), rng.randint(0, len(whole))))
    if rng.random() < 0.7 and cut > HEADER_BYTES:  # a length that fits, so that records are read
        whole[8:12] = (cut - 12).to_bytes(4, "big")
    return bytes(whole[:cut])


def main(seed: int) -> None:
    rng = random.Random(seed)
    fence = Fenced()
    columns = Columns.of(8)
    for _ in range(ROUNDS):
        data = damaged(rng)
        for placed in (fence.at_end(data), fence.at_start(data)):
            place = np.array([0, 0, HEADER_BYTES], np.int64)
            kernel.decode(placed, rng.randrange(3), 0, TOLERANCE_MS, HASH_KEY, place, columns)
    for tail in TAILS:
        head = b'{"a":' + (b'"' if tail[0] > 127 or tail[:1] == b"\\" else b"") + tail
        data = foreign_log([(NOW_MS, None, head, [])])
        place = np.array([0, 0, HEADER_BYTES], np.int64)
        kernel.decode(fence.at_end(data), 0, 0, TOLERANCE_MS, HASH_KEY, place, columns)
    for size in range(1, 40):
        content = value()[:-1] + b',"event_id":"' + b"e" * size + b'"}'  # hashed at the very end
        place = np.array([0, 0, HEADER_BYTES], np.int64)
        data = fence.at_end(foreign_log([(NOW_MS, b"SKU-1", content, [])]))
        kernel.decode(data, ORDER, 0, TOLERANCE_MS, HASH_KEY, place, columns)
        assert columns.ok[0]
        plain = NameArrays.of([b"n" * size, b'"' * size])
        names = NameArrays(fence.at_end(plain.blob.tobytes()), plain.at, plain.length)
        rows = np.arange(2)
        encode_windows(NOW_MS, 10_000, names, rows, np.full((2, 8), size))
        encode_rows(names, rows, np.zeros((2, size), np.uint8))


if __name__ == "__main__":
    main(int(sys.argv[1]))
