"""The reference topics' records: structs, tombstones, refusals."""

import json
from typing import Any

import pytest

from streams.codec.strict import decode_reference
from streams.errors import ContractError, Reason
from streams.records import CatalogEntry, CompetitorPrice, StockLevel
from tests.streams.codec.logs import NOW_MS

CATALOG_FIELDS: dict[str, Any] = {
    "sku": "A",
    "title": "T",
    "category": "C",
    "list_price_cents": 4,
    "unit_cost_cents": 1,
    "price_floor_cents": 2,
    "price_ceiling_cents": 5,
    "lead_time_ms": 0,
    "sale_start_ms": NOW_MS,
    "sale_end_ms": NOW_MS + 1,
}
STOCK_FIELDS: dict[str, Any] = {"sku": "A", "on_hand": 3, "on_order": 0, "as_of_ms": NOW_MS}


@pytest.mark.parametrize(
    ("topic", "record", "entry"),
    [
        ("catalog", CATALOG_FIELDS, CatalogEntry(**CATALOG_FIELDS)),
        ("stock-levels", STOCK_FIELDS, StockLevel(**STOCK_FIELDS)),
        (
            "competitor-prices",
            {"sku": "A", "competitor": "b", "price_cents": 10_000, "as_of_ms": NOW_MS},
            CompetitorPrice("A", "b", 10_000, NOW_MS),
        ),
    ],
)
def test_records_become_their_structs(topic: str, record: Any, entry: object) -> None:
    assert decode_reference(topic, b"A", json.dumps(record | {"more": 1}).encode()) == entry


def test_a_tombstone_is_none() -> None:
    assert decode_reference("catalog", b"A", None) is None


@pytest.mark.parametrize(
    ("key", "changes", "reason"),
    [
        (None, None, Reason.KEY_MISSING),
        (b"B", {}, Reason.KEY_MISMATCH),
        (b"A", {"on_hand": -1}, Reason.OUT_OF_RANGE),
        (b"A", {"on_hand": 10**30}, Reason.OUT_OF_RANGE),
        (b"A", {"on_hand": 1.5}, Reason.WRONG_TYPE),
        (b"A", {"as_of_ms": NOW_MS // 1000}, Reason.OUT_OF_RANGE),
        (b"A", {"on_order": ...}, Reason.MISSING_FIELD),
        (b"", {"sku": ""}, Reason.OUT_OF_RANGE),
    ],
)
def test_what_breaks_the_contract_is_refused(
    key: bytes | None, changes: Any, reason: Reason
) -> None:
    record = None
    if changes is not None:
        kept = {k: v for k, v in (STOCK_FIELDS | changes).items() if v is not ...}
        record = json.dumps(kept).encode()
    with pytest.raises(ContractError) as refusal:
        decode_reference("stock-levels", key, record)
    assert refusal.value.reason == reason
