"""The price of each SKU: a dynamic programme over stock and the periods that are left.

Demand at price p over a horizon is mean * exp(-slope (p - p0)), with `mean` forecast at the current
price p0. For such demand only the amount left counts, not its shape in time (Gallego and van Ryzin,
"Optimal dynamic pricing of inventories with stochastic demand over finite horizons", Management
Science 40, 1994, section 5.2), so periods of equal demand stand for the rest of the horizon.

How far the horizon reaches and what a unit is worth beyond it depends on restocking: where an
order can still arrive, stock is scarce only until then, and a unit left then saves its cost (as far
as the rest of the sale can use it); else the horizon ends with the sale, where a unit left is worth
its salvage. Stock on hand is paid for, whatever the price.

The price then passes the guardrails, last, and changes only if the gain is worth a change. Inputs
hold nothing about any shopper: same SKU, same time, same price.
"""

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streams.decisions import guardrails
from streams.decisions.demand import expected_sales_of
from streams.decisions.guardrails import Guardrail, Guardrails
from streams.decisions.price_programme import best_prices
from streams.settings import Settings

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

POLICY_VERSION: Final = "price-1"
LOG_FACTOR_MAX: Final = 30.0  # of demand at another price: no forecast says anything beyond
UNLIMITED: Final = -1


class Reason(IntEnum):
    """Why a price is or is not changed; `REASONS` says it in words."""

    KEPT = 0
    SCARCE = 1
    PLENTY = 2
    OPENING = 3
    BOUNDS = 4
    WITHHELD = 5
    NO_STOCK = 6
    UNKNOWN = 7


REASONS: Final = {
    Reason.KEPT: "no change is worth making",
    Reason.SCARCE: "stock is short for the demand ahead: a higher price earns more from it",
    Reason.PLENTY: "stock outlasts the demand ahead: a lower price earns more from it",
    Reason.OPENING: "opening price of the sale",
    Reason.BOUNDS: "the price was outside its bounds",
    Reason.WITHHELD: "a guardrail allows no change now",
    Reason.NO_STOCK: "nothing left to sell",
    Reason.UNKNOWN: "list price, cost or forecast is missing",
}


@dataclass(frozen=True, slots=True)
class PricePolicy:
    """How prices are decided; the same for every SKU."""

    limits: Guardrails = field(default_factory=Guardrails)
    salvage_share: float = 0.5  # of the unit cost, what a unit is worth after the sale
    gain_min: float = 0.01  # least gain of a change, as a share of the next period's revenue
    change_min: float = 0.01  # least change, as a share of the old price
    periods: int = 16  # of equal demand, in the dynamic programme

    def __post_init__(self) -> None:
        if not 0.0 <= self.salvage_share <= 1.0:
            raise ValueError(f"salvage_share {self.salvage_share} must lie in [0, 1]")
        if self.gain_min < 0 or self.change_min < 0 or not 1 <= self.periods <= 1_000:
            raise ValueError(f"gains are at least 0 and periods in [1, 1000]: {self}")

    @classmethod
    def from_settings(cls, settings: Settings) -> "PricePolicy":
        return cls(limits=Guardrails.from_settings(settings))


@dataclass(frozen=True, slots=True)
class PriceInputs:
    """What is known of n SKUs now; every array [n]."""

    stock: Ints  # units to sell: on hand, and on order if it arrives in time; -1 unknown
    end_mean: Floats  # expected units until the end of the sale at the current price
    lead_mean: Floats  # expected units until a restock ordered now would arrive, likewise
    restockable: Flags  # such a restock arrives before the end of the sale
    price_cents: Ints  # in force now
    list_price_cents: Ints
    unit_cost_cents: Ints
    price_floor_cents: Ints
    price_ceiling_cents: Ints
    competitor_price_cents: Ints  # 0 unknown
    price_sensitivity: Floats  # `Sensitivity.price`
    competitor_sensitivity: Floats  # `Sensitivity.competitor`
    opening: Flags  # the first price decision of this sale
    changes_last_hour: Ints
    since_change_ms: Ints  # -1 never


@dataclass(frozen=True, slots=True)
class PriceDecisions:
    """One decision a SKU; every array [n]."""

    price_cents: Ints  # in force from now on; the old one where `changed` is false
    changed: Flags
    wanted_cents: Ints  # before the guardrails; the old price where they would let none pass
    clamps: NDArray[np.uint8]  # mask of `Guardrail`; see `guardrails.clamp_names`
    expected_units: Floats  # until the end of the sale, at `price_cents`
    expected_revenue_cents: Floats
    gain_share: Floats  # of the wanted price over the old, of the next period's revenue
    reason: NDArray[np.int8]  # a Reason


