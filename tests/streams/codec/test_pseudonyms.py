import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from streams.codec.pseudonyms import TEXTS, Disguised, Pseudonyms
from streams.codec.strict import CONTRACT_NAMES

KEYED = Pseudonyms(SecretStr("a key of some length"))
PLAIN = Pseudonyms(None)
BOTH = pytest.mark.parametrize("pseudonyms", [KEYED, PLAIN], ids=["keyed", "without a key"])
WHO = "Zq7-shopper"
ALICE = KEYED.of(WHO.encode()).decode()
EVENT = {"event_id": "e1", "sku": "LAMP", "user_id": WHO, "price_cents": 500, "quantity": 2}


def shown(value: bytes, key: bytes = b"LAMP", pseudonyms: Pseudonyms = KEYED) -> bytes:
    return pseudonyms.record(key, value).value or b""


def encoded(**changed: Any) -> bytes:
    return json.dumps({**EVENT, **changed}).encode()


def test_exactly_the_shopper_is_replaced_and_every_other_byte_stays() -> None:
    value = b'{ "event_id" : "e1",\n"user_id":\t"Zq7-shopper","sku":"LAMP","price_cents":5 }'
    assert shown(value) == value.replace(WHO.encode(), ALICE.encode())
    assert shown(value, pseudonyms=PLAIN) == value.replace(WHO.encode(), b"redacted")


def test_a_pseudonym_depends_on_the_key_and_is_the_same_wherever_the_shopper_stands() -> None:
    assert ALICE.startswith("p-") and len(ALICE) == 2 + 32
    assert Pseudonyms(SecretStr("another key of length")).of(WHO.encode()) != ALICE.encode()
    escaped = b'{"sku":"LAMP","user_id":"Zq7\\u002dshopper"}'
    assert ALICE.encode() in shown(escaped)
    assert (
        shown(b'{"user_id":7,"sku":"LAMP"}')[11:47] == shown(b'{"user_id":"7","sku":"LAMP"}')[11:47]
    )


@pytest.mark.parametrize(
    "value",
    [
        b'{"user\\u005fid":"Zq7-shopper"}',
        b'{"\\u0075ser_id":"Zq7-shopper"}',
        b'{"user_id":"a","user_id":"Zq7-shopper"}',
        b'{"userId":"Zq7-shopper"}',
        b'{"USER-ID":"Zq7-shopper"}',
        b'{"payload":{"after":[{"user_id":"Zq7-shopper"}]}}',
        b'{"user_id":{"id":"Zq7-shopper","of":["}"]}}',
        b'{"user_id":["Zq7-shopper"]}',
        b'{"user_id":"x","user":{"name":"Zq7-shopper"}}',
        b'{"user_id":"Zq7-shopper","note":"for Zq7-shopper"}',
        b'{"user_id":"Zq7-shopper","price_cents":"Zq7-shopper"}',
        b'{"user_id":"Zq7-shopper","sku":["Zq7-shopper"]}',
        b'{"user_id":"Zq7-shopper","a":{"b":["Zq7\\u002dshopper","Zq7-shopper"]}}',
        b'{"body":"{\\"user_id\\":\\"Zq7-shopper\\"}"}',
        b'{"event_id":"{\\"user\\\\u005fid\\":\\"Zq7-shopper\\"}"}',
        b'{"event_id":"user_id=Zq7-shopper","user_id":"x"}',
        b'{"customer":"Zq7-shopper"}',
        b'{"sku":"LAMP","customer":{"name":"Zq7-shopper"}}',
        b'{"user_id":"Zq7-shopper',
        b'{"user_id":"Zq7-shopper"',
        b'{"user_id":"a"Zq7-shopper"}',
        b'{"sku":"LAMP","user_id" "Zq7-shopper"}',
        b'{"sku":"LAMP","user\\u005fid":"Zq7-shopper"',
        b'{"sku":"caf\xe9","user_id":"Zq7-shopper"}',
        b"{'sku':'LAMP','user_id':'Zq7-shopper'}",
        b"{sku: LAMP, customer: Zq7-shopper}",
        b"{sku=LAMP, userId=Zq7-shopper}",
        b'\xef\xbb\xbf{"user_id":"Zq7-shopper"}',
        b"e1,LAMP,Zq7-shopper,500",
        b'"Zq7-shopper"',
        b'["e1","LAMP","Zq7-shopper"]',
        b"<user_id>Zq7-shopper</user_id>",
        b'{"a":' * 100 + b'{"user_id":"Zq7-shopper"}' + b"}" * 100,
        b'{"pad":"' + b"x" * 2**20 + b'","user_id":"Zq7-shopper"}',
        b'{"price_cents":1e999,"user_id":"Zq7-shopper"}',
    ],
)
@BOTH
def test_a_shopper_is_not_shown_however_the_record_is_spoilt(
    value: bytes, pseudonyms: Pseudonyms
) -> None:
    assert WHO.encode() in value
    assert WHO.encode() not in shown(value, pseudonyms=pseudonyms)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_of_other_encodings_nothing_is_shown(encoding: str) -> None:
    value = encoded().decode().encode(encoding)
    assert KEYED.record(b"LAMP", value).value == KEYED.of(value)


