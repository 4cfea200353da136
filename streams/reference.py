"""Catalog, stock levels and competitor prices of one partition, as arrays by SKU row.

Compacted topics, read from their start on every restore: nothing here enters the changelog.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from streams import topics
from streams.errors import ContractError, Reason
from streams.records import CatalogEntry, CompetitorPrice, StockLevel

_FIELDS = {
    "has_catalog": np.bool_,
    "category": np.int32,  # index into `categories`
    "list_price_cents": np.int64,
    "unit_cost_cents": np.int64,
    "price_floor_cents": np.int64,
    "price_ceiling_cents": np.int64,
    "lead_time_ms": np.int64,
    "sale_start_ms": np.int64,
    "sale_end_ms": np.int64,
    "has_stock": np.bool_,
    "on_hand": np.int64,
    "on_order": np.int64,
    "stock_as_of_ms": np.int64,
    "competitor_price_cents": np.int64,  # 0: none known
    "competitor_as_of_ms": np.int64,
    "withdrawn": np.bool_,  # by a tombstone in the catalog
    "informed_ms": np.int64,  # event time when the shop last spoke of it; 0: before any
}
CATEGORIES_MAX: Final = 10_000  # learned apart; those beyond are taken together


class Reference:
    """What the shop says of its products. Every array has shape [capacity], indexed by SKU row."""

    has_catalog: NDArray[np.bool_]
    category: NDArray[np.int32]
    list_price_cents: NDArray[np.int64]
    unit_cost_cents: NDArray[np.int64]
    price_floor_cents: NDArray[np.int64]
    price_ceiling_cents: NDArray[np.int64]
    lead_time_ms: NDArray[np.int64]
    sale_start_ms: NDArray[np.int64]
    sale_end_ms: NDArray[np.int64]
    has_stock: NDArray[np.bool_]
    on_hand: NDArray[np.int64]
    on_order: NDArray[np.int64]
    stock_as_of_ms: NDArray[np.int64]
    competitor_price_cents: NDArray[np.int64]
    competitor_as_of_ms: NDArray[np.int64]
    withdrawn: NDArray[np.bool_]
    informed_ms: NDArray[np.int64]

    def __init__(self, capacity: int = 0) -> None:
        for name, dtype in _FIELDS.items():
            setattr(self, name, np.zeros(capacity, dtype))
        self.categories: dict[str, int] = {"": 0}

    def grow(self, capacity: int) -> None:
        """Room for `capacity` rows; what is known stays."""
        for name, dtype in _FIELDS.items():
            old = getattr(self, name)
            if len(old) < capacity:
                new: NDArray[np.generic] = np.zeros(capacity, dtype)
                new[: len(old)] = old
                setattr(self, name, new)

    def apply(self, row: int, record: CatalogEntry | StockLevel | CompetitorPrice) -> bool:
        """Take in one record; False when it is older than what is known.

        Raises ContractError when its fields contradict each other.
        """
        match record:
            case CatalogEntry():
                self._apply_catalog(row, record)
                return True
            case StockLevel():
                if self.has_stock[row] and record.as_of_ms < self.stock_as_of_ms[row]:
                    return False
                self.has_stock[row] = True
                self.on_hand[row] = record.on_hand
                self.on_order[row] = record.on_order
                self.stock_as_of_ms[row] = record.as_of_ms
                return True
            case CompetitorPrice():
                if record.as_of_ms < self.competitor_as_of_ms[row]:
                    return False
                self.competitor_price_cents[row] = record.price_cents
                self.competitor_as_of_ms[row] = record.as_of_ms
                return True

    def _apply_catalog(self, row: int, entry: CatalogEntry) -> None:
        if entry.price_floor_cents > entry.price_ceiling_cents:
            raise ContractError(
                Reason.OUT_OF_RANGE,
                f"price_floor_cents {entry.price_floor_cents} is above "
                f"price_ceiling_cents {entry.price_ceiling_cents}",
            )
        if entry.sale_start_ms >= entry.sale_end_ms:
            raise ContractError(
                Reason.OUT_OF_RANGE,
                f"sale_start_ms {entry.sale_start_ms} is not before sale_end_ms "
                f"{entry.sale_end_ms}",
            )
        self.has_catalog[row] = True
        self.withdrawn[row] = False
        self.category[row] = self._category(entry.category)
        self.list_price_cents[row] = entry.list_price_cents
        self.unit_cost_cents[row] = entry.unit_cost_cents
        self.price_floor_cents[row] = entry.price_floor_cents
        self.price_ceiling_cents[row] = entry.price_ceiling_cents
        self.lead_time_ms[row] = entry.lead_time_ms
        self.sale_start_ms[row] = entry.sale_start_ms
        self.sale_end_ms[row] = entry.sale_end_ms

    def _category(self, name: str) -> int:
        if len(self.categories) >= CATEGORIES_MAX:
            return self.categories.get(name, 0)
        return self.categories.setdefault(name, len(self.categories))

    def categories_known(self) -> NDArray[np.int32]:
        """Category of every row [capacity]; -1 for those not in the catalog."""
        return np.where(self.has_catalog, self.category, np.int32(-1))

    def reset(self, rows: NDArray[np.int64]) -> None:
        """Forget these rows: other SKUs move in."""
        for name in _FIELDS:
            getattr(self, name)[rows] = 0

    def withdraw(self, row: int, topic: str) -> None:
        """A tombstone on a reference topic: the shop no longer says anything there of the SKU."""
        if topic == topics.CATALOG:
            self.withdrawn[row] = self.has_catalog[row]
            self.has_catalog[row] = False
        elif topic == topics.STOCK_LEVELS:
            self.has_stock[row] = False
        else:
            self.competitor_price_cents[row] = 0
            self.competitor_as_of_ms[row] = 0
