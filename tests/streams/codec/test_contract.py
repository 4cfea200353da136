"""The wire contract, case by case: the same suite over the kernel and the strict decoder."""

import json
from dataclasses import dataclass
from typing import Any

import pytest

from streams.codec.siphash import hash64, hash128
from streams.codec.strict import NESTING_MAX, VALUE_BYTES_MAX, decode_event
from streams.errors import ContractError, Reason
from streams.records import Click, Order
from tests.streams.codec.logs import (
    CART,
    CLICK,
    HASH_KEY,
    NOW_MS,
    ORDER,
    TOLERANCE_MS,
    decode_all,
    decoder,
    fields,
    log,
    value,
)


@dataclass(frozen=True)
class Case:
    name: str
    value: bytes | None
    reason: Reason | None = None
    key: bytes | None = b"SKU-1"
    kind: int = ORDER


def good(name: str, content: bytes, key: bytes = b"SKU-1", kind: int = ORDER) -> Case:
    return Case(name, content, None, key, kind)


def changed(reason: Reason, **changes: Any) -> Case:
    shown = " ".join(f"{name}={str(content)[:20]!r}" for name, content in changes.items())
    return Case(f"{reason} {shown}", value(**changes), reason)


def raw(text: str, **changes: Any) -> bytes:
    """The event with the member `text` added in front."""
    return ("{" + text + "," + json.dumps(fields(**changes))[1:]).encode()


