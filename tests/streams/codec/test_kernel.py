"""The kernel and the strict decoder never disagree, whatever they are given."""

import random
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from streams.codec import kernel, write_kernel
from streams.codec.columns import Columns
from streams.codec.decode import START, Position
from streams.codec.write import encode_records
from streams.errors import CodecError
from tests.streams.codec.logs import (
    HASH_KEY,
    NOW_MS,
    ORDER,
    TOLERANCE_MS,
    as_array,
    decode_all,
    decoder,
    fields,
    foreign_log,
    log,
    value,
)

SEED = 20261127
COMPILED = decoder(compiled=True)
PLAIN = decoder(compiled=False)
NAMES = [*fields(), "order_id", "session_id", "region", "campaign", "", "sku ", "é"]
TEXTS = st.one_of(
    st.sampled_from(["SKU-1", "e1", "", "x" * 128, "x" * 129, "é" * 64, "é" * 65, "\0", "\x7f"]),
    st.text(max_size=12),
)
SCALARS = st.one_of(
    st.sampled_from(["null", "true", "false", "nul", "NaN", "-0", "0", "00", "1e3", "1.0", "-1"]),
    st.sampled_from([NOW_MS, NOW_MS + 5000, NOW_MS + 5001, 10**12 - 1, 10**14, 10**8, 10**6]).map(
        str
    ),
    st.integers(-(2**70), 2**70).map(str),
    st.integers(0, 10**9).map(str),
)
SPACE = st.sampled_from(["", "", "", " ", "\n\t", "\r ", "\f"])


@st.composite
def escaped_text(draw: st.DrawFn) -> str:
    """A JSON string of the text drawn, some of its characters escaped, now and then wrongly."""
    out: list[str] = []
    for character in draw(TEXTS):
        how = draw(st.integers(0, 5)) if len(out) < 12 else 0
        if how == 5 or character in '"\\':
            units = character.encode("utf-16-be", "surrogatepass")
            pairs = [units[at : at + 2].hex() for at in range(0, len(units), 2)]
            out.append("".join(f"\\u{pair}" for pair in pairs))
        else:
            out.append(character)
    if draw(st.integers(0, 9)) == 0:
        out.append(draw(st.sampled_from(["\\", "\\n", "\\v", "\\ud800", "\\u12", "\n", '\\"'])))
    return '"' + "".join(out) + '"'


@st.composite
def nested(draw: st.DrawFn) -> str:
    """A JSON value of some depth, now and then with something wrong inside."""
    leaf = st.one_of(
        SCALARS, st.sampled_from(['""', '"]"', '"é"', "1.5", "-0.0e-7", "1e99", "1.", "[", "}"])
    )
    depth = draw(st.integers(0, 3))
    text = draw(leaf)
    for _ in range(depth):
        space = draw(SPACE)
        text = draw(
            st.sampled_from(
                [
                    f"[{text}]",
                    f"[1,{space}{text}]",
                    f"[{text},]",
                    f"{{{space}}}",
                    f'{{"a":{text}}}',
                    f'{{"a":{text}{space},"b":[]}}',
                    f'{{"a"{text}}}',
                    f"{{{text}:1}}",
                ]
            )
        )
    return text


@st.composite
def written_value(draw: st.DrawFn) -> bytes:
    """An object close to an event, written in one of the many ways there are."""
    members = [
        (f'"{name}"', f'"{one}"' if isinstance(one, str) else str(one))
        for name, one in fields().items()
    ]
    for _ in range(draw(st.integers(0, 3))):
        name = '"' + draw(st.sampled_from(NAMES)) + '"'
        content = draw(st.one_of(escaped_text(), SCALARS, nested()))
        members.insert(draw(st.integers(0, len(members))), (name, content))
    if draw(st.integers(0, 3)) == 0:
        members.pop(draw(st.integers(0, len(members) - 1)))
    if draw(st.booleans()):
        members = draw(st.permutations(members))
    parts = [
        "".join([draw(SPACE), name, draw(SPACE), ":", draw(SPACE), content, draw(SPACE)])
        for name, content in members
    ]
    text = draw(SPACE) + "{" + ",".join(parts) + "}" + draw(SPACE)
    return text.encode("utf-8", "surrogatepass")


def assert_same(data: bytes, kind: int = ORDER) -> None:
    assert decode_all(COMPILED, data, kind) == decode_all(PLAIN, data, kind)


