"""A series played to a forecaster's memory bucket by bucket, as the stream does it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.features import BucketInputs
from models.series import SeriesSet

Array = NDArray[Any]


@dataclass
class Played:
    """One closed bucket: which cells were active, and what the forecaster is told of them."""

    bucket: int
    cells: Array  # i8[k] places among the series' cells
    rows: Array  # i8[k] their SKUs
    inputs: BucketInputs | None  # none: nothing was active


def play(series: SeriesSet, told: bool = True) -> Iterator[Played]:
    """Every bucket in order, empty ones too. `told` false: the sale's times are kept hidden."""
    ends = np.searchsorted(series.bucket, np.arange(series.buckets), side="right")
    active = series.active
    begin = 0
    for bucket in range(series.buckets):
        cells = np.arange(begin, ends[bucket])
        begin = int(ends[bucket])
        cells = cells[active[cells]]
        rows = series.sku[cells]
        inputs = None
        if len(cells):
            inputs = _inputs(series, bucket, cells, told)
        yield Played(bucket, cells, rows, inputs)


def time_left_ms(series: SeriesSet, rows: Array, origin_ms: int, told: bool = True) -> Array:
    """Until the sale's end, i8[k]; -1 unknown."""
    end = series.sale_end_ms[rows]
    known = (end >= 0) & told
    return np.where(known, np.maximum(end - origin_ms, 0), -1)


def _inputs(series: SeriesSet, bucket: int, cells: Array, told: bool) -> BucketInputs:
    rows = series.sku[cells]
    start_ms = series.start_ms + bucket * series.bucket_ms
    end_ms = start_ms + series.bucket_ms
    opened, closes = series.sale_start_ms[rows], series.sale_end_ms[rows]
    known = (opened >= 0) & (closes > opened) & told
    length = np.where(known, closes - opened, 1)
    return BucketInputs(
        bucket_start_ms=start_ms,
        bucket_ms=series.bucket_ms,
        clicks=series.clicks[cells],
        carts=series.carts[cells],
        orders=series.orders[cells],
        units=series.units[cells],
        price_cents=series.price_cents[cells],
        list_price_cents=series.list_price_cents[rows],
        competitor_price_cents=series.competitor_price_cents[cells],
        in_stock_share=series.in_stock_share[cells],
        sale_phase=np.where(known, np.clip((end_ms - opened) / length, 0, 1), 0),
        time_left_ms=time_left_ms(series, rows, end_ms, told),
        category_level=np.zeros(len(rows)),  # as in the stream: the memory's own sale level
        sale_level=np.zeros(len(rows)),
    )
