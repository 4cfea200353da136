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
CHANGELOG: Final = "changelog"  # on the broker with the application's name before it
INTERNAL_TOPICS: Final = (CAPACITY_SHARES, CHANGELOG)


@dataclass(frozen=True)
class TopicPlan:
    """How one topic should look on the broker. `partitions` None: as many as every topic keyed
    by SKU.
    """

    name: str  # on the broker
    logical: str  # the same in every deployment
    partitions: int | None
    config: dict[str, str]


HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
COMPACTION_LAG_MS: Final = 300_000  # of the changelog


def broker_name(name: str, prefix: str, application: str) -> str:
    """A topic's name on the broker. The changelog is the application's own: state of another
    application must never be taken for it.
    """
    return f"{prefix}{application}-{name}" if name == CHANGELOG else prefix + name


def plans(prefix: str = "", application: str = "flashcast") -> list[TopicPlan]:
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
        CHANGELOG: {
            **compacted,
            # a local copy of the state may be this old before a deleted row could be missed in it
            "delete.retention.ms": str(DAY_MS),
            # without transactions a row may come whose checkpoint is never finished: the row before
            # it must still be there when a worker restores
            "min.compaction.lag.ms": str(COMPACTION_LAG_MS),
        },
    }
    return [
        TopicPlan(
            name=broker_name(name, prefix, application),
            logical=name,
            partitions=1 if name == CAPACITY_FORECASTS else None,
            config=config,
        )
        for name, config in configs.items()
    ]