def decide(inputs: PriceInputs, policy: PricePolicy) -> PriceDecisions:
    """Prices of n SKUs under one policy. Pure: the same inputs give the same decisions."""
    old = inputs.price_cents
    slope = demand_slope(inputs)
    usable = (old > 0) & (inputs.list_price_cents > 0) & (inputs.price_ceiling_cents > 0)
    usable &= (inputs.end_mean > 0) & (inputs.lead_mean >= 0)
    usable &= np.isfinite(inputs.end_mean) & np.isfinite(inputs.lead_mean)
    wanted = old.copy()
    gain = np.zeros(len(old))
    held = guardrails.withholding(
        inputs.changes_last_hour, inputs.since_change_ms, inputs.opening, policy.limits
    )
    withheld = usable & (held != 0)  # nothing is worked out for them: the price stays
    rows = np.flatnonzero(usable & ~withheld & (inputs.stock != 0))
    cost = inputs.unit_cost_cents.astype(np.float64)
    wanted[rows], gain[rows] = best_prices(
        inputs.stock[rows], inputs.end_mean[rows],
        np.minimum(inputs.lead_mean, inputs.end_mean)[rows], inputs.restockable[rows],
        old[rows].astype(np.float64), slope[rows], cost[rows],
        policy.salvage_share * cost[rows], inputs.price_floor_cents[rows].astype(np.float64),
        inputs.price_ceiling_cents[rows].astype(np.float64), policy.periods,
    )  # fmt: skip
    price, clamps = guardrails.apply(
        wanted, old, inputs.price_floor_cents, inputs.price_ceiling_cents,
        inputs.changes_last_hour, inputs.since_change_ms, inputs.opening, policy.limits,
    )  # fmt: skip
    outside = (old < inputs.price_floor_cents) | (old > inputs.price_ceiling_cents)
    worth = (gain >= policy.gain_min) & (np.abs(price - old) >= policy.change_min * old)
    changed = usable & (price != old) & (worth | outside)
    price = np.where(changed, price, old)
    units, revenue = _expected(inputs, slope, price)
    return PriceDecisions(
        price_cents=price,
        changed=changed,
        wanted_cents=wanted,
        clamps=clamps,
        expected_units=units,
        expected_revenue_cents=revenue,
        gain_share=gain,
        reason=_reasons(inputs, usable, outside, changed, withheld, price),
    )


def demand_slope(inputs: PriceInputs) -> Floats:
    """Fall of log demand per cent of price [n]: b / list + g / competitor, above 0."""
    slope = inputs.price_sensitivity / np.maximum(inputs.list_price_cents, 1)
    known = inputs.competitor_price_cents > 0
    against = inputs.competitor_sensitivity / np.maximum(inputs.competitor_price_cents, 1)
    return slope + np.where(known, against, 0.0)


def _expected(inputs: PriceInputs, slope: Floats, price: Ints) -> tuple[Floats, Floats]:
    """Units and revenue in cents [n] until the end of the sale if the price stays."""
    moved = -slope * (price - inputs.price_cents)
    factor = np.exp(np.clip(moved, -LOG_FACTOR_MAX, LOG_FACTOR_MAX))
    mean = inputs.end_mean * factor
    limit = np.where(inputs.stock >= 0, inputs.stock.astype(np.float64), np.inf)
    # a restock serves what comes after it; before that the shelf is the limit
    first = np.where(inputs.restockable, np.minimum(inputs.lead_mean * factor, mean), mean)
    units = expected_sales_of(first, np.sqrt(first), limit) + (mean - first)
    return units, units * price


def _reasons(
    inputs: PriceInputs, usable: Flags, outside: Flags, changed: Flags, withheld: Flags, price: Ints
) -> NDArray[np.int8]:
    reason = np.full(len(price), Reason.KEPT, np.int8)
    reason[withheld] = Reason.WITHHELD
    reason[changed & (price > inputs.price_cents)] = Reason.SCARCE
    reason[changed & (price < inputs.price_cents)] = Reason.PLENTY
    reason[changed & inputs.opening] = Reason.OPENING
    reason[changed & outside] = Reason.BOUNDS
    reason[~changed & (inputs.stock == 0)] = Reason.NO_STOCK
    reason[~usable] = Reason.UNKNOWN
    return reason


__all__ = [
    "POLICY_VERSION", "REASONS", "UNLIMITED", "Guardrail", "PriceDecisions", "PriceInputs",
    "PricePolicy", "Reason", "decide", "demand_slope",
]  # fmt: skip
