"""What the policies say of SKUs at one origin, for each position that they may have been in."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from models.prediction import Prediction, at_horizon
from streams.decisions import price, restock
from streams.decisions.guardrails import clamp_names
from streams.decisions.price_memory import PriceMemory
from streams.faults.shelf import Fields
from streams.settings import Settings

SLACK: Final = (0.011, 1e-3)  # of figures that are told with two decimals or more
CATEGORIES: Final = {"shoes": 0, "bags": 1}


@dataclass(frozen=True, slots=True)
class Position:
    """Of one SKU, were this what the shop had said. Units, cents, milliseconds."""

    sku: str
    row: int
    entry: Fields | None  # of the catalog
    has_stock: bool
    on_hand: int
    on_the_way: int  # by the shop's word, and by restocks of ours that it does not know of
    since_restock_ms: int  # -1: never
    shown: tuple[int, int]  # price of the last active bucket, and its start
    competitor_price_cents: int  # 0: none known


@dataclass(frozen=True, slots=True)
class Candidate:
    """What may have been decided; None: nothing."""

    position: Position
    restock: Fields | None
    price: Fields | None

    def fits(self, censored: bool, restocked: Fields | None, repriced: Fields | None) -> bool:
        """Whether this is what was published."""
        empty = self.position.has_stock and self.position.on_hand == 0
        return censored == empty and _same(restocked, self.restock) and _same(repriced, self.price)


class Choosing:
    """Of one partition; `prices` is what has been learned of its rows, `entries` what the catalog
    says of them.
    """

    def __init__(
        self, settings: Settings, prices: PriceMemory, entries: Sequence[Fields | None]
    ) -> None:
        self._settings = settings
        self._prices = prices
        self._category = np.array(
            [CATEGORIES[entry["category"]] if entry else -1 for entry in entries], np.int32
        )
        self._restock_policy = restock.RestockPolicy.from_settings(settings)
        self._price_policy = price.PricePolicy.from_settings(settings)

    def candidates(
        self, at_ms: int, prediction: Prediction, positions: list[list[Position]]
    ) -> dict[str, list[Candidate]]:
        """By SKU. `positions` of each SKU of the prediction: all on sale."""
        rows = np.array([several[0].row for several in positions], np.int64)
        learned = self._prices.posterior(rows, self._category)
        at = np.array([i for i, several in enumerate(positions) for _ in several])
        flat = [one for several in positions for one in several]
        asked = self._asked(at_ms, prediction.taken(at), flat)
        restocks = restock.decide(asked, self._restock_policy)
        prices = price.decide(
            self._asked_of_prices(at_ms, asked, flat, learned.price[at], learned.competitor[at]),
            self._price_policy,
        )
        found = defaultdict(list)
        for i, one in enumerate(flat):
            restocked, repriced = _restocked(restocks, i, asked), _repriced(prices, i, asked)
            found[one.sku].append(Candidate(one, restocked, repriced))
        return found

    def _asked(self, at_ms: int, ahead: Prediction, flat: list[Position]) -> restock.RestockInputs:
        """Of restocks, for each position."""
        rows = np.array([one.row for one in flat], np.int64)
        left_ms, lead_ms = _told(flat, "sale_end_ms") - at_ms, _told(flat, "lead_time_ms")
        cover_ms = lead_ms + self._settings.review_period_ms
        lead_mean, _ = at_horizon(ahead, np.minimum(lead_ms, left_ms))
        cover_mean, cover_dispersion = at_horizon(ahead, np.minimum(cover_ms, left_ms))
        shown = np.array([one.shown for one in flat], np.int64)
        return restock.RestockInputs(
            position_known=np.array([one.has_stock for one in flat]),
            inventory_position=np.array([one.on_hand + one.on_the_way for one in flat], np.int64),
            lead_mean=lead_mean,
            cover_mean=cover_mean,
            cover_dispersion=cover_dispersion,
            end_mean=ahead.mean[:, -1],
            end_dispersion=ahead.dispersion[:, -1],
            price_cents=self._prices.current_price_cents(
                rows, shown[:, 0], shown[:, 1], _told(flat, "list_price_cents")
            ),
            unit_cost_cents=_told(flat, "unit_cost_cents"),
            lead_time_ms=lead_ms,
            time_left_ms=left_ms,
            since_restock_ms=np.array([one.since_restock_ms for one in flat], np.int64),
        )

    def _asked_of_prices(
        self,
        at_ms: int,
        asked: restock.RestockInputs,
        flat: list[Position],
        sensitivity: Any,
        to_competitor: Any,
    ) -> price.PriceInputs:
        """The same of prices, before anything is restocked."""
        rows = np.array([one.row for one in flat], np.int64)
        since_change_ms = self._prices.since_change_ms(rows, at_ms)
        opening_ms = _told(flat, "sale_start_ms") + self._settings.forecast_interval_ms
        known, position = asked.position_known, asked.inventory_position
        return price.PriceInputs(
            stock=np.where(known, np.maximum(position, 0), -1),
            end_mean=asked.end_mean,
            lead_mean=asked.lead_mean,
            restockable=known & (asked.lead_time_ms < asked.time_left_ms),
            price_cents=asked.price_cents,
            list_price_cents=_told(flat, "list_price_cents"),
            unit_cost_cents=asked.unit_cost_cents,
            price_floor_cents=_told(flat, "price_floor_cents"),
            price_ceiling_cents=_told(flat, "price_ceiling_cents"),
            competitor_price_cents=np.array([one.competitor_price_cents for one in flat], np.int64),
            price_sensitivity=sensitivity,
            competitor_sensitivity=to_competitor,
            opening=(since_change_ms < 0) & (at_ms <= opening_ms),
            changes_last_hour=self._prices.changes_last_hour(rows, at_ms),
            since_change_ms=since_change_ms,
        )


def _told(flat: list[Position], name: str) -> Any:
    """A field of the catalog's entries, int64 [n]."""
    return np.array([_entry(one)[name] for one in flat], np.int64)


