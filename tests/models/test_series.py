"""A series set checks itself, and sums over it match the dense arrays."""

import dataclasses

import numpy as np
import pytest

from models.errors import ModelError
from models.series import SeriesSet
from models.series_sums import SeriesSums
from tests.models.sales import sale


def test_a_column_that_does_not_fit_is_named() -> None:
    series = sale(skus=3, buckets=20)
    with pytest.raises(ModelError, match="column units has shape"):
        dataclasses.replace(series, units=series.units[:-1])
    with pytest.raises(ModelError, match="not sorted"):
        dataclasses.replace(series, bucket=series.bucket[::-1].copy())
    with pytest.raises(ModelError, match="sku outside"):
        dataclasses.replace(series, sku=series.sku + 3)


def test_sums_over_stretches_match_the_dense_arrays() -> None:
    random = np.random.default_rng(1)
    units = random.poisson(0.3, (6, 50))
    share = np.where(random.random((6, 50)) < 0.1, random.random((6, 50)).round(2), 1.0)
    series = SeriesSet.from_dense(
        name="dense", bucket_ms=1_000, start_ms=10**12, units=units, orders=units > 0,
        in_stock_share=share, demand=units + 1,
    )  # fmt: skip
    sums = SeriesSums(series)
    for _ in range(200):
        sku, first = random.integers(6), random.integers(50)
        end = first + random.integers(1, 20)
        outcome = sums.outcome(*(np.array([v]) for v in (sku, first, end)))
        inside = slice(first, min(end, 50))
        assert outcome.units[0] == units[sku, inside].sum()
        assert outcome.censored[0] == (share[sku, inside] < 1).any()
        assert outcome.whole[0] == (end <= 50)
        truth = sums.outcome(*(np.array([v]) for v in (sku, first, end)), truth=True)
        assert truth.units[0] == (units[sku, inside] + 1).sum()


def test_a_part_keeps_its_place_in_time() -> None:
    series = sale(skus=4, buckets=40)
    part = series.between(10, 20)
    assert part.start_ms == series.start_ms and part.buckets == 20
    assert part.bucket.min() == 10 and part.bucket.max() == 19
