"""The wire contract, decided field by field in plain Python: the meaning of every verdict.

The kernel takes what is plainly good; whatever it is not sure of comes here, to be accepted or to
be told why not. Reasons are looked for in one order, whatever the order of the fields: value
missing, too large, not UTF-8, not JSON, a field missing, of the wrong type, out of range, the unit
of the event time, the key, the future.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec
from msgspec import inspect

from streams.errors import ContractError, Reason
from streams.records import Cart, CatalogEntry, Click, CompetitorPrice, Order, StockLevel
from streams.topics import CATALOG, COMPETITOR_PRICES, STOCK_LEVELS

VALUE_BYTES_MAX: Final = 2**20
NESTING_MAX: Final = 64  # of an unknown field; a limit of ours, so that no call stack decides it
SHOWN_MAX: Final = 80
EVENT_TIME: Final = "event_time_ms"

Event = Click | Cart | Order
Entry = CatalogEntry | StockLevel | CompetitorPrice
EVENT_TYPES: Final[tuple[type[Event], ...]] = (Click, Cart, Order)
ENTRY_TYPES: Final[dict[str, type[Entry]]] = {
    CATALOG: CatalogEntry,
    STOCK_LEVELS: StockLevel,
    COMPETITOR_PRICES: CompetitorPrice,
}

AnyRecord = TypeVar("AnyRecord", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class _Field:
    """What one field may hold: text of `low` to `high` bytes, or an integer from `low` to
    `high`.
    """

    name: str
    required: bool
    is_text: bool
    low: int
    high: int | None


@dataclass(frozen=True, slots=True)
class _Contract:
    fields: tuple[_Field, ...]
    names: frozenset[str]


def _contract(record: type[msgspec.Struct]) -> _Contract:
    """The struct's own bounds, lengths being meant in bytes."""
    told = inspect.type_info(record)
    assert isinstance(told, inspect.StructType)
    fields = []
    for field in told.fields:
        kind = field.type
        if isinstance(kind, inspect.Metadata):
            kind = kind.type
        if isinstance(kind, inspect.UnionType):  # an optional text
            kind = next(one for one in kind.types if isinstance(one, inspect.StrType))
        if isinstance(kind, inspect.StrType):
            low, high = kind.min_length or 0, kind.max_length
        else:
            assert isinstance(kind, inspect.IntType) and kind.ge is not None
            low, high = kind.ge, kind.le if kind.lt is None else kind.lt - 1
        is_text = isinstance(kind, inspect.StrType)
        fields.append(_Field(field.name, field.required, is_text, low, high))
    return _Contract(tuple(fields), frozenset(field.name for field in fields))


_EVENTS: Final = tuple(_contract(event) for event in EVENT_TYPES)
_ENTRIES: Final = {topic: _contract(entry) for topic, entry in ENTRY_TYPES.items()}
CONTRACT_NAMES: Final = frozenset().union(*(one.names for one in (*_EVENTS, *_ENTRIES.values())))
_KINDS: Final[dict[type, str]] = {
    str: "a string",
    int: "an integer",
    float: "a fraction",
    bool: "a boolean",
    type(None): "null",
    list: "a list",
    dict: "an object",
}
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
    fields = _required_object(value)
    contract = _EVENTS[kind]
    _require_fields(contract, fields)
    _require_key(key, fields["sku"])
    if fields[EVENT_TIME] > timestamp_ms + future_tolerance_ms:
        raise ContractError(
            Reason.EVENT_TIME_FUTURE,
            f"{EVENT_TIME} {fields[EVENT_TIME]} is more than {future_tolerance_ms} ms after the "
            f"record's timestamp {timestamp_ms}",
        )
    return _built(EVENT_TYPES[kind], contract, fields), not contract.names.issuperset(fields)


