"""One example of every record on the wire, of the types themselves: they are in the documents that
`flashcast schema` prints, and the tests validate them.
"""

import base64
import hashlib
from typing import Any, Final

from streams import topics
from streams.errors import Reason
from streams.records import (
    HORIZONS_MS,
    CapacityForecast,
    CapacityLevels,
    Cart,
    CatalogEntry,
    Click,
    CompetitorPrice,
    DemandForecast,
    DemandWindow,
    HorizonForecast,
    Order,
    PriceAdjustment,
    Refused,
    RestockEvent,
    StockLevel,
)

AT_MS: Final = 1_764_320_400_000  # 2025-11-28, nine in the morning, UTC
HOUR_MS: Final = 3_600_000
SKU: Final = "LAMP-0042"
LATE: Final = (
    b'{"event_id":"e-8","sku":"LAMP-0042","user_id":"p-5a6bc504cc284aa5cb7235b6c0ec5e41",'
    b'"event_time_ms":1764320391880,"price_cents":12900}'
)
SPOILT: Final = b'{"event_id":"e-9","sku":"LAMP-0042","price_cents":-5}'


def _refused(topic: str, reason: str, detail: str, value: bytes) -> Refused:
    return Refused(
        topic=topic,
        partition=2,
        offset=51_877,
        timestamp_ms=AT_MS + 731,
        reason=reason,
        detail=detail,
        key=base64.b64encode(SKU.encode()).decode(),
        value=base64.b64encode(value).decode(),
        headers=[("traceparent", base64.b64encode(b"00-4bf92f").decode())],
        value_length=len(value),
        value_sha256=hashlib.sha256(value).hexdigest(),
        truncated=False,
    )


EXAMPLES: Final[dict[str, Any]] = {
    topics.CLICKS: Click("c-1", SKU, "u-7", AT_MS, 12_900, session_id="s-3", region="de"),
    topics.CARTS: Cart("a-1", SKU, "u-7", AT_MS + 4_000, 12_900, 2, session_id="s-3"),
    topics.ORDERS: Order("o-1", SKU, "u-7", AT_MS + 9_000, 12_900, 2, order_id="5520-1"),
    topics.CATALOG: CatalogEntry(
        sku=SKU,
        title="Desk lamp",
        category="lamps",
        list_price_cents=14_900,
        unit_cost_cents=7_000,
        price_floor_cents=8_000,
        price_ceiling_cents=15_900,
        lead_time_ms=900_000,
        sale_start_ms=AT_MS,
        sale_end_ms=AT_MS + 2 * HOUR_MS,
    ),
    topics.STOCK_LEVELS: StockLevel(SKU, on_hand=820, on_order=0, as_of_ms=AT_MS),
    topics.COMPETITOR_PRICES: CompetitorPrice(SKU, "elsewhere", 12_500, AT_MS),
    topics.DEMAND_WINDOWS: DemandWindow(
        sku=SKU,
        bucket_start_ms=AT_MS,
        bucket_ms=10_000,
        clicks=37,
        carts=6,
        orders=3,
        units=4,
        revenue_cents=51_600,
        price_cents=12_900,
        competitor_price_cents=12_500,
        in_stock_ms=10_000,
    ),
    topics.DEMAND_FORECASTS: DemandForecast(
        sku=SKU,
        origin_ms=AT_MS + 60_000,
        valid_until_ms=AT_MS + 180_000,
        horizons=[
            HorizonForecast(horizon_ms, mean, low, low + 1, round(mean), high - 1, high)
            for horizon_ms, mean, low, high in zip(
                (*HORIZONS_MS, 2 * HOUR_MS - 60_000),
                (8.1, 40.3, 118.9, 455.2, 861.0),
                (3, 24, 80, 330, 640),
                (14, 58, 163, 590, 1_105),
                strict=True,
            )
        ],
        censored=False,
        fallback=None,
        model_version="gru-1",
    ),
    topics.RESTOCK_EVENTS: RestockEvent(
        sku=SKU,
        origin_ms=AT_MS + 60_000,
        valid_until_ms=AT_MS + 180_000,
        order_quantity=310,
        reorder_point=210,
        order_up_to_level=515,
        inventory_position=205,
        critical_ratio=0.83,
        lead_time_ms=900_000,
        forecast_mean=158.4,
        reason="the position is below the reorder point",
        model_version="gru-1",
        policy_version="restock-1",
    ),
    topics.PRICE_ADJUSTMENTS: PriceAdjustment(
        sku=SKU,
        origin_ms=AT_MS + 60_000,
        valid_until_ms=AT_MS + 180_000,
        old_price_cents=12_900,
        new_price_cents=12_100,
        effective_at_ms=AT_MS + 60_000,
        expected_units=861.0,
        expected_revenue_cents=10_418_100.0,
        clamps=["step"],
        reason="stock would outlast the sale at the old price",
        model_version="gru-1",
        policy_version="price-1",
    ),
    topics.CAPACITY_FORECASTS: CapacityForecast(
        service="shop",
        as_of_ms=AT_MS + 60_000,
        valid_until_ms=AT_MS + 180_000,
        horizon_s=60,
        predicted_rps=CapacityLevels(412.0, 455.5, 468.0),
        desired_replicas=CapacityLevels(9.0, 10.0, 10.0),
        observed_rps=388.2,
        reason="the forecast is above the load observed",
        model_version="gru-1",
        policy_version="capacity-1",
    ),
    topics.LATE_EVENTS: _refused(
        topics.CLICKS, "late", "9,120 ms behind the newest event, 5,000 allowed", LATE
    ),
    topics.DEAD_LETTERS: _refused(
        topics.ORDERS, Reason.MISSING_FIELD, "user_id is missing", SPOILT
    ),
}
