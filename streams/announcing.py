"""Forecasts and decisions as records of the wire contract."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from models.calibration import QUANTILES
from models.prediction import Prediction
from streams.decisions import price, restock
from streams.decisions.guardrails import clamp_names
from streams.records import DemandForecast, HorizonForecast, PriceAdjustment, RestockEvent
from streams.situation import Situation

Int = NDArray[np.int64]
assert QUANTILES == (0.05, 0.10, 0.50, 0.90, 0.95), "HorizonForecast names them one by one"
COLD = "too little history for the model"
FAILED = "the model failed"


def forecasts(
    at_ms: int,
    prediction: Prediction,
    censored: NDArray[np.bool_],
    skus: list[str],
    valid_until_ms: int,
    model_version: str,
) -> Iterator[DemandForecast]:
    """One record per SKU of the prediction; `censored` where the shelf was empty of late."""
    horizons = prediction.horizons_ms.tolist()
    means = np.round(prediction.mean, 3).tolist()
    quantiles = prediction.quantiles.tolist()
    fallback = np.where(prediction.cold, COLD, np.where(prediction.fallback, FAILED, "")).tolist()
    cut_off = censored.tolist()
    for index, sku in enumerate(skus):
        ahead = [
            HorizonForecast(horizon, mean, *quantile)
            for horizon, mean, quantile in zip(
                horizons[index], means[index], quantiles[index], strict=True
            )
        ]
        yield DemandForecast(
            sku=sku,
            origin_ms=at_ms,
            valid_until_ms=valid_until_ms,
            horizons=ahead,
            censored=cut_off[index],
            fallback=fallback[index] or None,
            model_version=model_version,
        )


def restocks(
    situation: Situation,
    decisions: restock.RestockDecisions,
    chosen: Int,
    skus: list[str],
    valid_until_ms: int,
    model_version: str,
) -> Iterator[RestockEvent]:
    """One record for each index of `chosen`."""
    lead_time_ms = situation.reference.lead_time_ms[situation.rows]
    for index in chosen.tolist():
        yield RestockEvent(
            sku=skus[index],
            origin_ms=situation.at_ms,
            valid_until_ms=valid_until_ms,
            order_quantity=int(decisions.order_quantity[index]),
            reorder_point=int(decisions.reorder_point[index]),
            order_up_to_level=int(decisions.order_up_to_level[index]),
            inventory_position=int(situation.inventory_position[index]),
            critical_ratio=round(float(decisions.critical_ratio[index]), 4),
            lead_time_ms=int(lead_time_ms[index]),
            forecast_mean=round(float(decisions.forecast_mean[index]), 3),
            reason=restock.REASONS[restock.Reason(decisions.reason[index])],
            model_version=model_version,
            policy_version=restock.POLICY_VERSION,
        )


def prices(
    situation: Situation,
    decisions: price.PriceDecisions,
    chosen: Int,
    skus: list[str],
    valid_until_ms: int,
    model_version: str,
) -> Iterator[PriceAdjustment]:
    """One record for each index of `chosen`; a price holds from its origin on."""
    for index in chosen.tolist():
        yield PriceAdjustment(
            sku=skus[index],
            origin_ms=situation.at_ms,
            valid_until_ms=valid_until_ms,
            old_price_cents=int(situation.price_cents[index]),
            new_price_cents=int(decisions.price_cents[index]),
            effective_at_ms=situation.at_ms,
            expected_units=round(float(decisions.expected_units[index]), 2),
            expected_revenue_cents=round(float(decisions.expected_revenue_cents[index]), 2),
            clamps=clamp_names(int(decisions.clamps[index])),
            reason=price.REASONS[price.Reason(decisions.reason[index])],
            model_version=model_version,
            policy_version=price.POLICY_VERSION,
        )
