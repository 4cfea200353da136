from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from streams.simulation.training import file_series, simulated_series
from tests.streams.simulation.sale import SEED, small_sale


def test_a_simulated_series_tells_what_was_wanted_beside_what_was_sold() -> None:
    series = simulated_series(SEED, small_sale(minutes=30), 10_000)
    assert series.skus == 24 and series.buckets == 180
    assert series.demand is not None
    assert np.all(series.demand >= series.units)
    assert series.demand.sum() > series.units.sum(), "shelves were empty"
    assert np.any(series.in_stock_share < 1)
    usual = series.list_price_cents[series.sku]
    assert np.any(np.abs(series.price_cents - usual) > 0.1 * usual), "prices were moved"


def test_a_series_without_exploring_keeps_list_prices() -> None:
    series = simulated_series(SEED, small_sale(minutes=10), 10_000, exploring=False)
    known = series.price_cents > 0
    assert np.array_equal(series.price_cents[known], series.list_price_cents[series.sku][known])


def test_a_bucket_is_a_whole_number_of_ticks() -> None:
    with pytest.raises(ValueError, match="multiple"):
        simulated_series(SEED, small_sale(minutes=10), 7_000)


def test_a_file_becomes_cells_by_sku_and_bucket(tmp_path: Path) -> None:
    path = tmp_path / "shop.parquet"
    rows = {
        "ts": [1_500_000_000.1, 1_500_000_001.0, 1_500_000_011.0, 1_500_000_012.0, None],
        "type": ["click", "order", "order", "cart", "click"],
        "sku": ["a", "a", "b", "b", "a"],
        "user": ["u"] * 5,
        "price": [9.99, 9.99, 5.0, 5.0, 1.0],
        "qty": [None, 3.0, 2.0, None, None],
    }
    parquet.write_table(pa.table(rows), path)
    series = file_series(path, 10_000)
    assert series.skus == 2 and series.buckets == 2
    assert series.start_ms == 1_500_000_000_000
    assert series.sku.tolist() == [0, 1] and series.bucket.tolist() == [0, 1]
    assert series.clicks.tolist() == [1, 0] and series.orders.tolist() == [1, 1]
    assert series.carts.tolist() == [0, 0], "the cart without a quantity is left out"
    assert series.units.tolist() == [3, 2] and series.list_price_cents.tolist() == [999, 500]
