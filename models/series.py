"""Demand history of one shop over one stretch of time: what training and backtests read.

A `SeriesSet` is the columns of `demand-windows` (one cell per SKU and bucket in which something
happened) beside a few facts per SKU. Cells that are absent mean: no click, cart or order.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from models.errors import ModelError

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

CELL_COLUMNS = (
    "sku",
    "bucket",
    "clicks",
    "carts",
    "orders",
    "units",
    "price_cents",
    "competitor_price_cents",
    "in_stock_share",
)


@dataclass(frozen=True)
class SeriesSet:
    """m cells of n SKUs over `buckets` buckets; cells sorted by (bucket, sku), each pair once.

    `demand` is what shoppers wanted in units, sold or not; only a simulator knows it (else None).
    A cell in which only demand (or the empty shelf) is worth saying may have no events at all.
    """

    name: str
    bucket_ms: int
    start_ms: int  # when bucket 0 begins
    buckets: int
    # cells [m]
    sku: Ints  # 0 .. n-1
    bucket: Ints  # 0 .. buckets-1
    clicks: Ints
    carts: Ints
    orders: Ints
    units: Ints
    price_cents: Ints  # mean price shown in the cell; 0 unknown
    competitor_price_cents: Ints  # 0 unknown
    in_stock_share: Floats  # [0, 1]; 1 where stock is not known
    # SKUs [n]
    list_price_cents: Ints  # 0 unknown
    category: Ints  # 0 .. categories-1
    sale_start_ms: Ints  # -1 unknown
    sale_end_ms: Ints  # -1 unknown
    demand: Floats | None = None  # [m]

    def __post_init__(self) -> None:
        """Raises ModelError naming the column that does not fit."""
        cells, skus = len(self.sku), len(self.list_price_cents)
        optional = () if self.demand is None else ("demand",)
        for name in (*CELL_COLUMNS, *optional):
            _check_length(self.name, name, getattr(self, name), cells)
        for name in ("category", "sale_start_ms", "sale_end_ms"):
            _check_length(self.name, name, getattr(self, name), skus)
        if cells:
            key = self.bucket * max(skus, 1) + self.sku
            if np.any(np.diff(key) <= 0):
                raise ModelError(f"series {self.name!r}: cells are not sorted by (bucket, sku)")
            if self.sku.min() < 0 or self.sku.max() >= skus:
                raise ModelError(f"series {self.name!r}: sku outside 0 .. {skus - 1}")
            if self.bucket[0] < 0 or self.bucket[-1] >= self.buckets:
                raise ModelError(f"series {self.name!r}: bucket outside 0 .. {self.buckets - 1}")

    @property
    def skus(self) -> int:
        """n."""
        return len(self.list_price_cents)

    @property
    def active(self) -> NDArray[np.bool_]:
        """[m] cells in which something happened: those that the forecaster steps on."""
        return (self.clicks + self.carts + self.orders) > 0

    @classmethod
    def from_dense(cls, *, name: str, bucket_ms: int, start_ms: int, **arrays: Any) -> Self:
        """From arrays [n, buckets] per cell column (without sku and bucket) and [n] per SKU fact.

        Missing columns: in_stock_share 1, prices 0, category 0, sale times -1, no demand.
        """
        units = np.asarray(arrays["units"])
        skus, buckets = units.shape
        dense = {key: np.asarray(arrays.get(key, fill)) for key, fill in _CELL_DEFAULTS.items()}
        told = np.zeros((skus, buckets), np.bool_)
        for key in ("clicks", "carts", "orders", "units", "in_stock_share"):
            told |= dense[key] != _CELL_DEFAULTS[key]
        demand = arrays.get("demand")
        if demand is not None:
            told |= np.asarray(demand) > 0
        bucket, sku = np.nonzero(told.T)
        columns: dict[str, Any] = {
            key: np.broadcast_to(column, told.shape)[sku, bucket].astype(
                np.float64 if key == "in_stock_share" else np.int64
            )
            for key, column in dense.items()
        }
        for key, fill in _SKU_DEFAULTS.items():
            columns[key] = np.broadcast_to(np.asarray(arrays.get(key, fill)), skus).astype(np.int64)
        return cls(
            name=name,
            bucket_ms=bucket_ms,
            start_ms=start_ms,
            buckets=buckets,
            sku=sku.astype(np.int64),
            bucket=bucket.astype(np.int64),
            demand=None if demand is None else np.asarray(demand, np.float64)[sku, bucket],
            **columns,
        )

    def between(self, first_bucket: int, end_bucket: int) -> "SeriesSet":
        """Cells of buckets [first, end); bucket numbers and times stay as they were."""
        lo, hi = np.searchsorted(self.bucket, [first_bucket, end_bucket])
        kept: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        for name in (*CELL_COLUMNS, "demand"):
            if kept[name] is not None:
                kept[name] = kept[name][lo:hi]
        kept["buckets"] = min(self.buckets, end_bucket)
        return SeriesSet(**kept)


_CELL_DEFAULTS: Mapping[str, float] = {
    "clicks": 0,
    "carts": 0,
    "orders": 0,
    "units": 0,
    "price_cents": 0,
    "competitor_price_cents": 0,
    "in_stock_share": 1,
}
_SKU_DEFAULTS: Mapping[str, int] = {
    "list_price_cents": 0,
    "category": 0,
    "sale_start_ms": -1,
    "sale_end_ms": -1,
}


def _check_length(series: str, name: str, column: NDArray[Any], wanted: int) -> None:
    if column.ndim != 1 or len(column) != wanted:
        raise ModelError(
            f"series {series!r}: column {name} has shape {column.shape}, expected ({wanted},)"
        )
