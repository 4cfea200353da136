"""Records of a kind, out of arrays: alike from the kernel and from Python, and what JSON says."""

import uuid
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from streams.codec import write_columns
from streams.codec.batches import iter_records
from streams.codec.columns import NameArrays
from streams.codec.write import RecordBatch
from streams.codec.write_columns import (
    ID,
    INTEGER,
    THOUSANDTHS,
    Template,
    choice,
    encode_rows,
    encode_templated,
    encode_windows,
)
from streams.records import DemandWindow
from tests.streams.codec.logs import NOW_MS
from tests.streams.codec.test_write import foreign_records

SEED = 20261127
BUCKET_MS = 10_000


def figures(rng: np.random.Generator, n: int, width: int = 8) -> Any:
    """[n, width] of every length, powers of ten and their neighbours among them."""
    powers = [10**e + d for e in range(1, 18) for d in (-1, 0, 1)]
    pool = np.array([0, 1, *powers, 2**63 - 1], np.int64)
    return rng.choice(pool, (n, width))


def both(monkeypatch: pytest.MonkeyPatch, encode: Any) -> list[list[RecordBatch]]:
    """What the kernel encodes and what plain Python does."""
    compiled = encode()
    with monkeypatch.context() as patch:
        patch.setattr(write_columns, "COMPILED", False)
        return [compiled, encode()]


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).map(str.encode)


class TestWindows:
    def test_each_is_the_json_of_its_struct(self) -> None:
        names = NameArrays.of([b"A", 'é"\\\n\x01\x1f\x7f'.encode(), b"C"])
        columns = figures(np.random.default_rng(SEED), 2)
        (batch,) = encode_windows(NOW_MS, BUCKET_MS, names, np.array([1, 0]), columns)
        for at, (name, (_, _, key, content, headers)) in enumerate(
            zip(['é"\\\n\x01\x1f\x7f', "A"], foreign_records(batch), strict=True)
        ):
            counts = columns[at].tolist()
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
                lambda: encode_windows(NOW_MS, BUCKET_MS, names, rows, columns, bytes_max),
            )
        assert compiled == plain

    def test_negative_figures_are_our_own_fault(self) -> None:
        names, rows = NameArrays.of([b"A"]), np.zeros(1, np.int64)
        with pytest.raises(AssertionError):
            encode_windows(NOW_MS, BUCKET_MS, names, rows, np.full((1, 8), -1))


class TestTemplates:
    PARTS = (b',"a":', INTEGER, b',"b":{"c":', THOUSANDTHS, b',"d":', choice(b"null", b'"x"'), b"}")
    HEADERS = (("ce_id", ID), ("ce_type", b"t"), ("empty", None))

    @seed(SEED)
    @settings(max_examples=60, deadline=None)
    @given(st.lists(NAMES, min_size=1, max_size=40), st.integers(300, 6_000), st.booleans())
    def test_kernel_and_python_write_the_same_batches(
        self, texts: list[bytes], bytes_max: int, identified: bool
    ) -> None:
        rng = np.random.default_rng(len(texts))
        names = NameArrays.of(texts)
        rows = rng.integers(0, len(texts), 50)
        columns = figures(rng, 50, 3)
        columns[:, 1] %= 10 ** rng.integers(1, 16, 50)
        columns[:, 2] %= 2
        ids = rng.integers(0, 256, (50 if identified else 0, 16), np.uint8)
        template = Template(self.PARTS, self.HEADERS if identified else ())
        with pytest.MonkeyPatch.context() as patch:
            compiled, plain = both(
                patch,
                lambda: encode_templated(template, names, rows, columns, ids, bytes_max),
            )
        assert compiled == plain
        for at, (_, _, key, content, headers) in enumerate(
            record for batch in compiled for record in foreign_records(batch)
        ):
            whole, thousandths, chosen = columns[at].tolist()
            assert key == texts[rows[at]]
            assert content == msgspec.json.encode(
                {
                    "sku": key.decode(),
                    "a": whole,
                    "b": {"c": thousandths / 1_000, "d": [None, "x"][chosen]},
                }
            )
            own = str(uuid.UUID(bytes=ids[at].tobytes())).encode() if identified else b""
            others = [("ce_type", b"t"), ("empty", None)]
            assert headers == ([("ce_id", own), *others] if identified else [])

    def test_an_id_without_a_place_for_it_is_our_own_fault(self) -> None:
        names, rows = NameArrays.of([b"A"]), np.zeros(1, np.int64)
        columns, ids = np.zeros((1, 1), np.int64), np.zeros((1, 16), np.uint8)
        with pytest.raises(AssertionError):
            encode_templated(Template((b',"a":', INTEGER)), names, rows, columns, ids)
        with pytest.raises(AssertionError):
            encode_templated(Template((b',"a":', INTEGER), self.HEADERS), names, rows, columns)


class TestRows:
    def test_none_make_no_batch(self) -> None:
        names, rows = NameArrays.of([]), np.zeros(0, np.int64)
        assert encode_rows(names, rows, np.zeros((0, 8), np.uint8)) == []

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
