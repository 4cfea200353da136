"""Partitions as other producers reckon them."""

import random
import zlib

import pytest
from kafka.partitioner.default import murmur2

from streams.partitioner import partition_of

# from Kafka's own UtilsTest: key, murmur2 as a signed 32-bit number
KAFKA_CASES = [
    (b"21", -973932308),
    (b"foobar", -790332482),
    (b"a-little-bit-long-string", -985981536),
    (b"a-little-bit-longer-string", -1486304829),
    (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
    (b"abc", 479470107),
]


@pytest.mark.parametrize(("key", "hashed"), KAFKA_CASES)
def test_murmur2_is_that_of_kafka(key: bytes, hashed: int) -> None:
    for partitions in (1, 3, 12, 1_000):
        expected = (hashed & 0x7FFFFFFF) % partitions
        assert partition_of(key, partitions, "murmur2") == expected


def test_partitions_agree_with_other_clients_for_every_length() -> None:
    rng = random.Random(1)
    for length in range(70):
        key = rng.randbytes(length)
        assert partition_of(key, 7, "murmur2") == (murmur2(key) & 0x7FFFFFFF) % 7
        assert partition_of(key, 7, "crc32") == zlib.crc32(key) % 7
        assert partition_of(key, 7, "none") == 0
