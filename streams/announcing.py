"""Forecasts and decisions as records of the wire contract."""

from collections.abc import Iterator
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.prediction import QUANTILES, Prediction
from streams import topics
from streams.cloud_events import cloud_event_headers, decision_ids, encode_decision
from streams.codec.columns import NameArrays
from streams.codec.write import RecordBatch, encode_records
from streams.codec.write_columns import (
    ID,
    INTEGER,
    THOUSANDTHS,
    Column,
    Template,
    choice,
    encode_templated,
)
from streams.decisions import price, restock
from streams.decisions.guardrails import Guardrail, clamp_names
from streams.records import DemandForecast, HorizonForecast, PriceAdjustment, RestockEvent
from streams.situation import Situation

Int = NDArray[np.int64]
assert QUANTILES == (0.05, 0.10, 0.50, 0.90, 0.95), "HorizonForecast names them one by one"
COLD: Final = "too little history for the model"
FAILED: Final = "the model failed"
REASONS: Final = (None, COLD, FAILED)
CLAMPS: Final = choice(
    *(msgspec.json.encode(clamp_names(mask)) for mask in range(2 * max(Guardrail)))
)
PRICE_REASONS: Final = choice(*(msgspec.json.encode(price.REASONS[one]) for one in price.Reason))
EXPECTED_MAX: Final = 1e12  # beyond it nobody counts hundredths
MEAN_MAX: Final = 1e12  # below it three decimals of a float are exactly what they seem


def forecasts(
    at_ms: int,
    rows: Int,
    prediction: Prediction,
    censored: NDArray[np.bool_],
    names: NameArrays,
    valid_until_ms: int,
    model_version: str,
    source: str,
) -> list[RecordBatch]:
    """One DemandForecast for each of `rows`, int64 [n], SKUs of the prediction; `censored` bool [n]
    where the shelf was empty of late.
    """
    keys = names.several(rows)
    topic = topics.DEMAND_FORECASTS
    if not np.all(prediction.mean < MEAN_MAX):  # NaN too: JSON of their own
        records = _forecasts(at_ms, prediction, censored, keys, valid_until_ms, model_version)
        return encode_records(encode_decision(record, source)[1] for record in records)
    reason = np.where(prediction.cold, 1, np.where(prediction.fallback, 2, 0))
    thousandths = np.rint(prediction.mean * 1_000).astype(np.int64)
    ahead = np.concatenate(
        (prediction.horizons_ms[:, :, None], thousandths[:, :, None], prediction.quantiles), axis=2
    )
    columns = np.column_stack((ahead.reshape(len(rows), -1), censored, reason))
    parts: list[bytes | Column] = [
        b',"origin_ms":%d,"valid_until_ms":%d,"horizons":[' % (at_ms, valid_until_ms)
    ]
    for horizon in range(ahead.shape[1]):
        for number, field in enumerate(HorizonForecast.__struct_fields__):
            before = b"," if number else (b",{" if horizon else b"{")
            parts += [before + b'"%s":' % field.encode()]
            parts += [THOUSANDTHS if field == "mean" else INTEGER]
        parts += [b"}"]
    parts += [
        b'],"censored":',
        choice(b"false", b"true"),
        b',"fallback":',
        choice(*map(msgspec.json.encode, REASONS)),
        b',"model_version":' + msgspec.json.encode(model_version),
    ]
    headers = cloud_event_headers(topic, ID.decode(), source, at_ms)
    ids = decision_ids(topic, keys, at_ms)
    return encode_templated(Template(parts, headers), names, rows, columns, ids)


def _forecasts(
    at_ms: int,
    prediction: Prediction,
    censored: NDArray[np.bool_],
    keys: list[bytes],
    valid_until_ms: int,
    model_version: str,
) -> Iterator[DemandForecast]:
    means = np.round(prediction.mean, 3)
    for index, key in enumerate(keys):
        columns = prediction.horizons_ms[index], means[index], prediction.quantiles[index]
        reason = COLD if prediction.cold[index] else FAILED
        yield DemandForecast(
            sku=key.decode(),
            origin_ms=at_ms,
            valid_until_ms=valid_until_ms,
            horizons=[
                HorizonForecast(horizon, mean, *quantiles)
                for horizon, mean, quantiles in zip(*(c.tolist() for c in columns), strict=True)
            ],
            censored=bool(censored[index]),
            fallback=reason if prediction.cold[index] or prediction.fallback[index] else None,
            model_version=model_version,
        )


def restocks(
    situation: Situation,
    decisions: restock.RestockDecisions,
    chosen: Int,
    names: NameArrays,
    valid_until_ms: int,
    model_version: str,
) -> Iterator[RestockEvent]:
    """One record for each index of `chosen`."""
    lead_time_ms = situation.reference.lead_time_ms[situation.rows]
    keys = names.several(situation.rows[chosen])
    for index, key in zip(chosen.tolist(), keys, strict=True):
        yield RestockEvent(
            sku=key.decode(),
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
    names: NameArrays,
    valid_until_ms: int,
    model_version: str,
    source: str,
) -> list[RecordBatch]:
    """One PriceAdjustment for each index of `chosen`; a price holds from its origin on."""
    rows = situation.rows[chosen]
    expected = np.stack((decisions.expected_units, decisions.expected_revenue_cents), axis=1)
    expected = np.minimum(expected[chosen], EXPECTED_MAX)
    thousandths = np.rint(expected * 100).astype(np.int64) * 10  # two decimals
    columns = np.column_stack((
        situation.price_cents[chosen], decisions.price_cents[chosen], thousandths,
        decisions.clamps[chosen], decisions.reason[chosen],
    )).astype(np.int64)  # fmt: skip
    at_ms = situation.at_ms
    told: dict[str, object] = {
        "origin_ms": at_ms, "valid_until_ms": valid_until_ms, "old_price_cents": INTEGER,
        "new_price_cents": INTEGER, "effective_at_ms": at_ms, "expected_units": THOUSANDTHS,
        "expected_revenue_cents": THOUSANDTHS, "clamps": CLAMPS, "reason": PRICE_REASONS,
        "model_version": model_version, "policy_version": price.POLICY_VERSION,
    }  # fmt: skip
    parts: list[bytes | Column] = []
    for field in PriceAdjustment.__struct_fields__[1:]:
        content = told[field]
        parts += [
            b',"%s":' % field.encode(),
            content if isinstance(content, Column) else msgspec.json.encode(content),
        ]
    topic = topics.PRICE_ADJUSTMENTS
    template = Template(parts, cloud_event_headers(topic, ID.decode(), source, at_ms))
    ids = decision_ids(topic, names.several(rows), at_ms)
    return encode_templated(template, names, rows, columns, ids)
