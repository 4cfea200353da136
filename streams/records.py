"""The wire contract: one struct for every record on every topic, with its bounds.

JSON, one record a message, key = SKU (UTF-8). Unknown fields are ignored and counted. Money is in
cents, time in milliseconds since 1970 (UTC), both integers. The schemas that `flashcast schema`
prints come from these types.
"""

from enum import StrEnum
from typing import Annotated, Final

from msgspec import Meta, Struct

SKU_BYTES_MAX: Final = 128
ID_BYTES_MAX: Final = 128
PRICE_CENTS_MAX: Final = 10**8
QUANTITY_MAX: Final = 10**6
STOCK_MAX: Final = 10**9
LEAD_TIME_MS_MAX: Final = 10**11
EVENT_TIME_MS_MIN: Final = 10**12  # below it a time is in seconds
EVENT_TIME_MS_MAX: Final = 10**14
HORIZONS_MS: Final = (60_000, 300_000, 900_000, 3_600_000)  # a fifth ends with the sale

Sku = Annotated[str, Meta(min_length=1, max_length=SKU_BYTES_MAX, description="UTF-8")]
Identifier = Annotated[str, Meta(min_length=1, max_length=ID_BYTES_MAX)]
TimeMs = Annotated[int, Meta(ge=EVENT_TIME_MS_MIN, lt=EVENT_TIME_MS_MAX)]
Cents = Annotated[int, Meta(ge=0, le=PRICE_CENTS_MAX)]
Quantity = Annotated[int, Meta(ge=1, le=QUANTITY_MAX)]
Count = Annotated[int, Meta(ge=0)]
Stock = Annotated[int, Meta(ge=0, le=STOCK_MAX)]
LeadTimeMs = Annotated[int, Meta(ge=0, le=LEAD_TIME_MS_MAX)]


class Kind(StrEnum):
    """The three event topics, in the order in which arrays hold them."""

    CLICK = "click"
    CART = "cart"
    ORDER = "order"


class Click(Struct, frozen=True, omit_defaults=True):
    """A shopper looked at a product page. `price_cents` is the price shown."""

    event_id: Identifier
    sku: Sku
    user_id: Identifier
    event_time_ms: TimeMs
    price_cents: Cents
    session_id: str | None = None
    region: str | None = None


class Cart(Struct, frozen=True, omit_defaults=True):
    """A shopper put `quantity` units into the cart."""

    event_id: Identifier
    sku: Sku
    user_id: Identifier
    event_time_ms: TimeMs
    price_cents: Cents
    quantity: Quantity
    session_id: str | None = None
    region: str | None = None


class Order(Struct, frozen=True, omit_defaults=True):
    """A shopper bought `quantity` units at `price_cents` each: one order line."""

    event_id: Identifier
    sku: Sku
    user_id: Identifier
    event_time_ms: TimeMs
    price_cents: Cents
    quantity: Quantity
    order_id: str | None = None
    session_id: str | None = None
    region: str | None = None


class CatalogEntry(Struct, frozen=True):
    """What a product costs, may cost, and when its sale runs. Compacted by SKU."""

    sku: Sku
    title: str
    category: str
    list_price_cents: Cents
    unit_cost_cents: Cents
    price_floor_cents: Cents
    price_ceiling_cents: Cents
    lead_time_ms: LeadTimeMs
    sale_start_ms: TimeMs
    sale_end_ms: TimeMs


class StockLevel(Struct, frozen=True):
    """Units counted at `as_of_ms`; orders since then are subtracted by flashcast. Compacted by
    SKU.
    """

    sku: Sku
    on_hand: Stock
    on_order: Stock
    as_of_ms: TimeMs


class CompetitorPrice(Struct, frozen=True):
    """A competitor's price for the same product. Compacted by SKU."""

    sku: Sku
    competitor: str
    price_cents: Cents
    as_of_ms: TimeMs


