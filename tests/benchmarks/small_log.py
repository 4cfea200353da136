"""A sale small enough to work out by hand: one SKU, one partition, and all that follows from it."""

import base64
import hashlib
import json
from typing import Any

from benchmarks.drills.independent.log import Log, Record, Rules

T = 1_700_000_040_000  # a multiple of a minute
WALL_MS = T + 10**9
RULES = Rules("t-", "shop", partitions=1, exactly_once=True, forecasting=True)
EVENTS: dict[str, list[tuple[str, int, int, int]]] = {  # event id, after T in ms, price, quantity
    "clicks": [
        ("c0", 1_000, 100, 0),
        ("c1", 70_500, 101, 0),
        ("c1", 70_500, 101, 0),  # a duplicate
        ("c2", 60_000, 100, 0),  # 5.5 s behind the watermark: late
        ("c3", 130_000, 100, 0),
    ],
    "carts": [("a0", 2_000, 100, 1), ("a1", 131_000, 100, 2)],
    "orders": [("o0", 3_000, 100, 4), ("o1", 131_000, 110, 1)],
}
BAD_VALUE = b"{"
WINDOWS = [  # after T, clicks, carts, orders, units, revenue, price
    (0, 1, 1, 1, 4, 400, 100),
    (70_000, 1, 0, 0, 0, 0, 101),
    (130_000, 1, 1, 1, 1, 110, 103),
]


def record(offset: int, body: Any, key: bytes = b"M", **headers: str) -> Record:
    value = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Record(offset, WALL_MS, key, value, {k: v.encode() for k, v in headers.items()})


def small_log() -> Log:
    """Consistent throughout; tests take something out of it."""
    log = Log()
    for topic, events in EVENTS.items():
        log.records[topic, 0] = [
            record(
                offset,
                {"event_id": name, "sku": "M", "user_id": "u", "event_time_ms": T + after,
                 "price_cents": price} | ({"quantity": quantity} if quantity else {}),
            )
            for offset, (name, after, price, quantity) in enumerate(events)
        ]  # fmt: skip
    log.records["orders", 0].append(record(2, BAD_VALUE))
    log.ends = {(topic, 0): len(log.records[topic, 0]) for topic in EVENTS}
    log.records["catalog", 0] = [record(0, {"sku": "M", "list_price_cents": 120})]
    log.records["stock-levels", 0] = [
        record(0, {"sku": "M", "on_hand": 10, "on_order": 0, "as_of_ms": T})
    ]
    log.records["demand-windows", 0] = [
        record(number, _window(*window)) for number, window in enumerate(WINDOWS)
    ]
    log.records["late-events", 0] = [record(0, _refused(log, "clicks", 3, "late"), ce_id="l0")]
    log.records["dead-letters", 0] = [record(0, _refused(log, "orders", 2, "not_json"), ce_id="d")]
    log.records["demand-forecasts", 0] = [
        record(number, {"sku": "M", "origin_ms": T + at}, ce_id=f"f{number}")
        for number, at in enumerate((60_000, 120_000, 180_000))
    ]
    log.records["restock-events", 0] = [  # 4 sold by then; and 5 on their way
        record(0, _restock(60_000, 6, 5), ce_id="r0"),
        record(1, _restock(180_000, 10, 3), ce_id="r1"),
    ]
    log.records["price-adjustments", 0] = [  # shown 100 until then; shown 103 since
        record(0, _price(60_000, 100, 115), ce_id="p0"),
        record(1, _price(180_000, 103, 99), ce_id="p1"),
    ]
    log.records["changelog", 0] = [record(0, _marker(), b"\x00marker")]
    return log


def _window(after: int, *figures: int) -> dict[str, Any]:
    names = ("clicks", "carts", "orders", "units", "revenue_cents", "price_cents")
    return {"sku": "M", "bucket_start_ms": T + after} | dict(zip(names, figures, strict=True))


def _refused(log: Log, topic: str, offset: int, reason: str) -> dict[str, Any]:
    value = log.records[topic, 0][offset].value or b""
    shown = value.replace(b'"user_id": "u"', b'"user_id": "redacted"')
    return {
        "topic": RULES.broker_name(topic),
        "partition": 0,
        "offset": offset,
        "reason": reason,
        "key": base64.b64encode(b"M" if reason == "late" else b"redacted").decode(),
        "value": base64.b64encode(shown).decode(),
        "value_length": len(value),
        "value_sha256": hashlib.sha256(shown).hexdigest(),
        "truncated": False,
    }


def _restock(after: int, position: int, quantity: int) -> dict[str, Any]:
    return {
        "sku": "M",
        "origin_ms": T + after,
        "inventory_position": position,
        "order_quantity": quantity,
    }


def _price(after: int, old: int, new: int) -> dict[str, Any]:
    return {"sku": "M", "origin_ms": T + after, "old_price_cents": old, "new_price_cents": new}


def _marker() -> dict[str, Any]:
    return {
        "offsets": {"clicks": 5, "carts": 2, "orders": 3},
        "core": {
            "windows": {"closed_through_ms": T + 180_000},
            "decider": {"counts": {"forecast": 3, "restock": 2, "price_change": 2}},
        },
    }
