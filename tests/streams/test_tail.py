import json

import msgspec
import pytest

from streams import topics
from streams.codec.plain import Record
from streams.errors import ConfigurationError
from streams.schema_examples import EXAMPLES
from streams.settings import load
from streams.tail import json_line, line, run_tail


def record(value: bytes | None, unreadable: str | None = None) -> Record:
    headers = [("ce_id", b"abc"), ("empty", None)]
    return Record(17, 1_764_320_400_000, b"LAMP-0042", value, headers, unreadable=unreadable)


@pytest.mark.parametrize(
    ("topic", "words"),
    [
        (topics.RESTOCK_EVENTS, "LAMP-0042"),
        (topics.RESTOCK_EVENTS, "order 310: position 205, reorder at 210, up to 515"),
        (topics.PRICE_ADJUSTMENTS, "129.00 -> 121.00 (-6.2%), clamped by step"),
        (topics.CAPACITY_FORECASTS, "9/10/10 replicas for 412.0/455.5/468.0 requests a second"),
        (topics.DEMAND_FORECASTS, "1 min 8.1 (3-14), 5 min 40.3 (24-58)"),
        (topics.DEMAND_WINDOWS, "37 clicks, 6 carts, 3 orders, 4 units, revenue 516.00 at 129.00"),
        (topics.DEAD_LETTERS, "missing_field  · user_id is missing"),
        (topics.LATE_EVENTS, "clicks-2 @ 51877"),
    ],
)
def test_each_record_is_one_readable_line(topic: str, words: str) -> None:
    text = line(topic, 0, record(msgspec.json.encode(EXAMPLES[topic]))).plain
    assert words in text
    assert "\n" not in text


def test_every_output_topic_can_be_shown() -> None:
    for topic in topics.OUTPUT_TOPICS:
        assert line(topic, 0, record(msgspec.json.encode(EXAMPLES[topic]))).plain


def test_a_name_cannot_write_to_the_terminal() -> None:
    spoilt = msgspec.structs.replace(EXAMPLES[topics.RESTOCK_EVENTS], sku="\x1b[2J\r\nLAMP\u202e")
    text = line(topics.RESTOCK_EVENTS, 0, record(msgspec.json.encode(spoilt))).plain
    assert r"\x1b[2J\r\nLAMP\u202e" in text


@pytest.mark.parametrize("value", [None, b"", b"nonsense", b"\xff\xfe", b'{"sku": 5}'])
def test_a_record_that_cannot_be_read_is_shown_all_the_same(value: bytes | None) -> None:
    assert "restock-events-3 @ 17" in line(topics.RESTOCK_EVENTS, 3, record(value)).plain
    body = json.loads(json_line(topics.RESTOCK_EVENTS, 2, record(value)))
    assert body["offset"] == 17
    assert ("value" in body) != ("value_base64" in body)


def test_a_batch_that_cannot_be_read_is_shown_with_the_reason() -> None:
    batch = record(b"\0\1", "offsets 17 to 19: torn")
    assert "unreadable: offsets 17 to 19: torn" in line(topics.RESTOCK_EVENTS, 3, batch).plain
    body = json.loads(json_line(topics.RESTOCK_EVENTS, 3, batch))
    assert (body["unreadable"], body["value_base64"]) == ("offsets 17 to 19: torn", "AAE=")


def test_a_json_line_holds_position_headers_and_the_value_as_json() -> None:
    value = msgspec.json.encode(EXAMPLES[topics.RESTOCK_EVENTS])
    body = json.loads(json_line(topics.RESTOCK_EVENTS, 2, record(value)))
    assert body["headers"] == {"ce_id": "abc", "empty": None}
    assert body["value"]["order_quantity"] == 310
    assert (body["topic"], body["partition"], body["key"]) == ("restock-events", 2, "LAMP-0042")


def test_an_unknown_topic_is_named_with_those_there_are() -> None:
    with pytest.raises(ConfigurationError, match="'orders': not an output topic; there are demand"):
        run_tail(load(), ["orders"])