def _entry(one: Position) -> Fields:
    assert one.entry is not None
    return one.entry


def _restocked(
    decided: restock.RestockDecisions, i: int, asked: restock.RestockInputs
) -> Fields | None:
    if not decided.order_quantity[i]:
        return None
    return {
        "order_quantity": int(decided.order_quantity[i]),
        "reorder_point": int(decided.reorder_point[i]),
        "order_up_to_level": int(decided.order_up_to_level[i]),
        "inventory_position": int(asked.inventory_position[i]),
        "critical_ratio": float(decided.critical_ratio[i]),
        "lead_time_ms": int(asked.lead_time_ms[i]),
        "forecast_mean": float(decided.forecast_mean[i]),
        "reason": restock.REASONS[restock.Reason(decided.reason[i])],
    }


def _repriced(decided: price.PriceDecisions, i: int, asked: restock.RestockInputs) -> Fields | None:
    if not decided.changed[i]:
        return None
    return {
        "old_price_cents": int(asked.price_cents[i]),
        "new_price_cents": int(decided.price_cents[i]),
        "expected_units": float(decided.expected_units[i]),
        "expected_revenue_cents": float(decided.expected_revenue_cents[i]),
        "clamps": clamp_names(int(decided.clamps[i])),
        "reason": price.REASONS[price.Reason(decided.reason[i])],
    }


def _same(said: Fields | None, wanted: Fields | None) -> bool:
    """Whether what was said holds all that it must."""
    if said is None or wanted is None:
        return said is wanted
    return alike(said, wanted)


def alike(said: Any, wanted: Any) -> bool:
    """Equal, floats nearly so, at whatever depth."""
    if isinstance(wanted, dict):
        return all(alike(said[name], value) for name, value in wanted.items())
    if isinstance(wanted, list):
        return len(said) == len(wanted) and all(map(alike, said, wanted))
    if isinstance(wanted, float):
        near: bool = abs(said - wanted) <= SLACK[0] + SLACK[1] * abs(wanted)
        return near
    same: bool = said == wanted
    return same
