"""Topic names, what each is for, and how it must be configured."""

from dataclasses import dataclass
from typing import Final

CLICKS: Final = "clicks"
CARTS: Final = "carts"
ORDERS: Final = "orders"
EVENT_TOPICS: Final = (CLICKS, CARTS, ORDERS)  # index = position of the kind in every array

CATALOG: Final = "catalog"
STOCK_LEVELS: Final = "stock-levels"
COMPETITOR_PRICES: Final = "competitor-prices"
REFERENCE_TOPICS: Final = (CATALOG, STOCK_LEVELS, COMPETITOR_PRICES)
INPUT_TOPICS: Final = (*EVENT_TOPICS, *REFERENCE_TOPICS)

DEMAND_WINDOWS: Final = "demand-windows"
DEMAND_FORECASTS: Final = "demand-forecasts"
RESTOCK_EVENTS: Final = "restock-events"
PRICE_ADJUSTMENTS: Final = "price-adjustments"
CAPACITY_FORECASTS: Final = "capacity-forecasts"
LATE_EVENTS: Final = "late-events"
DEAD_LETTERS: Final = "dead-letters"
OUTPUT_TOPICS: Final = (
    DEMAND_WINDOWS,
    DEMAND_FORECASTS,
    RESTOCK_EVENTS,
    PRICE_ADJUSTMENTS,
    CAPACITY_FORECASTS,
    LATE_EVENTS,
    DEAD_LETTERS,
)

CAPACITY_SHARES: Final = "capacity-shares"
CHANGELOG: Final = "flashcast-changelog"
INTERNAL_TOPICS: Final = (CAPACITY_SHARES, CHANGELOG)


@dataclass(frozen=True)
class TopicPlan:
    """How one topic should look on the broker. `partitions` None: as many as every topic keyed
    by SKU.
    """

    name: str
    partitions: int | None
    config: dict[str, str]


HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS


def plans(prefix: str = "") -> list[TopicPlan]:
    """Every topic flashcast reads or writes, with the broker configuration it needs."""
    compacted = {"cleanup.policy": "compact"}
    kept_week = {"cleanup.policy": "delete", "retention.ms": str(7 * DAY_MS)}
    compacted_day = {"cleanup.policy": "compact,delete", "retention.ms": str(DAY_MS)}
    configs = {
        **dict.fromkeys(EVENT_TOPICS, kept_week),
        **dict.fromkeys(REFERENCE_TOPICS, compacted),
        **dict.fromkeys(OUTPUT_TOPICS, kept_week),
        CAPACITY_FORECASTS: compacted_day,
        CAPACITY_SHARES: compacted_day,
        CHANGELOG: compacted,
    }
    return [
        TopicPlan(prefix + name, 1 if name == CAPACITY_FORECASTS else None, config)
        for name, config in configs.items()
    ]