def decode_reference(topic: str, key: bytes | None, value: bytes | None) -> Entry | None:
    """The record of a reference topic (logical name); None for a tombstone: forget this SKU.

    Raises ContractError.
    """
    if value is None:
        if not key:
            raise ContractError(Reason.KEY_MISSING, "a tombstone without key")
        return None
    fields = _required_object(value)
    contract = _ENTRIES[topic]
    _require_fields(contract, fields)
    _require_key(key, fields["sku"])
    return _built(ENTRY_TYPES[topic], contract, fields)


def _built(record: type[AnyRecord], contract: _Contract, fields: Mapping[str, Any]) -> AnyRecord:
    known = {name: value for name, value in fields.items() if name in contract.names}
    return record(**known)


def _required_object(value: bytes | None) -> dict[str, Any]:
    """The JSON object of one value."""
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
    if nesting(value) > NESTING_MAX:
        raise ContractError(Reason.NOT_JSON, f"nested deeper than {NESTING_MAX}")
    try:
        parsed = msgspec.json.decode(value)
    except msgspec.ValidationError as error:  # a number that no field could hold
        raise ContractError(Reason.OUT_OF_RANGE, str(error)) from None
    except msgspec.DecodeError as error:
        raise ContractError(Reason.NOT_JSON, str(error)) from None
    if not isinstance(parsed, dict):
        said = f"the value is {_kind(parsed)}, not an object"
        raise ContractError(Reason.WRONG_TYPE, said)
    return parsed


def _require_key(key: bytes | None, sku: str) -> None:
    if not key:
        raise ContractError(Reason.KEY_MISSING, f"no key; it must be the sku {_shown(sku)}")
    if key != sku.encode():
        raise ContractError(Reason.KEY_MISMATCH, f"the key is not the sku {_shown(sku)}")


def _require_fields(contract: _Contract, fields: Mapping[str, Any]) -> None:
    """Every field there, then every field's type, then every range, then the event time."""
    for field in contract.fields:
        if field.required and field.name not in fields:
            raise ContractError(Reason.MISSING_FIELD, f"{field.name} is missing")
    present = [field for field in contract.fields if field.name in fields]
    for field in present:
        value = fields[field.name]
        if value is None and not field.required:
            continue
        if type(value) is not (str if field.is_text else int):  # exactly: True would pass for 1
            said = f"{field.name} is {_kind(value)}, not {_kind('' if field.is_text else 0)}"
            raise ContractError(Reason.WRONG_TYPE, said)
    for field in present:
        if field.name != EVENT_TIME:
            _require_range(field, fields[field.name])
    for field in present:
        if field.name == EVENT_TIME:
            _require_range(field, fields[field.name])


def _require_range(field: _Field, value: str | int | None) -> None:
    if value is None:
        return
    size = len(value.encode()) if isinstance(value, str) else value
    if size < field.low or (field.high is not None and size > field.high):
        reason = Reason.EVENT_TIME_UNIT if field.name == EVENT_TIME else Reason.OUT_OF_RANGE
        shown = f"of {size} bytes" if field.is_text else f"is {_shown(value)}"
        high = "any number" if field.high is None else field.high
        unit = ": milliseconds since 1970?" if field.name.endswith("_ms") else ""
        raise ContractError(
            reason, f"{field.name} {shown}, allowed are {field.low} to {high}{unit}"
        )
    if field.name == "sku" and str(value).startswith("\0"):
        raise ContractError(Reason.OUT_OF_RANGE, "sku begins with the character U+0000")


def nesting(value: bytes) -> int:
    """How deep brackets nest, up to one more than is allowed; exact for JSON, and only looked at
    closely when there are many.
    """
    if value.count(b"[") + value.count(b"{") <= NESTING_MAX:
        return 0
    depth = deepest = 0
    for bracket in _BRACKET.finditer(_STRING.sub(b"", value)):
        depth += 1 if bracket[0] in b"[{" else -1
        deepest = max(deepest, depth)
        if deepest > NESTING_MAX:
            break  # deep enough for a verdict
    return deepest


def _kind(value: object) -> str:
    """What a JSON value is. Never the value itself, which may be a shopper's."""
    return _KINDS[type(value)]


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN_MAX else text[: SHOWN_MAX - 3] + "..."