class TestAgreement:
    @seed(SEED)
    @settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
    @given(written_value(), st.sampled_from([b"SKU-1", b"", None, b"e1"]), st.integers(0, 2))
    def test_over_values_written_in_many_ways(
        self, content: bytes, key: bytes | None, kind: int
    ) -> None:
        assert_same(log([(key, content)]), kind)

    def test_over_values_with_bytes_changed(self) -> None:
        rng = random.Random(SEED)
        print("seed", SEED)
        pool = b'"\\{}[]:,0159 -+.eEnultrfas\t\n\x00\x1f\x7f\x80\xbf\xc2\xe0\xed\xf0\xf4\xff'
        whole = value(order_id="o", region="東京", campaign=None, extra="\U0001f6d2", flag=True)
        records = []
        for _ in range(4000):
            changed = bytearray(whole)
            for _ in range(rng.randint(1, 3)):
                at = rng.randrange(len(changed))
                what = rng.randrange(4)
                if what == 0:
                    changed[at] = rng.choice(pool)
                elif what == 1:
                    changed.insert(at, rng.choice(pool))
                elif what == 2:
                    del changed[at]
                else:
                    changed[at:at] = changed[rng.randrange(len(changed)) :][: rng.randint(1, 20)]
            records.append((b"SKU-1", bytes(changed)))
        assert_same(log(records))

    def test_over_every_cut(self) -> None:
        whole = value(order_id=None, region="東京", campaign=False)
        assert_same(log((b"SKU-1", whole[:size]) for size in range(len(whole) + 1)))

    def test_over_every_pair_of_bytes_after_a_backslash_or_lead_byte(self) -> None:
        lead = value(region="!!!")
        records = [
            (b"SKU-1", lead.replace(b"!!!", bytes([first, second, third])))
            for first in (0x5C, 0xC1, 0xC2, 0xE0, 0xE1, 0xED, 0xF0, 0xF4, 0xF5)
            for second in range(256)
            for third in (0x80, 0x61, 0xBF)
        ]
        assert_same(log(records))

    def test_over_every_length_of_integers(self) -> None:
        texts = ["9" * size for size in range(1, 40)] + ["1" + "0" * size for size in range(40)]
        names = ("event_time_ms", "price_cents", "quantity", "campaign")
        records = [(b"SKU-1", value(**{name: int(text)})) for name in names for text in texts]
        assert_same(log(records))


class TestRecords:
    def test_keys_values_headers_and_timestamps_of_other_clients(self) -> None:
        rng = random.Random(SEED)
        records: list[Any] = []
        for index in range(500):
            key = rng.choice([b"SKU-1", b"SKU-1", None, b""])
            content = rng.choice([value(event_id=f"e{index}"), None, b"", value(pad="x" * 9000)])
            headers: list[Any] = rng.choice([[], [("a", b"b")], [("", None), ("é", b"x" * 300)]])
            records.append((NOW_MS + rng.randint(-(10**6), 10**6), key, content, headers))
        data = foreign_log(records[:250]) + foreign_log(records[250:], base_offset=1_000)
        assert_same(data)
        found, _, _ = decode_all(COMPILED, data)
        assert [row["timestamp_ms"] for row in found] == [record[0] for record in records]
        COMPILED.decode(as_array(data), ORDER, 0)
        for index in range(COMPILED.columns.n):
            timestamp_ms, key, content, headers = records[index]
            original = COMPILED.original(as_array(data), index)
            assert (original.offset, original.timestamp_ms) == (index, timestamp_ms)
            assert (original.key, original.value, original.headers) == (key, content, headers)

    def test_the_broker_may_stamp_the_time(self) -> None:
        data = bytearray(foreign_log([(NOW_MS - 10**6, b"SKU-1", value(), [])]))
        data[22] |= 8  # LogAppendTime: the batch's max timestamp holds for all
        data[35:43] = NOW_MS.to_bytes(8, "big")
        assert_same(bytes(data))
        ((row,), refused, _) = decode_all(COMPILED, bytes(data))
        assert row["timestamp_ms"] == NOW_MS and not refused

    @pytest.mark.parametrize("capacity", [1, 2, 3, 7, 20, 100])
    @pytest.mark.parametrize("first_offset", [0, 1, 12, 39, 40])
    def test_slices_join_without_a_gap(self, capacity: int, first_offset: int) -> None:
        pairs = [(b"SKU-1", value(event_id=f"e{index}")) for index in range(20)]
        data = log(pairs, 0) + log(pairs, 20)
        whole = decode_all(PLAIN, data, first_offset=first_offset)
        assert [row["offset"] for row in whole[0]] == list(range(first_offset, 40))
        for compiled in (True, False):
            sliced = decoder(compiled, capacity)
            assert decode_all(sliced, data, first_offset=first_offset) == whole

    def test_a_full_slice_at_the_very_end_is_followed_by_an_empty_one_at_most(self) -> None:
        data = as_array(log([(b"SKU-1", value())] * 4))
        for compiled in (True, False):
            one = decoder(compiled, capacity=4)
            position, _ = one.decode(data, ORDER, 0)
            assert one.columns.n == 4
            if position is not None:
                assert one.decode(data, ORDER, 0, position) == (None, [])
                assert one.columns.n == 0

    def test_an_unfinished_batch_at_the_end_is_left_alone(self) -> None:
        first = log([(b"SKU-1", value())])
        second = log([(b"SKU-1", value())], 1)
        for cut in (1, 60, 61, len(second) - 1):
            assert_same(first + second[:cut])
            assert len(decode_all(COMPILED, first + second[:cut])[0]) == 1


