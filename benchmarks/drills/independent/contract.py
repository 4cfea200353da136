"""Whether an event keeps the wire contract, field by field; the reason when it does not.

Reasons are looked for in one order: value missing, too large, not UTF-8, not JSON, a field missing,
of the wrong type, out of range, the unit of the event time, the key, the future, the partition.
"""

import json
from typing import Any, NoReturn

from kafka.partitioner.default import murmur2

from benchmarks.drills.independent.log import CLICKS, Record, Rules

VALUE_BYTES_MAX = 2**20
TEXTS = {"event_id": 128, "sku": 128, "user_id": 128}
INTEGERS = {"price_cents": (0, 10**8)}
QUANTITY = {"quantity": (1, 10**6)}
EVENT_TIME = "event_time_ms"
EVENT_TIME_MS_MIN, EVENT_TIME_MS_END = 10**12, 10**14
OPTIONAL_TEXTS = ("session_id", "region", "order_id")


class RefusedError(Exception):
    """The one argument is the reason."""


def judge(topic: str, partition: int, record: Record, rules: Rules) -> dict[str, Any]:
    """The event of one record. Raises RefusedError."""
    event = _object(record.value)
    integers = INTEGERS if topic == CLICKS else INTEGERS | QUANTITY
    if any(name not in event for name in (*TEXTS, *integers, EVENT_TIME)):
        raise RefusedError("missing_field")
    texts = [event[name] for name in TEXTS]
    texts += [event[name] for name in OPTIONAL_TEXTS if event.get(name) is not None]
    numbers = [event[name] for name in (*integers, EVENT_TIME)]
    if any(type(text) is not str for text in texts) or any(type(one) is not int for one in numbers):
        raise RefusedError("wrong_type")
    for name, longest in TEXTS.items():
        if not 1 <= len(event[name].encode()) <= longest:
            raise RefusedError("out_of_range")
    for name, (low, high) in integers.items():
        if not low <= event[name] <= high:
            raise RefusedError("out_of_range")
    if event["sku"].startswith("\0"):
        raise RefusedError("out_of_range")
    if not EVENT_TIME_MS_MIN <= event[EVENT_TIME] < EVENT_TIME_MS_END:
        raise RefusedError("event_time_unit")
    if not record.key:
        raise RefusedError("key_missing")
    if record.key != event["sku"].encode():
        raise RefusedError("key_mismatch")
    if event[EVENT_TIME] > record.timestamp_ms + rules.future_tolerance_ms:
        raise RefusedError("event_time_future")
    if (murmur2(record.key) & 0x7FFF_FFFF) % rules.partitions != partition:
        raise RefusedError("wrong_partition")
    return event


def _object(value: bytes | None) -> dict[str, Any]:
    if value is None:
        raise RefusedError("value_missing")
    if len(value) > VALUE_BYTES_MAX:
        raise RefusedError("value_too_large")
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise RefusedError("not_utf8") from None
    try:
        parsed = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise RefusedError("not_json") from None
    if not isinstance(parsed, dict):
        raise RefusedError("wrong_type")
    return parsed


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
