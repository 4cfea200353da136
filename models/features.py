"""What the network sees, computed by the same functions in training and in serving.

`build` makes the input of one cell step (one closed bucket of one active SKU); `at_origin` makes
what the head asks at a forecast's origin; `intervals` describes the stretches it forecasts.
Counts are per bucket, so one network serves any bucket length; the length itself is a feature.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from models import levels
from models.levels import CARTS, CLICKS, FAST, IN_STOCK, MIDDLE, SLOW, UNITS

if TYPE_CHECKING:
    from models.memory import ForecastMemory

Array = NDArray[Any]

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
COMPONENTS: Final = ("fast", "middle", "slow", "from_clicks", "from_carts", "tsb", "category")
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
)
INTERVAL: Final = (
    "log_lead_buckets",
    "log_length_buckets",
    "log_lead_minutes",
    "phase_at_middle",
    "log_left_at_middle",
    "log_elapsed_at_middle",
    "sale_known",
)
LOAD_SCALES: Final = 3
MINUTE_MS: Final = 60_000.0
TINY: Final = 1e-3
PRIOR_BUCKETS: Final = 0.5  # weight of the category's level in a SKU's own
PRIOR_CLICKS: Final = 20.0  # weight of the sale's units per click in a SKU's own
PRIOR_CARTS: Final = 5.0


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


@dataclass
class Query:
    """What the head is asked at one origin, for n rows."""

    components: Array  # f32[n, 7] units per bucket, one plain rate forecast each
    loads: Array  # f32[n, 3 kinds, 3 half-lives] events per bucket
    query: Array  # f32[n, len(QUERY)]


def build(inputs: BucketInputs, memory: "ForecastMemory", rows: Array) -> Array:
    """f32[n, len(FEATURES)] of a bucket that `memory` has observed already."""
    sums, exposure = memory.level_sums[rows], memory.exposure[rows]
    prior = memory.prior(rows)
    units = _unit_levels(sums, exposure, prior)
    clicks = sums[:, :, CLICKS] / (exposure[:, :, levels.CLOCK] + TINY)
    carts = sums[:, MIDDLE, CARTS] / (exposure[:, MIDDLE, levels.CLOCK] + TINY)
    share = _f32(inputs.in_stock_share)
    empty = share <= 0  # out of stock throughout: orders say nothing, the level stands in for them
    sold = np.where(empty, units[:, MIDDLE], _f32(inputs.units))
    ordered = np.where(empty, units[:, MIDDLE], _f32(inputs.orders))
    left, phase = _f32(inputs.time_left_ms), _f32(inputs.sale_phase)
    known = left >= 0
    list_ratio, list_known = _log_ratio(inputs.price_cents, inputs.list_price_cents)
    rival_ratio, rival_known = _log_ratio(inputs.price_cents, inputs.competitor_price_cents)
    trend = memory.sale_trend()
    columns = (
        np.log1p(_f32(inputs.clicks)),
        np.log1p(_f32(inputs.carts)),
        np.log1p(ordered),
        np.log1p(sold),
        _surprise(_f32(inputs.clicks), clicks[:, MIDDLE]),
        _surprise(_f32(inputs.carts), carts),
        _surprise(sold, units[:, MIDDLE]),
        np.log(units[:, MIDDLE] + TINY),
        np.log(clicks[:, MIDDLE] + TINY),
        _trend(units),
        _trend(clicks),
        list_ratio,
        list_known,
        rival_ratio,
        rival_known,
        memory.price_move[rows],
        share,
        share < 1,
        np.where(known, phase, 0),
        np.where(known, np.log1p(np.maximum(left, 0) / MINUTE_MS), 0),
        np.where(known, np.log1p(np.maximum(memory.sale_ms[rows], 0) * phase / MINUTE_MS), 0),
        known,
        np.log((prior + TINY) / (units[:, MIDDLE] + TINY)),
        np.full(len(rows), trend[0]),
        np.log1p(memory.gap_buckets[rows] - 1),
        np.full(len(rows), np.log(inputs.bucket_ms / MINUTE_MS)),
    )
    return np.stack([np.asarray(column, np.float32) for column in columns], axis=1)


def at_origin(memory: "ForecastMemory", rows: Array, origin_ms: int) -> Query:
    """What the head is asked for `rows` at `origin_ms`, the end of a bucket."""
    idle = memory.idle_buckets(rows, origin_ms)
    share = memory.last_share[rows]
    sums, exposure = levels.at_origin(memory.level_sums[rows], memory.exposure[rows], idle, share)
    prior = memory.prior(rows)
    units = _unit_levels(sums, exposure, prior)
    sale = memory.sale.per_sku().astype(np.float32)
    clock = exposure[:, :, levels.CLOCK]
    per_click = _conversion(sums, CLICKS, sale, PRIOR_CLICKS)
    per_cart = _conversion(sums, CARTS, sale, PRIOR_CARTS)
    clicks = sums[:, :, CLICKS] / (clock + TINY)
    probability, size = memory.tsb_at(rows, idle)
    components = np.stack(
        (
            units[:, FAST],
            units[:, MIDDLE],
            units[:, SLOW],
            clicks[:, FAST] * per_click,
            sums[:, FAST, CARTS] / (clock[:, FAST] + TINY) * per_cart,
            probability * size,
            prior,
        ),
        axis=1,
    )
    kinds = sums[:, :, :UNITS].transpose(0, 2, 1)  # [n, 3 kinds, 3 half-lives]
    kind_prior = sale[SLOW, :UNITS][None, :, None] * PRIOR_BUCKETS
    kind_exposure = exposure[:, :, levels.EXPOSURE_OF[:UNITS]].transpose(0, 2, 1)
    loads = (kinds + kind_prior) / (kind_exposure + PRIOR_BUCKETS)
    level = np.log(units[:, MIDDLE] + TINY)
    relative = np.log(components + TINY) - level[:, None]
    trend = memory.sale_trend()
    n = len(rows)
    rest = (
        level,
        np.log1p(idle),
        np.log1p(exposure[:, SLOW, IN_STOCK]),
        np.log1p(memory.steps[rows]),
        np.full(n, np.log(memory.bucket_ms / MINUTE_MS)),
        np.full(n, trend[0]),
        np.full(n, trend[1]),
        _trend(units),
        _trend(clicks),
        share,
    )
    tail = np.stack([np.asarray(column, np.float32) for column in rest], axis=1)
    return Query(
        components=np.maximum(components, 1e-6).astype(np.float32),
        loads=np.maximum(loads, 1e-6).astype(np.float32),
        query=np.concatenate((relative.astype(np.float32), tail), axis=1),
    )


def intervals(
    begin_ms: Array, end_ms: Array, time_left_ms: Array, sale_ms: Array, bucket_ms: int
) -> Array:
    """f32[n, i, len(INTERVAL)] of stretches [begin, end) after the origin, f64[n, i] both.

    `time_left_ms` at the origin and the sale's whole length `sale_ms`, [n], -1 unknown.
    """
    middle = (begin_ms + end_ms) / 2
    known = ((time_left_ms >= 0) & (sale_ms > 0))[:, None]
    left = np.maximum(time_left_ms[:, None] - middle, 0)
    length = np.where(known, np.maximum(sale_ms[:, None], 1.0), 1.0)
    elapsed = np.maximum(length - left, 0)
    flag = np.broadcast_to(known, middle.shape)
    columns = (
        np.log1p(middle / bucket_ms),
        np.log1p((end_ms - begin_ms) / bucket_ms),
        np.log1p(middle / MINUTE_MS),
        np.where(flag, np.clip(elapsed / length, 0, 1), 0),
        np.where(flag, np.log1p(left / MINUTE_MS), 0),
        np.where(flag, np.log1p(elapsed / MINUTE_MS), 0),
        flag,
    )
    return np.stack([np.asarray(column, np.float32) for column in columns], axis=2)


def _f32(column: Array) -> Array:
    return np.asarray(column, np.float32)


def _unit_levels(sums: Array, exposure: Array, prior: Array) -> Array:
    """Units per bucket in stock at each half-life, drawn to `prior` while evidence is thin."""
    return np.asarray(
        (sums[:, :, UNITS] + PRIOR_BUCKETS * prior[:, None])
        / (exposure[:, :, IN_STOCK] + PRIOR_BUCKETS)
    )


def _conversion(sums: Array, channel: int, sale: Array, weight: float) -> Array:
    """Units per click or cart of each row, drawn to the sale's while evidence is thin."""
    common = sale[SLOW, UNITS] / max(float(sale[SLOW, channel]), 1e-9)
    common = min(common, 100.0) if sale[SLOW, channel] > 0 else 0.0
    return np.asarray((sums[:, SLOW, UNITS] + weight * common) / (sums[:, SLOW, channel] + weight))


def _surprise(count: Array, level: Array) -> Array:
    return np.asarray(np.log((count + 0.5) / (level + 0.5)))


def _trend(level: Array) -> Array:
    return np.asarray(np.log((level[:, FAST] + 0.02) / (level[:, SLOW] + 0.02)))


def _log_ratio(price: Array, other: Array) -> tuple[Array, Array]:
    """log(price / other) within a factor of 8, and whether both are known."""
    known = (price > 0) & (other > 0)
    ratio = np.log(np.where(known, price, 1) / np.where(known, other, 1))
    return np.clip(ratio, -2.0, 2.0), known