class TestCorruption:
    def test_any_byte_of_a_batch_changed_gives_the_same_answer_or_error(self) -> None:
        rng = random.Random(SEED)
        whole = foreign_log(
            [
                (NOW_MS + at, b"SKU-1", value(event_id=f"e{at}"), [("h", b"v")] * (at % 2))
                for at in range(4)
            ]
        )
        for at in range(8, len(whole)):
            for byte in (0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)):
                changed = bytearray(whole)
                changed[at] = byte
                assert outcome(COMPILED, bytes(changed)) == outcome(PLAIN, bytes(changed))

    def test_an_endless_number_of_headers_is_corrupt(self) -> None:
        body = bytearray(log([(b"SKU-1", value())]))
        assert body[-1] == 0
        body[-1] = 0x7E  # 63 headers, and nothing there
        with pytest.raises(CodecError, match="batch at offset 0 is corrupt: an integer cut off"):
            decode_all(COMPILED, bytes(body))

    def test_compressed_or_control_batches_do_not_belong_here(self) -> None:
        for attribute in (1, 4, 0x20):
            data = bytearray(log([(b"SKU-1", value())]))
            data[22] |= attribute
            with pytest.raises(CodecError, match="has not been through read_batches"):
                decode_all(COMPILED, bytes(data))

    def test_nothing_beyond_the_bytes_is_read_or_written(self) -> None:
        run = subprocess.run(
            [sys.executable, "-m", "tests.streams.codec.fenced", str(SEED)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert run.returncode == 0, f"exit {run.returncode} (-11: touched a fence)\n{run.stderr}"


def outcome(one: Any, data: bytes) -> Any:
    try:
        return decode_all(one, data)
    except CodecError as error:
        return str(error)


class TestCompilation:
    def test_plain_events_never_leave_the_kernel(self) -> None:
        more: Any = {
            "session_id": None,
            "é": 1.5e-3,
            "context": {"a": [1, {}, [], True], "b": None},
        }
        pairs = [
            (sku, value(sku=sku.decode(), event_id=f"e{index}", region=region, **more))
            for index, (sku, region) in enumerate(
                (sku, region)
                for sku in (b"A", b"SKU-000001", b"x" * 128, "東京".encode())
                for region in ("eu-west", "São Paulo", '\n"\\\U0001f6d2')
            )
        ]
        columns = Columns.of(64)
        place = np.array([START.batch_at, START.record_index, START.record_at], np.int64)
        data = as_array(log(pairs))
        result = kernel.decode(data, ORDER, 0, TOLERANCE_MS, HASH_KEY, place, columns)
        assert result == (12, 12, kernel.FINISHED)
        assert columns.ok[:12].all()

    def test_warm_up_leaves_nothing_to_compile(self) -> None:
        kernel.warm_up()
        compiled: list[Any] = [kernel._decode, write_kernel._put_templated, write_kernel._put_rows]
        before = [len(function.signatures) for function in compiled]
        data = bytearray(log([(b"SKU-1", value())]))
        for form in (as_array(bytes(data)), as_array(data), as_array(data).copy()[:]):
            for one in (decoder(True), decoder(True, 1)):
                position: Position | None = START
                while position is not None:
                    position, _ = one.decode(form, ORDER, 2**40, position)
        assert [len(function.signatures) for function in compiled] == before == [1, 1, 1]

    def test_without_numba_the_same_is_decoded_in_plain_python(self) -> None:
        code = (
            "import sys, warnings; sys.modules['numba'] = None; warnings.simplefilter('ignore')\n"
            "from tests.streams.codec.logs import *\n"
            "from streams.codec.columns import NameArrays\n"
            "from streams.codec.write_columns import encode_rows\n"
            "values = np.ones((1, 2), np.uint8)\n"
            "(rows,) = encode_rows(NameArrays.of([b'A']), np.arange(1), values)\n"
            "print(decode_all(decoder(True), log([(b'SKU-1', value())])), rows.count)"
        )
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        assert run.stdout.strip() == f"{decode_all(COMPILED, log([(b'SKU-1', value())]))} 1"

    def test_headers_do_not_change_what_an_event_is(self) -> None:
        bare = encode_records([(b"SKU-1", value(), ())])[0].whole(0, NOW_MS)
        headed = encode_records([(b"SKU-1", value(), [("traceparent", b"00-1")])])[0].whole(
            0, NOW_MS
        )
        kept = ("event_time_ms", "sku_hash", "event_hash_low", "event_hash_high")
        (one,), (other,) = decode_all(COMPILED, bare)[0], decode_all(COMPILED, headed)[0]
        assert [one[name] for name in kept] == [other[name] for name in kept]
