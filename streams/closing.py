"""A closed bucket as the forecaster sees it, and as `demand-windows` tells it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.features import BucketInputs
from streams.codec.columns import NameArrays
from streams.codec.write import RecordBatch
from streams.codec.write_columns import encode_windows
from streams.reference import Reference
from streams.windows import ClosedBucket

Int = NDArray[np.int64]
NO_PRICE = 0


def bucket_inputs(
    bucket: ClosedBucket, bucket_ms: int, reference: Reference, in_stock_share: NDArray[np.float64]
) -> BucketInputs:
    """What one forecaster step is fed: the bucket's counts beside what the shop says of its SKUs.

    `in_stock_share` float64 [n]. Unknown prices are 0, an unknown end of the sale -1; levels over
    category and sale are the forecaster's own.
    """
    rows = bucket.rows
    end_ms = bucket.bucket_start_ms + bucket_ms
    known = reference.has_catalog[rows]
    unknown = np.zeros(len(rows))
    return BucketInputs(
        bucket_start_ms=bucket.bucket_start_ms,
        bucket_ms=bucket_ms,
        clicks=bucket.clicks,
        carts=bucket.carts,
        orders=bucket.orders,
        units=bucket.units,
        price_cents=bucket.price_cents,
        list_price_cents=np.where(known, reference.list_price_cents[rows], NO_PRICE),
        competitor_price_cents=reference.competitor_price_cents[rows],
        in_stock_share=in_stock_share,
        sale_phase=sale_phase(rows, end_ms, reference),
        time_left_ms=time_left_ms(rows, end_ms, reference),
        category_level=unknown,
        sale_level=unknown,
    )


def sale_phase(rows: Int, at_ms: int, reference: Reference) -> NDArray[np.float64]:
    """Elapsed share of each SKU's sale in [0, 1]; 0 where the catalog names none."""
    start = reference.sale_start_ms[rows]
    length = np.maximum(reference.sale_end_ms[rows] - start, 1)
    phase = np.clip((at_ms - start) / length, 0.0, 1.0)
    return np.where(reference.has_catalog[rows], phase, 0.0)


def time_left_ms(rows: Int, at_ms: int, reference: Reference) -> Int:
    """Until each SKU's sale ends, at least 0; -1 where the catalog names no end."""
    left = np.maximum(reference.sale_end_ms[rows] - at_ms, 0)
    return np.where(reference.has_catalog[rows], left, -1)


def encode_bucket(
    bucket: ClosedBucket,
    bucket_ms: int,
    names: NameArrays,
    reference: Reference,
    in_stock_share: NDArray[np.float64],
) -> list[RecordBatch]:
    """The bucket's `demand-windows` records, one per active SKU."""
    counts = np.stack(
        (
            bucket.clicks,
            bucket.carts,
            bucket.orders,
            bucket.units,
            bucket.revenue_cents,
            bucket.price_cents,
            reference.competitor_price_cents[bucket.rows],
            np.rint(in_stock_share * bucket_ms).astype(np.int64),
        ),
        axis=1,
    )
    return encode_windows(bucket.bucket_start_ms, bucket_ms, names, bucket.rows, counts)


def observed_events(bucket: ClosedBucket) -> list[int]:
    """Clicks, carts and orders of the whole bucket."""
    counts: list[Any] = [bucket.clicks.sum(), bucket.carts.sum(), bucket.orders.sum()]
    return [int(count) for count in counts]
