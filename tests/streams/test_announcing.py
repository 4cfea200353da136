"""Forecasts and prices as finished batches: what the records' own JSON and headers would be."""

from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from models.prediction import Prediction
from streams import announcing, topics
from streams.cloud_events import decision_id, encode_decision
from streams.codec.batches import iter_records
from streams.codec.columns import NameArrays
from streams.decisions import price
from streams.decisions.guardrails import clamp_names
from streams.records import DemandForecast, PriceAdjustment

AT_MS = 1_795_000_000_000
SOURCE = "/shop-flashcast/3"
SEED = 20261128


def prediction(n: int, **given: Any) -> Prediction:
    """Of every size of mean, zeros and round ones among them."""
    rng = np.random.default_rng(SEED)
    mean = np.cumsum(rng.choice([0, 0.0004, 0.1, 0.25, 1, 7.125, 1e3, 1 / 3, 1e10], (n, 5)), axis=1)
    columns: dict[str, Any] = {
        "horizons_ms": np.tile([60_000, 300_000, 900_000, 3_600_000, 7_000_000], (n, 1)),
        "mean": mean,
        "dispersion": np.ones((n, 5)),
        "quantiles": np.sort(rng.integers(0, 10**6, (n, 5, 5)), axis=2),
        "end_known": np.ones(n, np.bool_),
        "fallback": rng.random(n) < 0.3,
        "cold": rng.random(n) < 0.3,
        "load_mean": np.zeros((n, 2, 3)),
        "load_variance": np.zeros((n, 2, 3)),
    }
    return Prediction(**(columns | given))


def announced(one: Prediction, names: list[bytes], rows: np.ndarray[Any, Any]) -> list[Any]:
    censored = np.arange(len(rows)) % 2 == 0
    batches = announcing.forecasts(
        AT_MS, rows, one, censored, NameArrays.of(names), AT_MS + 120_000, "gru-7", SOURCE
    )
    return [record for batch in batches for record in iter_records(batch.whole(0, AT_MS))]


def test_they_are_the_records_that_python_would_write() -> None:
    names = [b"SKU-%d" % at for at in range(2_000)] + ['Lampe "grün"\n'.encode()]
    rows = np.random.default_rng(SEED).permutation(len(names))
    one = prediction(len(rows))
    records = announced(one, names, rows)
    assert [record.key for record in records] == [names[row] for row in rows]
    reasons = set()
    for at, record in enumerate(records):
        told = msgspec.json.decode(record.value, type=DemandForecast)
        wanted = encode_decision(told, SOURCE)
        assert (record.key, record.value, list(record.headers)) == wanted[1]
        assert wanted[0] == topics.DEMAND_FORECASTS
        own = decision_id(topics.DEMAND_FORECASTS, told.sku, AT_MS)
        assert record.headers[0] == ("ce_id", own.encode())
        assert (told.origin_ms, told.valid_until_ms) == (AT_MS, AT_MS + 120_000)
        assert [h.horizon_ms for h in told.horizons] == one.horizons_ms[at].tolist()
        assert [h.mean for h in told.horizons] == np.round(one.mean[at], 3).tolist()
        quantiles = [[h.p05, h.p10, h.p50, h.p90, h.p95] for h in told.horizons]
        assert quantiles == one.quantiles[at].tolist()
        assert told.censored == (at % 2 == 0)
        assert (told.fallback == announcing.COLD) == one.cold[at]
        assert (told.fallback is None) == (not one.cold[at] and not one.fallback[at])
        reasons.add(told.fallback)
    assert reasons == set(announcing.REASONS)


@pytest.mark.parametrize("mean", [1e12, 1e17, np.nan, np.inf])
def test_means_beyond_three_decimals_are_written_one_by_one(mean: float) -> None:
    one = prediction(2, mean=np.full((2, 5), mean))
    for record in announced(one, [b"A", b"B"], np.arange(2)):
        horizons = msgspec.json.decode(record.value)["horizons"]
        assert [h["mean"] for h in horizons] == [mean if np.isfinite(mean) else None] * 5


def test_price_changes_are_the_records_that_python_would_write() -> None:
    n = 500
    rng = np.random.default_rng(SEED)
    names = [b"SKU-%d" % at for at in range(n)]
    zero = np.zeros(n)
    decisions = price.PriceDecisions(
        price_cents=rng.integers(1, 10**8, n),
        changed=np.ones(n, np.bool_),
        wanted_cents=rng.integers(1, 10**8, n),
        clamps=rng.integers(0, 64, n).astype(np.uint8),
        expected_units=rng.choice([0.0, 0.5, 12.345678, 1e6], n),
        expected_revenue_cents=rng.choice([0.0, 0.004, 99.999, 1e11 / 3, 1e30], n),
        gain_share=zero,
        reason=rng.integers(0, len(price.Reason), n).astype(np.int8),
    )
    situation: Any = SimpleNamespace(
        at_ms=AT_MS, rows=rng.permutation(n), price_cents=rng.integers(1, 10**8, n)
    )
    chosen = np.sort(rng.choice(n, 300, replace=False))
    batches = announcing.prices(
        situation, decisions, chosen, NameArrays.of(names), AT_MS + 60_000, "gru-7", SOURCE
    )
    records = [record for batch in batches for record in iter_records(batch.whole(0, AT_MS))]
    for at, record in zip(chosen.tolist(), records, strict=True):
        told = PriceAdjustment(
            sku=names[situation.rows[at]].decode(),
            origin_ms=AT_MS,
            valid_until_ms=AT_MS + 60_000,
            old_price_cents=int(situation.price_cents[at]),
            new_price_cents=int(decisions.price_cents[at]),
            effective_at_ms=AT_MS,
            expected_units=round(float(decisions.expected_units[at]), 2),
            expected_revenue_cents=round(min(float(decisions.expected_revenue_cents[at]), 1e12), 2),
            clamps=clamp_names(int(decisions.clamps[at])),
            reason=price.REASONS[price.Reason(decisions.reason[at])],
            model_version="gru-7",
            policy_version=price.POLICY_VERSION,
        )
        topic, wanted = encode_decision(told, SOURCE)
        assert topic == topics.PRICE_ADJUSTMENTS
        assert (record.key, record.value, list(record.headers)) == wanted
