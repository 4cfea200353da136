"""The wire contract, decided field by field in plain Python: the meaning of every verdict.

The kernel takes what is plainly good; whatever it is not sure of comes here, to be accepted or to
be told why not. Reasons are looked for in one order, whatever the order of the fields: value
missing, too large, not UTF-8, not JSON, a field missing, of the wrong type, out of range, the unit
of the event time, the key, the future.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from streams.errors import ContractError, Reason
from streams.records import (
    EVENT_TIME_MS_MAX,
    EVENT_TIME_MS_MIN,
    ID_BYTES_MAX,
    PRICE_CENTS_MAX,
    QUANTITY_MAX,
    SKU_BYTES_MAX,
    Cart,
    Click,
    Order,
)

VALUE_BYTES_MAX: Final = 2**20
NESTING_MAX: Final = 64  # of an unknown field; a limit of ours, so that no call stack decides it
SHOWN_MAX: Final = 80

Event = Click | Cart | Order
EVENT_TYPES: Final[tuple[type[Click], type[Cart], type[Order]]] = (Click, Cart, Order)

_TEXT_BYTES_MAX: Final = {
    "event_id": ID_BYTES_MAX,
    "sku": SKU_BYTES_MAX,
    "user_id": ID_BYTES_MAX,
}
_RANGES: Final = {"price_cents": (0, PRICE_CENTS_MAX), "quantity": (1, QUANTITY_MAX)}


@dataclass(frozen=True, slots=True)
class _Contract:
    required: tuple[str, ...]
    optional: tuple[str, ...]
    names: frozenset[str]


def _contract(event: type[Event]) -> _Contract:
    fields = msgspec.structs.fields(event)
    return _Contract(
        required=tuple(field.name for field in fields if field.required),
        optional=tuple(field.name for field in fields if not field.required),
        names=frozenset(field.name for field in fields),
    )


_CONTRACTS: Final = tuple(_contract(event) for event in EVENT_TYPES)
_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_BRACKET: Final = re.compile(rb"[\[\]{}]")


def decode_event(
    kind: int,
    key: bytes | None,
    value: bytes | None,
    timestamp_ms: int,
    future_tolerance_ms: int,
) -> Event:
    """The event of one record of topic `EVENT_TOPICS[kind]`.

    `timestamp_ms` is the record's own. Raises ContractError with the first reason in the order
    above.
    """
    return decode_counted(kind, key, value, timestamp_ms, future_tolerance_ms)[0]


def decode_counted(
    kind: int,
    key: bytes | None,
    value: bytes | None,
    timestamp_ms: int,
    future_tolerance_ms: int,
) -> tuple[Event, bool]:
    """As `decode_event`, and whether the value has fields that the contract does not name."""
    fields = parse_object(value)
    contract = _CONTRACTS[kind]
    for name in contract.required:
        if name not in fields:
            raise ContractError(Reason.MISSING_FIELD, f"{name} is missing")
    _require_types(contract, fields)
    _require_ranges(contract, fields)
    _require_time(fields["event_time_ms"])
    require_key(key, fields["sku"])
    if fields["event_time_ms"] > timestamp_ms + future_tolerance_ms:
        raise ContractError(
            Reason.EVENT_TIME_FUTURE,
            f"event_time_ms {fields['event_time_ms']} is more than {future_tolerance_ms} ms after "
            f"the record's timestamp {timestamp_ms}",
        )
    return msgspec.convert(fields, EVENT_TYPES[kind]), not contract.names.issuperset(fields)


def parse_object(value: bytes | None) -> dict[str, Any]:
    """The JSON object of one value. Raises ContractError."""
    if value is None:
        raise ContractError(Reason.VALUE_MISSING, "the record has no value")
    if len(value) > VALUE_BYTES_MAX:
        raise ContractError(
            Reason.VALUE_TOO_LARGE, f"value of {len(value)} bytes, at most {VALUE_BYTES_MAX}"
        )
    try:
        value.decode()
    except UnicodeDecodeError as error:
        raise ContractError(
            Reason.NOT_UTF8, f"byte {error.start} of the value: {error.reason}"
        ) from None
    if _nesting(value) > NESTING_MAX:
        raise ContractError(Reason.NOT_JSON, f"nested deeper than {NESTING_MAX}")
    try:
        parsed = msgspec.json.decode(value)
    except msgspec.ValidationError as error:  # a number that no field could hold
        raise ContractError(Reason.OUT_OF_RANGE, str(error)) from None
    except msgspec.DecodeError as error:
        raise ContractError(Reason.NOT_JSON, f"{error}: {_shown(value)}") from None
    if not isinstance(parsed, dict):
        raise ContractError(Reason.WRONG_TYPE, f"the value is no JSON object: {_shown(value)}")
    return parsed


def require_key(key: bytes | None, sku: str) -> None:
    """Raises ContractError unless the record's key is the SKU."""
    if not key:
        raise ContractError(Reason.KEY_MISSING, f"no key; it must be the sku {_shown(sku)}")
    if key != sku.encode():
        raise ContractError(Reason.KEY_MISMATCH, f"key {_shown(key)} is not the sku {_shown(sku)}")


def require_text(name: str, text: str, bytes_max: int) -> None:
    """Raises ContractError unless 1 to `bytes_max` bytes; a SKU must not begin with byte 0."""
    size = len(text.encode())
    if not 1 <= size <= bytes_max:
        raise ContractError(
            Reason.OUT_OF_RANGE, f"{name} of {size} bytes, allowed are 1 to {bytes_max}"
        )
    if name == "sku" and text[0] == "\0":
        raise ContractError(Reason.OUT_OF_RANGE, "sku begins with the character U+0000")


def _require_types(contract: _Contract, fields: Mapping[str, Any]) -> None:
    for name in contract.required:
        wanted: type = str if name in _TEXT_BYTES_MAX else int
        if type(fields[name]) is not wanted:  # exactly: True would pass for an integer
            raise ContractError(
                Reason.WRONG_TYPE,
                f"{name} is {_shown(fields[name])}, not {_words(wanted)}",
            )
    for name in contract.optional:
        if fields.get(name) is not None and type(fields[name]) is not str:
            raise ContractError(
                Reason.WRONG_TYPE, f"{name} is {_shown(fields[name])}, not a string or null"
            )


def _require_ranges(contract: _Contract, fields: Mapping[str, Any]) -> None:
    for name in contract.required:
        if name in _TEXT_BYTES_MAX:
            require_text(name, fields[name], _TEXT_BYTES_MAX[name])
        elif name in _RANGES:
            low, high = _RANGES[name]
            if not low <= fields[name] <= high:
                raise ContractError(
                    Reason.OUT_OF_RANGE,
                    f"{name} is {_shown(fields[name])}, allowed are {low} to {high}",
                )


def _require_time(time_ms: int) -> None:
    if not EVENT_TIME_MS_MIN <= time_ms < EVENT_TIME_MS_MAX:
        raise ContractError(
            Reason.EVENT_TIME_UNIT,
            f"event_time_ms {_shown(time_ms)} is not in milliseconds since 1970",
        )


def _nesting(value: bytes) -> int:
    """How deep brackets nest; exact for JSON, and only looked at closely when there are many."""
    if value.count(b"[") + value.count(b"{") <= NESTING_MAX:
        return 0
    depth = deepest = 0
    for bracket in _BRACKET.finditer(_STRING.sub(b"", value)):
        depth += 1 if bracket[0] in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _words(wanted: type) -> str:
    return "a string" if wanted is str else "an integer"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN_MAX else text[: SHOWN_MAX - 3] + "..."