class DemandWindow(Struct, frozen=True):
    """One closed bucket of one active SKU."""

    sku: Sku
    bucket_start_ms: TimeMs
    bucket_ms: int
    clicks: Count
    carts: Count
    orders: Count
    units: Count
    revenue_cents: Count
    price_cents: Count  # mean over the bucket's events, rounded; what shoppers saw
    competitor_price_cents: Count  # 0: none known
    in_stock_ms: Count  # of bucket_ms; bucket_ms when no stock level is known


class HorizonForecast(Struct, frozen=True):
    """Cumulative demand in units from the origin to origin + `horizon_ms`."""

    horizon_ms: int
    mean: float
    p05: int
    p10: int
    p50: int
    p90: int
    p95: int


class DemandForecast(Struct, frozen=True):
    """Demand ahead of one SKU. The last of `horizons` ends with the sale, where the catalog
    names an end. `origin_ms` is the end of a bucket: that one of each forecast interval, counted
    from the epoch on, whose number is the CRC-32 of the SKU modulo the buckets of an interval.
    """

    sku: Sku
    origin_ms: TimeMs
    valid_until_ms: TimeMs
    horizons: list[HorizonForecast]
    censored: bool  # some of the sales behind it were cut off by an empty shelf
    fallback: str | None  # why a plain method stood in for the model
    model_version: str


class RestockEvent(Struct, frozen=True):
    """Order `order_quantity` units now."""

    sku: Sku
    origin_ms: TimeMs
    valid_until_ms: TimeMs
    order_quantity: Quantity
    reorder_point: int
    order_up_to_level: int
    inventory_position: int
    critical_ratio: float
    lead_time_ms: int
    forecast_mean: float  # units over lead time + review period
    reason: str
    model_version: str
    policy_version: str


class PriceAdjustment(Struct, frozen=True):
    """Sell at `new_price_cents` from `effective_at_ms`."""

    sku: Sku
    origin_ms: TimeMs
    valid_until_ms: TimeMs
    old_price_cents: Cents
    new_price_cents: Cents
    effective_at_ms: TimeMs
    expected_units: float  # until the end of the sale, at the new price
    expected_revenue_cents: float
    clamps: list[str]  # every guardrail that moved the price, in order
    reason: str
    model_version: str
    policy_version: str


class CapacityLevels(Struct, frozen=True):
    """One figure at three levels of caution."""

    p50: float
    p90: float
    p95: float


class CapacityForecast(Struct, frozen=True):
    """Load ahead of one service and the replicas it asks for. Compacted by service; stale after
    `valid_until_ms`.
    """

    service: str
    as_of_ms: TimeMs
    valid_until_ms: TimeMs
    horizon_s: int
    predicted_rps: CapacityLevels
    desired_replicas: CapacityLevels
    observed_rps: float
    reason: str
    model_version: str
    policy_version: str


class CapacityShare(Struct, frozen=True):
    """Internal: what one partition adds to the load, per closed bucket, summed by the owner of
    partition 0.

    Lists run over (click, cart, order). Means and variances are of event counts a second at
    `horizons_ms` ahead.
    """

    partition: int
    bucket_start_ms: int
    bucket_ms: int
    observed: list[int]
    horizons_ms: list[int]
    mean_per_s: list[list[float]]  # [horizon][kind]
    variance_per_s2: list[list[float]]
    model_version: str


class Refused(Struct, frozen=True):
    """A late event or a dead letter: the record without its shopper, where it came from, and why
    it was refused. The record itself lies there, at `topic`, `partition` and `offset`.

    `value`, `key` and header values are base64. In them `user_id`, and whatever cannot be told from
    one, is a pseudonym (`p-` and 32 hexadecimal digits) or the word `redacted`: so are a key that
    is not the record's own SKU, the contents of fields beyond the contract and of most headers, and
    what comes after the first doubtful place in broken JSON. `truncated` says that something was
    left out: the end of broken JSON, what is above the size limit, headers that are too many.
    `value_length` is that of the value as it came; `value_sha256` is of the value as published,
    before it is cut to size.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    reason: str
    detail: str
    key: str | None
    value: str | None
    headers: list[tuple[str, str | None]]
    value_length: int
    value_sha256: str
    truncated: bool
