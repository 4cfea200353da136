"""Outputs as CloudEvents 1.0 in Kafka's binary mode: attributes as `ce_` headers, the record as
JSON, and ids that depend on nothing that a rerun changes.
"""

import hashlib
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from streams import topics
from streams.records import CapacityForecast, DemandForecast, PriceAdjustment, RestockEvent

NAMESPACE: Final = uuid.UUID("6f3c2f57-5d0f-5b7e-9a54-2d8f3f0f7c11")
CONTENT_TYPE: Final = ("content-type", b"application/json")
SPEC_VERSION: Final = ("ce_specversion", b"1.0")
CE_TYPES: Final = {
    topics.DEMAND_FORECASTS: "flashcast.demand-forecast.v1",
    topics.RESTOCK_EVENTS: "flashcast.restock.v1",
    topics.PRICE_ADJUSTMENTS: "flashcast.price-adjustment.v1",
    topics.CAPACITY_FORECASTS: "flashcast.capacity-forecast.v1",
    topics.LATE_EVENTS: "flashcast.late-event.v1",
    topics.DEAD_LETTERS: "flashcast.dead-letter.v1",
}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_MS: Final = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // timedelta(milliseconds=1)
_LAST_MS: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // timedelta(milliseconds=1)

Decision = DemandForecast | RestockEvent | PriceAdjustment | CapacityForecast
_TOPIC_OF: Final[dict[type, str]] = {
    DemandForecast: topics.DEMAND_FORECASTS,
    RestockEvent: topics.RESTOCK_EVENTS,
    PriceAdjustment: topics.PRICE_ADJUSTMENTS,
    CapacityForecast: topics.CAPACITY_FORECASTS,
}
Headers = list[tuple[str, bytes]]
Encoded = tuple[bytes | None, bytes | None, Headers]


def rfc3339(time_ms: int) -> str:
    """The UTC time as CloudEvents wants it, to the millisecond; the nearest that can be written for
    a record timestamp outside the years 1 to 9999, which brokers let pass.
    """
    writable_ms = min(max(time_ms, _FIRST_MS), _LAST_MS)
    stamp = _EPOCH + timedelta(milliseconds=writable_ms)
    return stamp.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def cloud_event_headers(topic: str, event_id: str, source: str, time_ms: int) -> Headers:
    """The CloudEvents attributes of one record on a logical output topic."""
    return [
        ("ce_id", event_id.encode()),
        ("ce_type", CE_TYPES[topic].encode()),
        ("ce_source", source.encode()),
        ("ce_time", rfc3339(time_ms).encode()),
        SPEC_VERSION,
        CONTENT_TYPE,
    ]


def encode_decision(record: Decision, source: str) -> tuple[str, Encoded]:
    """(logical topic, encoded record) of a forecast or decision.

    Its id depends on nothing that a rerun changes.
    """
    topic = _TOPIC_OF[type(record)]
    key, origin_ms = (
        (record.service, record.as_of_ms)
        if isinstance(record, CapacityForecast)
        else (record.sku, record.origin_ms)
    )
    headers = cloud_event_headers(topic, decision_id(topic, key, origin_ms), source, origin_ms)
    return topic, (key.encode(), msgspec.json.encode(record), headers)


def decision_id(kind: str, key: str, origin_ms: int) -> str:
    """The `ce_id` of a forecast or decision: UUIDv5 of (kind, SKU or service, origin), so a
    repeat is recognisable.
    """
    return str(uuid.uuid5(NAMESPACE, f"{kind}|{key}|{origin_ms}"))


def decision_ids(kind: str, keys: Sequence[bytes], origin_ms: int) -> NDArray[np.uint8]:
    """`decision_id` of many keys, as uint8 [n, 16]."""
    before = NAMESPACE.bytes + f"{kind}|".encode()
    after = f"|{origin_ms}".encode()
    digests = b"".join([hashlib.sha1(before + key + after).digest() for key in keys])
    ids = np.frombuffer(digests, np.uint8).reshape(-1, 20)[:, :16].copy()
    ids[:, 6] = ids[:, 6] & 0x0F | 0x50  # version 5 and variant of RFC 9562
    ids[:, 8] = ids[:, 8] & 0x3F | 0x80
    return ids


def refused_id(topic: str, partition: int, offset: int) -> str:
    """The `ce_id` of a late event or dead letter: UUIDv5 of where the record lies."""
    return str(uuid.uuid5(NAMESPACE, f"{topic}|{partition}|{offset}"))
