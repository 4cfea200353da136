"""Who a shopper is stays in the input topics: it reaches no output, no state and no log line."""

import base64
from collections.abc import Iterator

import msgspec
import pytest
from structlog.testing import capture_logs

from models.forecaster import Forecaster
from streams import tail, topics
from streams.codec.decode import Fetch
from streams.errors import Reason
from streams.fetch_seam import pack
from streams.records import CatalogEntry, Refused, StockLevel
from streams.settings import load
from streams.state import marker as markers
from streams.web import page
from streams.web.board import Board
from tests.streams.harness import NOW_MS, Core, Log, event

START_MS = NOW_MS - NOW_MS % 60_000 - 3_600_000
WHO = b"Zq7-shopper"  # begins every shopper's id of this sale
SKU = "LAMP"
KEY = SKU.encode()
NAMED = b'"user_id":"Zq7-shopper-x"'


def good(number: int, at_ms: int, quantity: int = 0, price: object = 1_000) -> tuple[bytes, bytes]:
    who = f"{WHO.decode()}-{number}"
    key, value = event(number, SKU, START_MS + at_ms, quantity=quantity, user_id=who)
    return key, value.replace(b'"price_cents":1000', b'"price_cents":' + msgspec.json.encode(price))


def spoilt() -> list[tuple[bytes | None, bytes | None]]:
    """One click for every reason that a dead letter has, and a late event."""
    whole = good(90_001, 3_000_000)[1]
    return [
        (KEY, whole[:-1]),  # not JSON, and the shopper stands in what is left
        (KEY, b'"' + WHO + b'"'),
        (KEY, whole.replace(b'"LAMP"', b'"\xff"')),
        (WHO, None),
        (WHO, b'{"pad":"' + b"x" * 2**20 + b'",' + NAMED + b"}"),
        (KEY, b'{"sku":"LAMP","event_id":"e","customer":"Zq7-shopper"}'),
        (KEY, good(90_002, 0, price="free")[1]),
        (KEY, whole.replace(b'"Zq7-shopper-90001"', b'{"id":"Zq7-shopper"}')),
        (KEY, whole.replace(b"Zq7-shopper-90001", WHO * 20)),
        (KEY, good(90_004, 0, price=-5)[1]),
        (None, whole),
        (WHO, whole),
        (KEY, whole.replace(b'"event_time_ms":1', b'"event_time_ms":1000000')),
        good(90_005, 10**9),
        good(90_006, -10_000_000),
    ]


def a_sale(core: Core) -> None:
    """An hour of clicks, carts and orders, and the spoilt records among them."""
    entry = CatalogEntry(
        SKU, "Lamp", "c", 1_000, 600, 500, 1_500, 600_000, START_MS, START_MS + 7_200_000
    )
    core.log.add(topics.CATALOG, (KEY, msgspec.json.encode(entry)), (WHO, b"{" + NAMED))
    core.log.add(topics.STOCK_LEVELS, (KEY, msgspec.json.encode(StockLevel(SKU, 9, 0, START_MS))))
    for number in range(360):
        core.log.add(topics.CLICKS, good(number, number * 10_000))
        core.log.add(topics.CARTS, good(1_000 + number, number * 10_000, 1))
        core.log.add(topics.ORDERS, good(2_000 + number, number * 10_000, 1))
    core.log.add(topics.CLICKS, good(5, 50_000))  # a duplicate
    for topic in (*topics.REFERENCE_TOPICS, *topics.EVENT_TOPICS):
        core.feed(topic)
    core.run()
    begin = core.fed[topics.CLICKS]
    headers = [("x-user", WHO), ("baggage", b"id=" + WHO), ("traceparent", b"00-1")]
    stamp_ms = START_MS + 3_700_000
    records = [
        (begin + at, stamp_ms, key, value, headers) for at, (key, value) in enumerate(spoilt())
    ]
    end = begin + len(records)
    core.pipeline.offer(Fetch(topics.CLICKS, 0, begin, end, pack(records)))
    core.run()
    core.silence(upto_ms=20_000)


def everything(core: Core) -> Iterator[tuple[str, bytes]]:
    """(where, bytes) of all that the checkpoints made durable, base64 undone."""
    for topic, records in core.outputs.items():
        for record in records:
            yield topic, record.key or b""
            yield topic, record.value or b""
            for name, content in record.headers:
                yield topic, name.encode() + (content or b"")
            if topic in (topics.LATE_EVENTS, topics.DEAD_LETTERS):
                refused = msgspec.json.decode(record.value, type=Refused)
                for text in (refused.key, refused.value, *(text for _, text in refused.headers)):
                    yield topic, base64.b64decode(text or "")
    for name, row in core.rows.items():
        yield "row", name + row.tobytes()
    for name, cut in core.cuts.items():
        yield "cut", name + cut
    assert core.marker is not None
    yield "marker", markers.encode(core.marker)


@pytest.mark.parametrize("key", [None, "a key of some length"])
def test_a_shoppers_id_is_in_no_output_no_row_no_marker_and_no_log_line(key: str | None) -> None:
    settings = load(clock="event", partitions=1, pseudonym_key=key, log_level="debug")
    core = Core(settings, Log(), Forecaster.load(None, "cpu"))
    with capture_logs() as lines:
        a_sale(core)
        core.checkpoint()
    found = list(everything(core))
    assert [where for where, data in found if WHO in data] == []
    assert WHO.decode() not in repr(lines)
    written = {topic for topic, records in core.outputs.items() if records}
    assert written == {*topics.OUTPUT_TOPICS, topics.CAPACITY_SHARES} - {topics.CAPACITY_FORECASTS}
    letters = [msgspec.json.decode(r.value, type=Refused) for r in core.outputs["dead-letters"]]
    elsewhere = {  # of records that are not looked into, or are not spoilt
        Reason.WRONG_PARTITION,
        Reason.BATCH_UNREADABLE,
        Reason.SKU_UNKNOWN,
        Reason.SKU_LIMIT,
    }
    assert {one.reason for one in letters} >= set(Reason) - elsewhere
    assert len(core.outputs[topics.LATE_EVENTS]) == 1
    assert {"marker", "row"} <= {where for where, _ in found}


def test_nor_is_it_on_the_page_or_in_what_tail_prints() -> None:
    core = Core(load(clock="event", partitions=1), Log())
    a_sale(core)
    core.checkpoint()
    board = Board()
    shown = []
    for topic, records in core.outputs.items():
        if topic not in topics.OUTPUT_TOPICS:
            continue
        for record in records:
            board.add(topic, 0, record.value)
            shown.append(tail.line(topic, 0, record).plain)
    shown.append(msgspec.json.encode(page.overview(board)).decode())
    assert board.totals.dead_letters > 10 and board.totals.late == 1
    assert not [line for line in shown if WHO.decode() in line]
