"""When to order how many units, for many SKUs at once.

`order_size` holds the reasoning for one SKU: the margin of a lost sale against what a unit left
over costs, which is little while a later order could still be made smaller, and its loss of value
once nothing but the rest of the sale can use it. Here: which SKUs may be restocked at all, what
their units cost and earn, and why the answer is what it is.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streams.decisions.newsvendor import critical_ratio
from streams.decisions.order_size import orders
from streams.settings import Settings

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

POLICY_VERSION: Final = "restock-1"


class Reason(IntEnum):
    """Why a SKU is or is not restocked; `REASONS` says it in words."""

    ENOUGH = 0
    COVER = 1
    LAST_CHANCE = 2
    TOO_LATE = 3
    NO_MARGIN = 4
    COOLDOWN = 5
    STOCK_UNKNOWN = 6
    TOO_SMALL = 7
    NO_FORECAST = 8


REASONS: Final = {
    Reason.ENOUGH: "the inventory position covers demand over lead time and review period",
    Reason.COVER: "the inventory position fell to the reorder point",
    Reason.LAST_CHANCE: "last order that arrives in time for the rest of the sale",
    Reason.TOO_LATE: "an order would arrive after the sale ends",
    Reason.NO_MARGIN: "the price leaves no margin over the unit cost",
    Reason.COOLDOWN: "ordered a short while ago",
    Reason.STOCK_UNKNOWN: "no stock level is known",
    Reason.TOO_SMALL: "what is missing is not worth an order",
    Reason.NO_FORECAST: "no usable forecast",
}


@dataclass(frozen=True, slots=True)
class RestockPolicy:
    """How restocks are decided; the same for every SKU."""

    review_period_ms: int = 300_000
    cooldown_ms: int = 300_000  # least time between two restocks of a SKU
    salvage_share: float = 0.5  # of the unit cost, what a unit is worth after the sale
    holding_share: float = 0.01  # of the unit cost, what a unit costs to hold for a review period
    order_cost_cents: int = 500  # of placing and receiving one order, whatever its size
    order_quantity_max: int = 100_000

    def __post_init__(self) -> None:
        if self.review_period_ms < 1 or self.cooldown_ms < 0 or self.order_quantity_max < 1:
            raise ValueError(f"times and quantities of a restock policy are positive: {self}")
        if not (0.0 <= self.salvage_share <= 1.0 and 0.0 < self.holding_share <= 1.0):
            raise ValueError(f"shares of a restock policy lie in [0, 1], holding above 0: {self}")

    @classmethod
    def from_settings(cls, settings: Settings) -> "RestockPolicy":
        return cls(
            review_period_ms=settings.review_period_ms, cooldown_ms=settings.review_period_ms
        )


@dataclass(frozen=True, slots=True)
class RestockInputs:
    """What is known of n SKUs now; every array [n]. Nothing in it is about any shopper."""

    position_known: Flags  # a stock level has been seen
    inventory_position: Ints  # units: on hand + on order - sold since + our own orders since
    lead_mean: Floats  # expected units over min(lead time, time left)
    cover_mean: Floats  # expected units over min(lead time + review period, time left)
    cover_dispersion: Floats  # negative binomial r of the latter
    end_mean: Floats  # expected units until the end of the sale; unused where no end is known
    end_dispersion: Floats
    price_cents: Ints  # what a unit sells for now
    unit_cost_cents: Ints
    lead_time_ms: Ints
    time_left_ms: Ints  # until the end of the sale; -1 unknown
    since_restock_ms: Ints  # since our last order; -1 never


@dataclass(frozen=True, slots=True)
class RestockDecisions:
    """One decision a SKU; every array [n]."""

    order_quantity: Ints  # units; 0: no order
    # an order is placed when the position is at or below it; far above it, a bound above it
    reorder_point: Ints
    order_up_to_level: Ints
    critical_ratio: Floats
    forecast_mean: Floats  # units over lead time + review period, as used
    reason: NDArray[np.int8]  # a Reason


def decide(inputs: RestockInputs, policy: RestockPolicy) -> RestockDecisions:
    """Restocks of n SKUs under one policy. Pure: the same inputs give the same decisions."""
    cost = inputs.unit_cost_cents.astype(np.float64)
    margin = inputs.price_cents - cost
    ends = inputs.time_left_ms >= 0
    after_next = inputs.lead_time_ms + policy.review_period_ms
    last = ends & (inputs.time_left_ms <= after_next)
    holding = policy.holding_share * cost
    loss = (1.0 - policy.salvage_share) * cost
    reason = np.full(len(cost), Reason.COVER, np.int8)
    reason[last] = Reason.LAST_CHANCE
    cooling = (inputs.since_restock_ms >= 0) & (inputs.since_restock_ms < policy.cooldown_ms)
    reason[cooling] = Reason.COOLDOWN
    reason[margin <= 0] = Reason.NO_MARGIN
    reason[ends & (inputs.time_left_ms <= inputs.lead_time_ms)] = Reason.TOO_LATE
    reason[~inputs.position_known] = Reason.STOCK_UNKNOWN
    forecasts = (inputs.lead_mean, inputs.cover_mean, np.where(ends, inputs.end_mean, 0.0))
    reason[~np.isfinite(sum(forecasts)) | (inputs.cover_mean < 0)] = Reason.NO_FORECAST
    quantity = np.zeros(len(cost), np.int64)
    point = np.zeros_like(quantity)
    rows = np.flatnonzero(np.isin(reason, (Reason.COVER, Reason.LAST_CHANCE, Reason.COOLDOWN)))
    point[rows], wanted = orders(
        inputs.inventory_position[rows], inputs.lead_mean[rows], inputs.cover_mean[rows],
        inputs.cover_dispersion[rows], np.where(ends, inputs.end_mean, np.inf)[rows],
        inputs.end_dispersion[rows], _before_last(inputs, policy)[rows], margin[rows],
        holding[rows], loss[rows], float(policy.order_cost_cents),
    )  # fmt: skip
    small = rows[wanted == 0]
    reason[small] = np.where(
        inputs.inventory_position[small] > point[small], Reason.ENOUGH, Reason.TOO_SMALL
    )
    ordering = reason[rows] != Reason.COOLDOWN
    quantity[rows[ordering]] = np.minimum(wanted[ordering], policy.order_quantity_max)
    return RestockDecisions(
        order_quantity=quantity,
        reorder_point=point,
        order_up_to_level=np.where(quantity > 0, inputs.inventory_position + quantity, point),
        critical_ratio=critical_ratio(margin, holding + np.where(last, loss, 0.0)),
        forecast_mean=inputs.cover_mean,
        reason=reason,
    )


def _before_last(inputs: RestockInputs, policy: RestockPolicy) -> Floats:
    """Share [n] of the time from the arrival of an order to the end of the sale that has passed
    when the last order that arrives in time can be made.
    """
    after = np.maximum(inputs.time_left_ms - inputs.lead_time_ms, 1)
    reviews = (after - 1) // policy.review_period_ms  # that still follow
    passed = reviews * policy.review_period_ms - inputs.lead_time_ms
    share: Floats = np.clip(passed / after, 0.0, 1.0)
    return share
