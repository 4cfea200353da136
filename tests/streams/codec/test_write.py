"""Record batches written: readable by another client, and alike from the kernel and from Python."""

from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pytest
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from streams.codec import write
from streams.codec.batches import iter_records, read_batches
from streams.codec.columns import NameArrays
from streams.codec.plain import batch_at
from streams.codec.write import (
    RecordBatch,
    encode_records,
    encode_rows,
    encode_windows,
)
from streams.records import DemandWindow
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
        names, rows = NameArrays.of([]), np.zeros(0, np.int64)
        assert encode_rows(names, rows, np.zeros((0, 8), np.uint8)) == []


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


def figures(rng: np.random.Generator, n: int) -> list[Any]:
    """Eight columns of counts of every length, powers of ten and their neighbours among them."""
    powers = [10**e + d for e in range(1, 18) for d in (-1, 0, 1)]
    pool = np.array([0, 1, *powers, 2**63 - 1], np.int64)
    return [rng.choice(pool, n) for _ in range(8)]


def both(monkeypatch: pytest.MonkeyPatch, encode: Any) -> list[list[RecordBatch]]:
    """What the kernel encodes and what plain Python does."""
    compiled = encode()
    with monkeypatch.context() as patch:
        patch.setattr(write, "COMPILED", False)
        return [compiled, encode()]


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).map(str.encode)


class TestWindows:
    def test_each_is_the_json_of_its_struct(self) -> None:
        names = NameArrays.of([b"A", 'é"\\\n\x01\x1f\x7f'.encode(), b"C"])
        columns = figures(np.random.default_rng(SEED), 2)
        (batch,) = encode_windows(NOW_MS, BUCKET_MS, names, np.array([1, 0]), *columns)
        for at, (name, (_, _, key, content, headers)) in enumerate(
            zip(['é"\\\n\x01\x1f\x7f', "A"], foreign_records(batch), strict=True)
        ):
            counts = [int(column[at]) for column in columns]
            window = DemandWindow(name, NOW_MS, BUCKET_MS, *counts)
            assert (key, headers) == (name.encode(), [])
            assert content == msgspec.json.encode(window)

    @seed(SEED)
    @settings(max_examples=60, deadline=None)
    @given(st.lists(NAMES, min_size=1, max_size=40), st.integers(1_000, 6_000))
    def test_kernel_and_python_write_the_same_batches(
        self, texts: list[bytes], bytes_max: int
    ) -> None:
        rng = np.random.default_rng(len(texts))
        names = NameArrays.of(texts)
        rows = rng.integers(0, len(texts), 50)
        columns = figures(rng, 50)
        with pytest.MonkeyPatch.context() as patch:
            compiled, plain = both(
                patch,
                lambda: encode_windows(NOW_MS, BUCKET_MS, names, rows, *columns, *[bytes_max]),
            )
        assert compiled == plain

    def test_negative_figures_are_our_own_fault(self) -> None:
        names, rows = NameArrays.of([b"A"]), np.zeros(1, np.int64)
        columns: list[Any] = [np.array([-1])] * 8
        with pytest.raises(AssertionError):
            encode_windows(NOW_MS, BUCKET_MS, names, rows, *columns)


class TestRows:
    @pytest.mark.parametrize("width", [1, 7, 8, 408, 5_000])
    def test_kernel_and_python_write_the_same_batches(
        self, width: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rng = np.random.default_rng(SEED)
        texts = [b"S%d" % at * (1 + at % 12) for at in range(300)]
        values = rng.integers(0, 256, (300, width), np.uint8)
        names, rows = NameArrays.of(texts), rng.permutation(300)
        compiled, plain = both(
            monkeypatch, lambda: encode_rows(names, rows, values, bytes_max=4_000)
        )
        assert (compiled == plain and len(compiled) > 1) or width == 1
        read = [r for batch in compiled for r in iter_records(batch.whole(0, 0))]
        assert [r.key for r in read] == [texts[row] for row in rows]
        assert [r.value for r in read] == [content.tobytes() for content in values]
