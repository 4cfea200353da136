"""Record batches written: readable by another client, and alike from the kernel and from Python."""

from itertools import pairwise
from typing import Any

import pytest
from aiokafka.record.memory_records import MemoryRecords

from streams.codec.batches import read_batches
from streams.codec.plain import batch_at
from streams.codec.write import (
    RecordBatch,
    encode_records,
)
from tests.streams.codec.logs import NOW_MS

SEED = 20261127
BUCKET_MS = 10_000


def foreign_records(batch: RecordBatch, base_offset: int = 0) -> list[Any]:
    """As aiokafka reads them."""
    memory = MemoryRecords(batch.whole(base_offset, NOW_MS))
    one = memory.next_batch()
    assert one.validate_crc() and not memory.has_next()
    return [(r.offset, r.timestamp, r.key, r.value, list(r.headers)) for r in one]


class TestRecords:
    def test_another_client_reads_them(self) -> None:
        records: list[Any] = [
            (b"k", b"v", []),
            (None, None, []),
            (b"", b"", [("", b"")]),
            (b"k" * 300, b"v" * 70_000, [("ce_id", b"1"), ("é", None)]),
        ]
        (batch,) = encode_records(records)
        assert foreign_records(batch, 40) == [
            (40 + index, NOW_MS, *record) for index, record in enumerate(records)
        ]

    @pytest.mark.parametrize("bytes_max", [62, 100, 1_000, 5_000])
    def test_no_batch_is_above_the_limit_unless_one_record_is(self, bytes_max: int) -> None:
        records: list[Any] = [(b"k%d" % at, b"v" * (at * 37 % 900), []) for at in range(200)]
        batches = encode_records(records, bytes_max)
        for batch, following in pairwise(batches):
            assert batch.size_bytes <= bytes_max or batch.count == 1
            assert batch.size_bytes == len(batch.whole(0, 0))
            assert batch.size_bytes + len(following.body) // following.count > bytes_max - 900
        read = [record for batch in batches for record in foreign_records(batch)]
        assert [(key, content) for _, _, key, content, _ in read] == [r[:2] for r in records]

    def test_none_make_no_batch(self) -> None:
        assert encode_records([]) == []


class TestBuilder:
    def test_the_producer_state_enters_the_batch_and_a_retry_sends_the_same(self) -> None:
        (batch,) = encode_records([(b"k", b"v", [])] * 3)
        builder = batch.builder(NOW_MS, transactional=True)
        assert (builder.record_count(), builder.size(), builder.closed()) == (
            3,
            batch.size_bytes,
            True,
        )
        builder._set_producer_state(77, 5, 1_000)
        built = builder._build()
        assert builder._build() is built and len(built) == builder.size()
        header = batch_at(built, 0)
        assert header is not None and header.attributes == 0x10
        assert (header.producer_id, header.count, header.last_offset_delta) == (77, 3, 2)
        assert built[51:57] == (5).to_bytes(2, "big") + (1_000).to_bytes(4, "big")
        assert read_batches(built, 0)[1] == 3  # and so the CRC is right

    def test_outside_a_transaction_the_batch_says_so(self) -> None:
        (batch,) = encode_records([(b"k", b"v", [])])
        header = batch_at(batch.builder(NOW_MS, transactional=False)._build(), 0)
        assert header is not None and header.attributes == 0
