"""What the network sees, by name and in order, and the bucket that it is made from.

`observe_kernel` makes the input of one cell step (one closed bucket of one active SKU),
`ask_kernel` what the head is asked at a forecast's origin and of each stretch ahead; both
serve training and the stream. Counts are per bucket, so one network serves any bucket length; the
length itself is a feature.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from models.row_state import Asked, Bucket

if TYPE_CHECKING:
    from torch import Tensor

Array = NDArray[Any]
Rows = TypeVar("Rows", NDArray[Any], "Tensor")

FEATURES: Final = (
    "log_clicks",
    "log_carts",
    "log_orders",
    "log_units",
    "click_surprise",
    "cart_surprise",
    "unit_surprise",
    "log_unit_level",
    "log_click_level",
    "unit_trend",
    "click_trend",
    "price_to_list",
    "list_known",
    "price_to_competitor",
    "competitor_known",
    "price_to_recent",
    "in_stock_share",
    "censored",
    "sale_phase",
    "log_time_left",
    "log_elapsed",
    "sale_known",
    "to_category_level",
    "sale_click_trend",
    "log_gap",
    "log_bucket",
)
COMPONENTS: Final = (
    "fast", "middle", "slow", "from_clicks", "from_carts", "tsb", "category", "clicks",
)  # fmt: skip
QUERY: Final = (
    *(f"log_{name}" for name in COMPONENTS),
    "log_level",
    "log_idle",
    "log_evidence",
    "log_steps",
    "log_bucket",
    "sale_click_trend",
    "sale_unit_trend",
    "unit_trend",
    "click_trend",
    "last_in_stock_share",
    "season_now",
    "season_known",
)
INTERVAL: Final = (
    "log_lead_buckets",
    "log_length_buckets",
    "log_lead_minutes",
    "phase_at_middle",
    "log_left_at_middle",
    "log_elapsed_at_middle",
    "sale_known",
    "season",
)
LOAD_SCALES: Final = 3
KINDS: Final = 3  # clicks, carts, orders
HORIZONS: Final = 5
LOAD_LEADS: Final = 2
ASKED_SHAPES: Final[dict[str, tuple[int, ...]]] = {  # of one row, in the order of `Asked`
    "query": (len(QUERY),),
    "components": (len(COMPONENTS),),
    "loads": (KINDS, LOAD_SCALES),
    "stretch": (HORIZONS, len(INTERVAL)),
    "length": (HORIZONS,),
    "load_stretch": (LOAD_LEADS, len(INTERVAL)),
    "load_length": (LOAD_LEADS,),
}
ASKED: Final = sum(math.prod(shape) for shape in ASKED_SHAPES.values())


@dataclass
class BucketInputs:
    """One closed bucket of n active SKUs of one partition; arrays [n].

    `in_stock_share` of the bucket in [0, 1], 1 where stock is unknown. Prices: 0 unknown.
    `sale_phase` elapsed share of the sale in [0, 1]; `time_left_ms` from the bucket's end to the
    sale's, -1 unknown. Levels: mean units per bucket and SKU over the category and over the
    partition, 0 unknown (then the memory's own figure is used). The gap since a SKU was last
    active is known to its memory.
    """

    bucket_start_ms: int
    bucket_ms: int
    clicks: Array
    carts: Array
    orders: Array
    units: Array
    price_cents: Array
    list_price_cents: Array
    competitor_price_cents: Array
    in_stock_share: Array
    sale_phase: Array
    time_left_ms: Array
    category_level: Array
    sale_level: Array


def columns(inputs: BucketInputs) -> Bucket:
    """The same as the kernel wants it, f8."""
    counts = (inputs.clicks, inputs.carts, inputs.orders, inputs.units)
    return Bucket(
        counts=np.stack([_f8(column) for column in counts], axis=1),
        share=_f8(inputs.in_stock_share),
        price=_f8(inputs.price_cents),
        list_price=_f8(inputs.list_price_cents),
        rival_price=_f8(inputs.competitor_price_cents),
        phase=_f8(inputs.sale_phase),
        left_ms=_f8(inputs.time_left_ms),
        category=np.where(
            np.asarray(inputs.category_level) > 0, inputs.category_level, inputs.sale_level
        ).astype(np.float64),
    )


def asked_columns(flat: Rows) -> list[Rows]:
    """The columns of ASKED_SHAPES, [n, ...], as views of what is asked, [n, ASKED]."""
    columns, at = [], 0
    for shape in ASKED_SHAPES.values():
        end = at + math.prod(shape)
        columns.append(flat[:, at:end].reshape(len(flat), *shape))
        at = end
    return columns


def blank(n: int, flat: Array | None = None) -> Asked:
    """Room for what the head is asked for n rows, in `flat` f4[n, ASKED] where that is given."""
    if flat is None:
        flat = np.empty((n, ASKED), np.float32)
    return Asked(np.empty((n, HORIZONS), np.int64), *asked_columns(flat))


def _f8(column: Array) -> Array:
    return np.ascontiguousarray(column, np.float64)