def test_of_broken_json_what_comes_before_the_shopper_is_shown_and_that_it_is_not_all() -> None:
    broken = b'{"event_id":"e1","sku":"LAMP","user_id":"Zq7-shopper"'
    assert PLAIN.record(b"LAMP", broken) == Disguised(
        b"LAMP", b'{"event_id":"e1","sku":"LAMP","redacted', False
    )
    short = b'{"event_id":"e1","sku":"LAMP"'
    assert PLAIN.record(b"LAMP", short) == Disguised(b"LAMP", short, True)


def test_numbers_and_texts_stay_where_the_contract_has_such() -> None:
    assert set(TEXTS) < CONTRACT_NAMES
    value = b'{"sku":"LAMP","price_cents":-1,"quantity":1e3,"event_time_ms":"5","title":"a lamp"}'
    assert shown(value, pseudonyms=PLAIN) == value.replace(b'"5"', b'"redacted"')


@pytest.mark.parametrize("told", ["friday", 1, ["friday"], {"a": {"b": ["friday"]}}])
def test_of_fields_beyond_the_contract_the_names_stay(told: Any) -> None:
    value = encoded(campaign=told)
    found = json.loads(shown(value, pseudonyms=PLAIN))
    assert found == {**EVENT, "user_id": "redacted", "campaign": "redacted"}


@pytest.mark.parametrize("nobody", [b"null", b"true", b"false", b'""'])
def test_what_is_nobodys_id_stays(nobody: bytes) -> None:
    value = b'{"sku":"LAMP","user_id":' + nobody + b"}"
    assert shown(value) == value


@BOTH
def test_a_key_stays_only_where_it_is_the_records_own_sku(pseudonyms: Pseudonyms) -> None:
    gone = pseudonyms.of(WHO.encode())
    broken = b'{"event_id":"e1","sku":"LAMP",'
    assert pseudonyms.record(b"LAMP", encoded()).key == b"LAMP"
    assert pseudonyms.record(b"LAMP", broken).key == b"LAMP"
    assert pseudonyms.record(WHO.encode(), encoded()).key == gone
    assert pseudonyms.record(WHO.encode(), broken).key == gone
    assert pseudonyms.record(WHO.encode(), None) == Disguised(gone, None, True)
    assert pseudonyms.record(None, None) == Disguised(None, None, True)
    assert pseudonyms.record(b"", b"") == Disguised(b"", b"", True)


def test_of_headers_the_contents_stay_that_are_known_to_be_no_ones() -> None:
    headers = [("traceparent", b"00-4b"), ("x-user", WHO.encode()), ("empty", b""), ("none", None)]
    assert KEYED.headers(headers) == [
        ("traceparent", b"00-4b"), ("x-user", ALICE.encode()), ("empty", b""), ("none", None),
    ]  # fmt: skip


@BOTH
def test_no_single_mistake_of_a_producer_shows_its_shopper(pseudonyms: Pseudonyms) -> None:
    seed = 20_261
    print(f"seed {seed}")
    chance = random.Random(seed)
    for _ in range(4_000):
        members = list(EVENT.items())
        chance.shuffle(members)
        value = bytearray(json.dumps(dict(members), separators=(",", ":")).encode())
        at = chance.randrange(len(value))
        match chance.randrange(4):
            case 0:
                del value[at:]
            case 1:
                del value[at]
            case 2:
                value[at] = chance.randrange(256)
            case 3:
                value.insert(at, chance.choice(b'"\\{}[]:,\n\x00\xff'))
        key = chance.choice((b"LAMP", WHO.encode()))
        told = pseudonyms.record(key, bytes(value))
        assert WHO.encode() not in (told.value or b""), value
        assert WHO.encode() != told.key, value


scalars = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=8)
trees = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(trees, st.sampled_from(["user_id", "userId", "User-Id"]), st.booleans())
def test_whatever_else_a_json_object_holds_stays_json_with_the_same_members(
    other: Any, name: str, ascii_only: bool
) -> None:
    body = {"sku": "LAMP", "other": other, "nest": [{name: WHO, "x": other}], name: WHO}
    value = json.dumps(body, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    told = KEYED.record(b"LAMP", value)
    assert WHO.encode() not in (told.value or b"")
    try:
        value.decode()
        found = json.loads(told.value or b"")
    except (UnicodeDecodeError, json.JSONDecodeError):
        assert not told.whole
        return
    assert list(found) == list(body)
    assert found[name] == ALICE
