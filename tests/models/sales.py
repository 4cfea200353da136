"""A small seeded sale for the tests of the forecaster, made of nothing but numpy."""

import numpy as np

from models.features import BucketInputs
from models.series import SeriesSet

SEED = 7
START_MS = 1_700_000_000_000
BUCKET_MS = 10_000


def sale(seed: int = SEED, skus: int = 12, buckets: int = 240, stock: int = 10_000) -> SeriesSet:
    """Heavy-tailed demand with an opening spike, clicks ahead of orders, shelves that empty."""
    print("seed", seed)
    random = np.random.default_rng(seed)
    phase = (np.arange(buckets) + 0.5) / buckets
    shape = 0.6 + 3 * np.exp(-phase / 0.07) + 1.5 * np.exp(-(((phase - 0.96) / 0.05) ** 2))
    rate = np.exp(random.normal(0.0, 1.0, skus))[:, None] * shape
    clicks = random.poisson(6 * rate)
    carts = random.poisson(1.5 * rate)
    demand = random.poisson(rate)
    left = np.maximum(stock - np.cumsum(demand, axis=1) + demand, 0)
    units = np.minimum(demand, left)
    share = np.where(left == 0, 0.0, np.where(left < demand, 0.5, 1.0))
    return SeriesSet.from_dense(
        name=f"test-{seed}",
        bucket_ms=BUCKET_MS,
        start_ms=START_MS,
        clicks=clicks,
        carts=carts,
        orders=units,
        units=units,
        demand=demand,
        in_stock_share=share,
        price_cents=np.full(clicks.shape, 9_900),
        list_price_cents=np.full(skus, 12_000),
        sale_start_ms=np.full(skus, START_MS),
        sale_end_ms=np.full(skus, START_MS + buckets * BUCKET_MS),
    )


def bucket_inputs(
    random: np.random.Generator, n: int, bucket: int = 0, **changed: object
) -> BucketInputs:
    """A random bucket of n active SKUs."""
    units = random.poisson(2.0, n)
    inputs = BucketInputs(
        bucket_start_ms=START_MS + bucket * BUCKET_MS,
        bucket_ms=BUCKET_MS,
        clicks=random.poisson(12.0, n) + 1,
        carts=random.poisson(3.0, n),
        orders=units,
        units=units,
        price_cents=np.full(n, 9_900),
        list_price_cents=np.full(n, 12_000),
        competitor_price_cents=np.full(n, 10_000),
        in_stock_share=np.ones(n),
        sale_phase=np.full(n, (bucket + 1) / 720),
        time_left_ms=np.full(n, (720 - bucket - 1) * BUCKET_MS),
        category_level=np.zeros(n),
        sale_level=np.zeros(n),
    )
    for name, value in changed.items():
        setattr(inputs, name, value)
    return inputs
