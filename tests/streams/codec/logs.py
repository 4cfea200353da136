"""Events and logs to decode, for the tests of the codec."""

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from streams.codec.columns import Bytes, Columns
from streams.codec.decode import START, Decoder, Position, Refusal
from streams.codec.write import RecordBatch, encode_records

NOW_MS = 1_795_292_000_000
TOLERANCE_MS = 5_000
HASH_KEY = (0x0706050403020100, 0xF0E0D0C0B0A09080)
CLICK, CART, ORDER = range(3)

Pair = tuple[bytes | None, bytes | None]


def fields(kind: int = ORDER, **changes: Any) -> dict[str, Any]:
    """A good event's fields; a change to `...` leaves the field out."""
    event: dict[str, Any] = {
        "event_id": "e1",
        "sku": "SKU-1",
        "user_id": "u1",
        "event_time_ms": NOW_MS,
        "price_cents": 1999,
    }
    if kind != CLICK:
        event["quantity"] = 2
    event |= changes
    return {name: value for name, value in event.items() if value is not ...}


def value(kind: int = ORDER, **changes: Any) -> bytes:
    return json.dumps(fields(kind, **changes), ensure_ascii=False).encode()


def as_array(data: bytes | bytearray) -> Bytes:
    return np.frombuffer(data, np.uint8)


def batch(records: Iterable[Pair]) -> RecordBatch:
    (whole,) = encode_records(((key, content, ()) for key, content in records), 2**26)
    return whole


def log(records: Iterable[Pair], base_offset: int = 0, timestamp_ms: int = NOW_MS) -> bytes:
    """One batch, as a broker hands it out."""
    return batch(records).whole(base_offset, timestamp_ms)


def foreign_log(
    records: Iterable[tuple[int, bytes | None, bytes | None, Any]],
    base_offset: int = 0,
    codec: int = 0,
) -> bytes:
    """One batch of (timestamp_ms, key, value, list of headers), as another client writes it."""
    builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, 2**26)
    for index, (timestamp_ms, key, content, headers) in enumerate(records):
        builder.append(index, timestamp_ms, key, content, headers)
    return base_offset.to_bytes(8, "big") + bytes(builder.build())[8:]


def decoder(compiled: bool, capacity: int = 64) -> Decoder:
    return Decoder(HASH_KEY, TOLERANCE_MS, capacity, compiled)


Row = dict[str, Any]


def rows(columns: Columns) -> list[Row]:
    """The events as dictionaries, to compare; what a refused one leaves undefined is left out."""
    always = ("offset", "timestamp_ms", "record_at", "ok")
    when_good = (
        "event_time_ms",
        "price_cents",
        "quantity",
        "sku_at",
        "sku_length",
        "sku_hash",
        "event_hash_low",
        "event_hash_high",
    )
    return [
        {
            name: getattr(columns, name)[index].item()
            for name in (always + when_good if columns.ok[index] else always)
        }
        for index in range(columns.n)
    ]


def decode_all(
    one: Decoder, data: bytes, kind: int = ORDER, first_offset: int = 0
) -> tuple[list[Row], list[tuple[int, str, str]], int]:
    """(rows, refusals as (offset, reason, detail), records with unknown fields), all slices."""
    array = as_array(data)
    found: list[Row] = []
    refused: list[tuple[int, str, str]] = []
    unknown = 0
    position: Position | None = START
    while position is not None:
        refusals: list[Refusal]
        position, refusals = one.decode(array, kind, first_offset, position)
        found += rows(one.columns)
        unknown += one.columns.unknown_fields
        refused += [(int(one.columns.offset[no.index]), no.reason, no.detail) for no in refusals]
    return found, refused, unknown
