"""Batches that we compress: other clients read them, and so do we."""

import random
from typing import Any

import pytest
from aiokafka.record.memory_records import MemoryRecords

from streams.codec.batches import iter_records, read_batches
from streams.codec.compression import compressed
from streams.codec.plain import batch_at
from streams.codec.write import RecordBatch, encode_records
from tests.streams.codec.logs import NOW_MS

CODECS: dict[Any, int] = {"none": 0, "lz4": 3, "zstd": 4}


def batch(size: int) -> RecordBatch:
    records = [
        (b"SKU-%d" % at, b'{"sku":"SKU-%d","clicks":%d}' % (at, at % 7)) for at in range(size)
    ]
    (made,) = encode_records([(key, value, [("ce_id", key)]) for key, value in records])
    return made


@pytest.mark.parametrize("name", CODECS)
def test_others_and_we_read_the_same_records(name: Any) -> None:
    plain = batch(9_000)
    packed = compressed(plain, name)
    assert (packed.count, packed.codec) == (plain.count, CODECS[name])
    assert name == "none" or len(packed.body) < len(plain.body) / 3
    whole = packed.builder(NOW_MS, transactional=True)._build()
    header = batch_at(whole, 0)
    assert header is not None and header.attributes == CODECS[name] | 0x10
    wanted = [(r.offset, r.key, r.value, r.headers) for r in iter_records(plain.whole(0, NOW_MS))]
    data, end = read_batches(whole, 0)
    assert [(r.offset, r.key, r.value, r.headers) for r in iter_records(data)] == wanted
    assert end == len(wanted)
    memory = MemoryRecords(whole)
    one = memory.next_batch()
    assert one.validate_crc() and not memory.has_next()
    assert [(r.offset, r.key, r.value, r.headers) for r in one] == wanted


@pytest.mark.parametrize("name", CODECS)
def test_a_small_batch_and_one_that_does_not_shrink_stay_as_they_are(name: Any) -> None:
    small = batch(3)
    assert compressed(small, name) is small
    noise = RecordBatch(random.Random(1).randbytes(2_000), 1)
    assert compressed(noise, name) is noise
