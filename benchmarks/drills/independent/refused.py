"""Whether a late event or dead letter shows its record, and not the shopper in it.

As documented: in a JSON object values become `redacted` but numbers and texts where the contract
has such, `user_id` not among them; of anything else a head is shown, with `redacted` in the place
of the rest. So does a key that is not the record's own SKU.
"""

import base64
import hashlib
import json
from typing import Any

from benchmarks.drills.independent.log import Record

REDACTED = "redacted"
TEXTS = {"event_id", "sku", "session_id", "order_id", "region"}
NUMBERS = {"event_time_ms", "price_cents", "quantity"}
VALUE_BYTES_MAX = 2**20


def refused_fault(body: dict[str, Any], record: Record, bytes_max: int) -> str:
    """What is wrong with the record as shown in `body`; empty when nothing is."""
    value = record.value or b""
    if body["value_length"] != len(value) or (body["value"] is None) != (record.value is None):
        return f"a value of {body['value_length']} bytes, not {len(value)}"
    shown = base64.b64decode(body["value"] or "")
    fields = _fields(record.value)
    if not body["truncated"] and hashlib.sha256(shown).hexdigest() != body["value_sha256"]:
        return "a checksum that is not the value's"
    if fields is not None and not body["truncated"]:
        if _fields(shown) != _without_shopper(fields):
            return f"another value: {shown!r}"
    elif not (value.startswith(shown) or _head_of(shown, value)):
        return f"no head of the value: {shown!r}"
    user = (fields or {}).get("user_id")
    if isinstance(user, str) and user and json.dumps(user).encode() in shown:
        return "the shopper"
    key = None if body["key"] is None else base64.b64decode(body["key"])
    own = record.key in (None, b"") or _shows_sku(record.key, shown)
    right = record.key if own else REDACTED.encode()
    return "" if key == (right and right[:bytes_max]) else f"key {key!r}, not {right!r}"


def _fields(value: bytes | None) -> dict[str, Any] | None:
    try:
        parsed = json.loads(value or b"", parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict) and len(value or b"") <= VALUE_BYTES_MAX else None


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _without_shopper(fields: dict[str, Any]) -> dict[str, Any]:
    def goes(name: str, value: Any) -> bool:
        nobody = value is None or isinstance(value, bool) or value == ""
        stays = TEXTS | NUMBERS if isinstance(value, int | float) else TEXTS
        return not nobody and (name not in stays or isinstance(value, dict | list))

    return {name: REDACTED if goes(name, value) else value for name, value in fields.items()}


def _head_of(shown: bytes, value: bytes) -> bool:
    mark = REDACTED.encode()
    return shown.endswith(mark) and value.startswith(shown[: -len(mark)])


def _shows_sku(key: bytes, shown: bytes) -> bool:
    fields = _fields(shown)
    if fields is not None:
        return bool(fields.get("sku") == key.decode(errors="replace"))
    return b'"sku":"' + key + b'"' in shown.replace(b" ", b"")
