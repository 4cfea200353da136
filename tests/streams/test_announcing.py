"""Forecasts as finished batches: what the records' own JSON and headers would be."""

from typing import Any

import msgspec
import numpy as np
import pytest

from models.prediction import Prediction
from streams import announcing, topics
from streams.cloud_events import decision_id, encode_decision
from streams.codec.batches import iter_records
from streams.codec.columns import NameArrays
from streams.records import DemandForecast

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
