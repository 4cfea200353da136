"""What is known of each SKU at the moment of deciding, side by side as the policies ask for it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.prediction import Prediction, at_horizon
from streams.decisions.price import PriceInputs
from streams.decisions.restock import RestockInputs
from streams.reference import Reference

Int = NDArray[np.int64]
Float = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Situation:
    """n SKUs at one origin, all of the catalog and on sale; arrays [n]. Units, cents, ms."""

    at_ms: int
    rows: Int
    prediction: Prediction
    reference: Reference
    has_stock: Flags
    time_left_ms: Int  # -1 unknown
    inventory_position: Int
    price_cents: Int  # in force
    price_sensitivity: Float
    competitor_sensitivity: Float
    changes_last_hour: Int
    since_change_ms: Int
    since_restock_ms: Int
    review_period_ms: int
    opening_until_ms: Int

    def _within_sale(self, wanted_ms: Int) -> Int:
        return np.where(self.time_left_ms >= 0, np.minimum(wanted_ms, self.time_left_ms), wanted_ms)

    def _lead_mean(self) -> Float:
        lead_ms = self.reference.lead_time_ms[self.rows]
        return at_horizon(self.prediction, self._within_sale(lead_ms))[0]

    def restock_inputs(self) -> RestockInputs:
        """As the restock policy asks for it."""
        lead_ms = self.reference.lead_time_ms[self.rows]
        cover_ms = self._within_sale(lead_ms + self.review_period_ms)
        cover_mean, cover_dispersion = at_horizon(self.prediction, cover_ms)
        return RestockInputs(
            position_known=self.has_stock,
            inventory_position=self.inventory_position,
            lead_mean=self._lead_mean(),
            cover_mean=cover_mean,
            cover_dispersion=cover_dispersion,
            end_mean=self.prediction.mean[:, -1],
            end_dispersion=self.prediction.dispersion[:, -1],
            price_cents=self.price_cents,
            unit_cost_cents=self.reference.unit_cost_cents[self.rows],
            lead_time_ms=lead_ms,
            time_left_ms=self.time_left_ms,
            since_restock_ms=self.since_restock_ms,
        )

    def price_inputs(self) -> PriceInputs:
        """As the price policy asks for it. Stock includes what is on its way."""
        reference, rows = self.reference, self.rows
        lead_ms = reference.lead_time_ms[rows]
        return PriceInputs(
            stock=np.where(self.has_stock, np.maximum(self.inventory_position, 0), -1),
            end_mean=self.prediction.mean[:, -1],
            lead_mean=self._lead_mean(),
            restockable=self.has_stock & (lead_ms < self.time_left_ms),
            price_cents=self.price_cents,
            list_price_cents=reference.list_price_cents[rows],
            unit_cost_cents=reference.unit_cost_cents[rows],
            price_floor_cents=reference.price_floor_cents[rows],
            price_ceiling_cents=reference.price_ceiling_cents[rows],
            competitor_price_cents=reference.competitor_price_cents[rows],
            price_sensitivity=self.price_sensitivity,
            competitor_sensitivity=self.competitor_sensitivity,
            opening=(self.since_change_ms < 0) & (self.at_ms <= self.opening_until_ms),
            changes_last_hour=self.changes_last_hour,
            since_change_ms=self.since_change_ms,
        )