GOOD = [
    good("plain", value()),
    good("click without quantity", value(CLICK), kind=CLICK),
    good("cart", value(CART), kind=CART),
    good("compact", json.dumps(fields(), separators=(",", ":")).encode()),
    good("white space everywhere", json.dumps(fields(), indent="\t \r\n").encode() + b" \n\r\t"),
    good("fields in reverse", json.dumps(dict(reversed(fields().items()))).encode()),
    good("optional fields", value(order_id="o", session_id="s", region="eu-west")),
    good("optional fields null", value(order_id=None, session_id=None, region=None)),
    good("optional fields empty", value(order_id="", session_id="", region="")),
    good("sku of 128 bytes", value(sku="x" * 128), b"x" * 128),
    good("sku of 2-byte characters", value(sku="é" * 64), "é".encode() * 64),
    good("sku of 4-byte characters", value(sku="\U0001f6d2"), "\U0001f6d2".encode()),
    good(
        "sku escaped in JSON",
        json.dumps(fields(sku="é\n\U0001f6d2")).encode(),
        "é\n\U0001f6d2".encode(),
    ),
    good("event_id escaped in JSON", json.dumps(fields(event_id="é")).encode()),
    good("region of other script", value(region="東京")),
    good("region escaped in JSON", json.dumps(fields(region='東京 \U0001f6d2 "\\/\b')).encode()),
    good("delete character", value(user_id="\x7f")),
    good("free of charge", value(price_cents=0)),
    good("dearest", value(price_cents=10**8, quantity=10**6)),
    good("first millisecond", value(event_time_ms=10**12)),
    good("as far ahead as tolerated", value(event_time_ms=NOW_MS + TOLERANCE_MS)),
    good("same field twice, last wins", raw('"price_cents":7', price_cents=1999)),
    good("same field twice, first of them wrong", raw('"price_cents":"7"')),
    good("same field twice, first out of range", raw('"price_cents":-1')),
    good("name of a field escaped", value().replace(b'"sku"', b'"s\\u006bu"')),
]
UNKNOWN = [
    good("unknown text", value(campaign="x")),
    good("unknown text with escapes", raw(r'"campaign":"\u00e9\ud83d\uded2\n"')),
    good("unknown integer", value(campaign=5)),
    good("unknown negative integer", value(campaign=-5)),
    good("unknown number", value(campaign=1.5e-7)),
    good("unknown huge integer", raw('"campaign":' + "9" * 4000)),
    good("unknown literals", value(a=None, b=True, c=False)),
    good("unknown nested", value(context={"a": [1, {"b": [None, "]}"]}]})),
    good(
        "unknown as deep as allowed",
        raw('"a":' + "[" * (NESTING_MAX - 1) + "]" * (NESTING_MAX - 1)),
    ),
    good("unknown many brackets in text", value(campaign="[{" * 100_000)),
    good("unknown of other script", value(кампания="x")),
    good("unknown empty name", raw('"":1')),
    good(
        "unknown, like a field", raw('"skus":1,"SKU":2,"event_ix":3,"event_time_mx":4,"region_":5')
    ),
    good("quantity in a click", value(CLICK, quantity="many"), kind=CLICK),
    good("order_id in a cart", value(CART, order_id=5), kind=CART),
]
BAD = [
    Case("no value", None, Reason.VALUE_MISSING),
    Case("no value nor key", None, Reason.VALUE_MISSING, None),
    Case("too large", raw('"a":"' + "x" * VALUE_BYTES_MAX + '"'), Reason.VALUE_TOO_LARGE),
    Case("too large and not UTF-8", b"\xff" * (VALUE_BYTES_MAX + 1), Reason.VALUE_TOO_LARGE),
    Case("Latin-1", value(region="é").decode().encode("latin-1"), Reason.NOT_UTF8),
    Case("UTF-16", value().decode().encode("utf-16"), Reason.NOT_UTF8),
    Case("overlong UTF-8", value(region="AB").replace(b"AB", b"\xc0\xaf"), Reason.NOT_UTF8),
    Case("surrogate in UTF-8", value().replace(b"u1", b"\xed\xa0\x80"), Reason.NOT_UTF8),
    Case("beyond Unicode", value().replace(b"u1", b"\xf4\x90\x80\x80"), Reason.NOT_UTF8),
    Case("cut character", value(region="é")[:-2].replace(b"\xa9", b""), Reason.NOT_UTF8),
    Case("byte order mark", b"\xef\xbb\xbf" + value(), Reason.NOT_JSON),
    Case("empty", b"", Reason.NOT_JSON),
    Case("white space", b"  ", Reason.NOT_JSON),
    Case("cut off", value()[:-1], Reason.NOT_JSON),
    Case("bytes after it", value() + b"x", Reason.NOT_JSON),
    Case("two objects", value() + value(), Reason.NOT_JSON),
    Case("zero byte after it", value() + b"\0", Reason.NOT_JSON),
    Case("trailing comma", value()[:-1] + b",}", Reason.NOT_JSON),
    Case("comma first", b"{," + value()[1:], Reason.NOT_JSON),
    Case("no comma", value().replace(b", ", b" "), Reason.NOT_JSON),
    Case("no colon", value().replace(b": ", b" ", 1), Reason.NOT_JSON),
    Case("single quotes", value().replace(b'"', b"'"), Reason.NOT_JSON),
    Case("NaN", value(price_cents=float("nan")), Reason.NOT_JSON),
    Case("Infinity", value(price_cents=float("inf")), Reason.NOT_JSON),
    Case("unknown NaN", value(campaign=float("nan")), Reason.NOT_JSON),
    Case("leading zero", raw('"a":007'), Reason.NOT_JSON),
    Case("leading zeros in a field", value().replace(b"1999", b"01999"), Reason.NOT_JSON),
    Case("plus sign", raw('"a":+7'), Reason.NOT_JSON),
    Case("hexadecimal", raw('"a":0x7'), Reason.NOT_JSON),
    Case("literal misspelt", raw('"a":nul'), Reason.NOT_JSON),
    Case("literal and more", raw('"a":nullx'), Reason.NOT_JSON),
    Case("literal in capitals", raw('"a":True'), Reason.NOT_JSON),
    Case("control character in text", raw('"a":"\n"'), Reason.NOT_JSON),
    Case("control character in a name", raw('"a\n":1'), Reason.NOT_JSON),
    Case("bad escape", raw(r'"a":"\x41"'), Reason.NOT_JSON),
    Case("bad unicode escape", raw(r'"a":"\u12g4"'), Reason.NOT_JSON),
    Case("lone high surrogate", raw(r'"a":"\ud83d"'), Reason.NOT_JSON),
    Case("lone low surrogate", raw(r'"a":"\ude00"'), Reason.NOT_JSON),
    Case("two high surrogates", raw(r'"a":"\ud83d\ud83d"'), Reason.NOT_JSON),
    Case("half an escape at the end", value()[:-2] + b'"\\', Reason.NOT_JSON),
    Case("form feed as white space", b"\f" + value(), Reason.NOT_JSON),
    Case("too deep", raw('"a":' + "[" * NESTING_MAX + "]" * NESTING_MAX), Reason.NOT_JSON),
    Case("very deep", b"[" * 500_000, Reason.NOT_JSON),
    Case("very deep objects", b'{"a":' * 150_000, Reason.NOT_JSON),
    Case("number beyond floats", raw('"a":1e400'), Reason.OUT_OF_RANGE),
    Case("an array", b"[" + value() + b"]", Reason.WRONG_TYPE),
    Case("a string", json.dumps(value().decode()).encode(), Reason.WRONG_TYPE),
    Case("null", b"null", Reason.WRONG_TYPE),
    Case("empty object", b"{}", Reason.MISSING_FIELD),
    *(changed(Reason.MISSING_FIELD, **{name: ...}) for name in fields()),
    changed(Reason.MISSING_FIELD, sku=..., price_cents="x"),  # missing comes before wrong
    *(changed(Reason.WRONG_TYPE, **{name: None}) for name in fields()),
    *(changed(Reason.WRONG_TYPE, **{name: [1]}) for name in fields()),
    *(changed(Reason.WRONG_TYPE, **{name: {}}) for name in fields()),
    *(changed(Reason.WRONG_TYPE, **{name: True}) for name in fields()),
    *(changed(Reason.WRONG_TYPE, **{name: 5}) for name in ("event_id", "sku", "user_id")),
    *(changed(Reason.WRONG_TYPE, **{name: "5"}) for name in ("price_cents", "quantity")),
    *(changed(Reason.WRONG_TYPE, **{name: 5.0}) for name in ("price_cents", "quantity")),
    *(changed(Reason.WRONG_TYPE, **{name: 5}) for name in ("order_id", "session_id", "region")),
    changed(Reason.WRONG_TYPE, region=True),
    changed(Reason.WRONG_TYPE, event_time_ms=float(NOW_MS)),
    changed(Reason.WRONG_TYPE, event_time_ms="2026-11-27T10:00:00Z"),
    changed(Reason.WRONG_TYPE, price_cents=1e16),
    changed(Reason.WRONG_TYPE, price_cents=19.99),
    changed(Reason.WRONG_TYPE, sku="", quantity="2"),  # types come before ranges
    *(changed(Reason.OUT_OF_RANGE, **{name: ""}) for name in ("event_id", "sku", "user_id")),
    *(changed(Reason.OUT_OF_RANGE, **{name: "x" * 129}) for name in ("event_id", "user_id")),
    *(changed(Reason.OUT_OF_RANGE, **{name: "é" * 65}) for name in ("event_id", "user_id")),
    Case("SKU of 10 kB", value(sku="x" * 10_000), Reason.OUT_OF_RANGE, b"x" * 10_000),
    Case("SKU of 129 bytes", value(sku="x" * 129), Reason.OUT_OF_RANGE, b"x" * 129),
    Case("SKU that begins with 0", value(sku="\0m"), Reason.OUT_OF_RANGE, b"\0m"),
    changed(Reason.OUT_OF_RANGE, price_cents=-1),
    changed(Reason.OUT_OF_RANGE, price_cents=10**8 + 1),
    changed(Reason.OUT_OF_RANGE, price_cents=10**16),
    changed(Reason.OUT_OF_RANGE, price_cents=2**63),
    changed(Reason.OUT_OF_RANGE, price_cents=2**64 + 5),  # 5, if it wrapped around
    changed(Reason.OUT_OF_RANGE, price_cents=10**100),
    changed(Reason.OUT_OF_RANGE, quantity=0),
    changed(Reason.OUT_OF_RANGE, quantity=-1),
    changed(Reason.OUT_OF_RANGE, quantity=10**6 + 1),
    changed(Reason.OUT_OF_RANGE, quantity=0, event_time_ms=5),  # ranges come before the time
    changed(Reason.EVENT_TIME_UNIT, event_time_ms=NOW_MS // 1000),
    changed(Reason.EVENT_TIME_UNIT, event_time_ms=NOW_MS * 1000),
    changed(Reason.EVENT_TIME_UNIT, event_time_ms=10**12 - 1),
    changed(Reason.EVENT_TIME_UNIT, event_time_ms=10**14),
    changed(Reason.EVENT_TIME_UNIT, event_time_ms=0),
    changed(Reason.EVENT_TIME_UNIT, event_time_ms=-NOW_MS),
    Case("no key", value(), Reason.KEY_MISSING, None),
    Case("empty key", value(), Reason.KEY_MISSING, b""),
    Case("key of other SKU", value(), Reason.KEY_MISMATCH, b"SKU-2"),
    Case("key in quotes", value(), Reason.KEY_MISMATCH, b'"SKU-1"'),
    Case("key with more", value(), Reason.KEY_MISMATCH, b"SKU-1 "),
    Case("key cut", value(), Reason.KEY_MISMATCH, b"SKU-"),
    Case("key in another case", value(), Reason.KEY_MISMATCH, b"sku-1"),
    Case("key not UTF-8", value(), Reason.KEY_MISMATCH, b"\xff"),
    Case("key in other Unicode form", value(sku="é"), Reason.KEY_MISMATCH, b"e\xcc\x81"),
    Case("long key, its end wrong", value(sku="x" * 17 + "y"), Reason.KEY_MISMATCH, b"x" * 18),
    Case("wrong key and future", value(event_time_ms=NOW_MS + 10**6), Reason.KEY_MISMATCH, b"a"),
    changed(Reason.EVENT_TIME_FUTURE, event_time_ms=NOW_MS + TOLERANCE_MS + 1),
    changed(Reason.EVENT_TIME_FUTURE, event_time_ms=10**14 - 1),
]  # fmt: skip


def named(case: Case) -> str:
    return case.name


@pytest.mark.parametrize("compiled", [True, False], ids=["kernel", "strict"])
class TestBothDecoders:
    @pytest.mark.parametrize("case", GOOD + UNKNOWN, ids=named)
    def test_take_what_keeps_the_contract(self, case: Case, compiled: bool) -> None:
        data = log([(case.key, case.value)], base_offset=7)
        (row,), refused, unknown = decode_all(decoder(compiled), data, case.kind)
        assert not refused
        assert unknown == (case in UNKNOWN)
        assert case.value is not None and case.key is not None
        meant = json.loads(case.value)
        low, high = hash128(HASH_KEY, meant["event_id"].encode())
        assert row["ok"] and row["offset"] == 7 and row["timestamp_ms"] == NOW_MS
        assert row["event_time_ms"] == meant["event_time_ms"]
        assert row["price_cents"] == meant["price_cents"]
        assert row["quantity"] == (1 if case.kind == CLICK else meant["quantity"])
        assert data[row["sku_at"] :][: row["sku_length"]] == case.key == meant["sku"].encode()
        assert row["sku_hash"] == hash64(HASH_KEY, case.key)
        assert (row["event_hash_low"], row["event_hash_high"]) == (low, high)

    @pytest.mark.parametrize("case", BAD, ids=named)
    def test_refuse_what_breaks_it_with_the_first_reason(self, case: Case, compiled: bool) -> None:
        data = log([(b"SKU-1", value()), (case.key, case.value), (b"SKU-1", value())])
        found, refused, _ = decode_all(decoder(compiled), data, case.kind)
        assert [row["ok"] for row in found] == [True, False, True]
        ((offset, reason, detail),) = refused
        assert (offset, reason) == (1, case.reason)
        assert 0 < len(detail) < 400


class TestStrict:
    def test_gives_the_event_itself(self) -> None:
        event = decode_event(ORDER, b"SKU-1", value(region="eu"), NOW_MS, 0)
        assert event == Order("e1", "SKU-1", "u1", NOW_MS, 1999, 2, region="eu")
        click = decode_event(CLICK, b"SKU-1", value(CLICK, extra=1), NOW_MS, 0)
        assert click == Click("e1", "SKU-1", "u1", NOW_MS, 1999)

    def test_says_which_field_and_what_is_allowed(self) -> None:
        with pytest.raises(ContractError, match=r"quantity is 0, allowed are 1 to 1000000"):
            decode_event(ORDER, b"SKU-1", value(quantity=0), NOW_MS, 0)
        with pytest.raises(ContractError, match=r"event_time_ms is 1795292000, .* milliseconds"):
            decode_event(ORDER, b"SKU-1", value(event_time_ms=NOW_MS // 1000), NOW_MS, 0)
