import math
import random

import msgspec
import numpy as np
import pytest

from streams import topics
from streams.records import (
    HORIZONS_MS,
    CapacityForecast,
    CapacityLevels,
    DemandForecast,
    DemandWindow,
    HorizonForecast,
    PriceAdjustment,
    RestockEvent,
)
from streams.web import page
from streams.web.board import ALL, Z_95, Board
from streams.web.grid import Clock, Grid

START_MS = 1_700_000_040_000  # on a minute
MINUTE_MS = 60_000


def window(sku: str, at_ms: int, units: int, price_cents: int = 1_000) -> bytes:
    return msgspec.json.encode(
        DemandWindow(
            sku=sku,
            bucket_start_ms=at_ms,
            bucket_ms=10_000,
            clicks=10 * units,
            carts=2 * units,
            orders=units,
            units=units,
            revenue_cents=units * price_cents,
            price_cents=price_cents,
            competitor_price_cents=0,
            in_stock_ms=10_000,
        )
    )


def horizon(horizon_ms: int, mean: float, low: int, high: int) -> HorizonForecast:
    return HorizonForecast(horizon_ms, mean, low, low, round(mean), high, high)


def forecast(sku: str, origin_ms: int, *horizons: HorizonForecast) -> bytes:
    return msgspec.json.encode(
        DemandForecast(sku, origin_ms, origin_ms + 60_000, list(horizons), False, None, "gru-1")
    )


def restock(sku: str, origin_ms: int, quantity: int) -> bytes:
    return msgspec.json.encode(
        RestockEvent(
            sku,
            origin_ms,
            origin_ms + 1,
            quantity,
            5,
            9,
            3,
            0.9,
            1,
            2.0,
            "low",
            "gru-1",
            "restock-1",
        )
    )


def price(sku: str, origin_ms: int, old: int, new: int) -> bytes:
    return msgspec.json.encode(
        PriceAdjustment(
            sku, origin_ms, origin_ms + 1, old, new, origin_ms, 1.0, 2.0, ["step"], "x", "g", "p"
        )
    )


def capacity(as_of_ms: int, p50: float, observed: float) -> bytes:
    levels = CapacityLevels(p50, p50 * 1.2, p50 * 1.3)
    replicas = CapacityLevels(1, 2, 3)
    return msgspec.json.encode(
        CapacityForecast(
            "shop", as_of_ms, as_of_ms + 1, 60, levels, replicas, observed, "ahead", "g", "c"
        )
    )


def test_totals_are_the_sums_of_everything_read() -> None:
    board = Board()
    for at in range(12):
        board.add(topics.DEMAND_WINDOWS, 0, window("a", START_MS + at * 10_000, 3))
        board.add(topics.DEMAND_WINDOWS, 1, window("b", START_MS + at * 10_000, 1, 250))
    totals = page.overview(board)["totals"]
    assert (totals["units"], totals["orders"], totals["clicks"]) == (48, 48, 480)
    assert totals["revenue_cents"] == 12 * (3 * 1_000 + 250)
    assert [line["sku"] for line in page.overview(board)["top"]] == ["a", "b"]


def test_a_repeated_record_counts_once() -> None:
    board = Board()
    for _ in range(2):
        board.add(topics.DEMAND_WINDOWS, 0, window("a", START_MS, 3))
        board.add(topics.RESTOCK_EVENTS, 0, restock("a", START_MS, 40))
        board.add(topics.PRICE_ADJUSTMENTS, 0, price("a", START_MS, 100, 90))
        board.add(topics.CAPACITY_FORECASTS, 0, capacity(START_MS, 10.0, 9.0))
        board.add(
            topics.DEMAND_FORECASTS, 0, forecast("a", START_MS, horizon(MINUTE_MS, 6.0, 2, 11))
        )
    totals = board.totals
    assert (totals.units, totals.restocks, totals.restock_units) == (3, 1, 40)
    assert (totals.price_changes, totals.capacity_forecasts, totals.repeats) == (1, 1, 4)
    assert board.sums.values[ALL, :, 0].sum(axis=0) == pytest.approx(
        [6.0, (9 / (2 * Z_95)) ** 2, 1]
    )


def test_a_forecast_is_drawn_where_its_horizon_ends_beside_the_units_sold_until_then() -> None:
    #   minute      0    1    2    3    4    5 | not whole yet
    #   units       6   12   18   24   30   36
    #   forecast at the start of minute 1 for 5 min: target minute 6, actual 12+18+24+30+36
    board = Board()
    for at in range(36):
        minute = at // 6
        board.add(topics.DEMAND_WINDOWS, 0, window("a", START_MS + at * 10_000, minute + 1))
    board.add(
        topics.DEMAND_FORECASTS,
        0,
        forecast("a", START_MS + MINUTE_MS, horizon(300_000, 100.0, 80, 125)),
    )
    shown = page.selection(board, "a", 300_000)["demand"]
    at = shown["x"].index((START_MS + 6 * MINUTE_MS) / 1_000)
    assert shown["actual"][at] == 12 + 18 + 24 + 30 + 36
    assert (shown["mean"][at], shown["low"][at], shown["high"][at]) == (100.0, 80.0, 125.0)
    assert shown["score"] == {"wape": pytest.approx(20 / 120), "coverage": 1.0, "count": 1}


def test_what_lies_ahead_has_a_forecast_and_no_actual() -> None:
    board = Board()
    for at in range(6):
        board.add(topics.DEMAND_WINDOWS, 0, window("a", START_MS + at * 10_000, 1))
    origin_ms = START_MS + MINUTE_MS
    board.add(
        topics.DEMAND_FORECASTS, 0, forecast("a", origin_ms, horizon(3_600_000, 300.0, 200, 410))
    )
    shown = page.selection(board, "a", 3_600_000)["demand"]
    assert shown["x"] == [(origin_ms + 3_600_000) / 1_000]
    assert shown["actual"] == [None]
    assert shown["score"] is None


def test_the_interval_of_the_total_sums_variances_not_quantiles() -> None:
    board = Board()
    origin_ms = START_MS
    for number in range(100):
        sku = f"sku-{number}"
        board.add(
            topics.DEMAND_FORECASTS, 0, forecast(sku, origin_ms, horizon(MINUTE_MS, 10.0, 5, 15))
        )
        board.add(topics.DEMAND_WINDOWS, 0, window(sku, START_MS + MINUTE_MS, 1))
    shown = page.selection(board, None, MINUTE_MS)["demand"]
    at = shown["x"].index((origin_ms + MINUTE_MS) / 1_000)
    assert shown["mean"][at] == pytest.approx(1_000.0)
    assert shown["high"][at] == pytest.approx(
        1_000 + math.sqrt(100) * 5
    )  # quantiles would say 1500


def test_the_total_waits_for_the_partition_that_is_behind_but_not_for_ever() -> None:
    board = Board()
    board.add(topics.DEMAND_WINDOWS, 0, window("a", START_MS + 5 * MINUTE_MS - 10_000, 1))
    board.add(topics.DEMAND_WINDOWS, 1, window("b", START_MS + 4 * MINUTE_MS - 10_000, 1))
    assert board.through_ms() == START_MS + 4 * MINUTE_MS
    board.add(topics.DEMAND_WINDOWS, 0, window("a", START_MS + 60 * MINUTE_MS, 1))
    assert board.through_ms() == START_MS + 60 * MINUTE_MS + 10_000 - 2 * MINUTE_MS


def test_memory_is_bounded_in_skus_and_in_time_while_totals_stay_exact() -> None:
    board = Board(cells=30, skus_max=50)
    for number in range(200):
        at_ms = START_MS + number * MINUTE_MS
        board.add(topics.DEMAND_WINDOWS, 0, window(f"sku-{number}", at_ms, 2))
        board.add(topics.RESTOCK_EVENTS, 0, restock(f"sku-{number}", at_ms, 1))
    assert board.totals.units == 400
    assert board.totals.without_detail == 300
    assert len(board.skus) == 50
    assert board.sales.values.shape[:2] == (64, 30)
    assert len(page.selection(board, None, MINUTE_MS)["sales"]["x"]) <= 30
    assert page.selection(board, "sku-150", MINUTE_MS)["known"] is False
    assert len(page.overview(board)["restocks"]) <= page.ROWS_MAX


def test_a_record_that_cannot_be_read_is_counted_and_changes_nothing_else() -> None:
    board = Board()
    for topic in topics.OUTPUT_TOPICS:
        for value in (b"", b"nonsense", b'{"sku":5}', b"\xff\xfe"):
            board.add(topic, 0, value)
    assert board.totals.unreadable == 4 * len(topics.OUTPUT_TOPICS)
    assert board.totals.windows == 0


def test_refused_records_are_counted_by_reason_and_by_topic() -> None:
    board = Board()
    head = {"topic": "orders", "partition": 1, "offset": 7, "detail": "price_cents -1"}
    for offset in range(3):
        body = msgspec.json.encode(head | {"reason": "out_of_range", "offset": offset})
        board.add(topics.DEAD_LETTERS, 1, body)
    board.add(topics.LATE_EVENTS, 1, msgspec.json.encode(head | {"reason": "late"}))
    shown = page.overview(board)
    assert shown["dead_by_reason"] == {"out_of_range": 3}
    assert shown["late_by_topic"] == {"orders": 1}
    assert shown["refused"][0]["verdict"] == "late"
    assert shown["refused"][1]["offset"] == 2


def test_capacity_is_predicted_for_the_moment_it_was_predicted_for() -> None:
    board = Board()
    board.add(topics.CAPACITY_FORECASTS, 0, capacity(START_MS, 50.0, 40.0))
    board.add(topics.CAPACITY_FORECASTS, 0, capacity(START_MS + MINUTE_MS, 70.0, 55.0))
    shown = page.overview(board)["capacity"]["shop"]
    first = START_MS / 1_000
    assert shown["x"] == [first, first + 60, first + 120]
    assert shown["observed"] == [40.0, 55.0, None]
    assert shown["p50"] == [None, 50.0, 70.0]


def test_search_finds_by_part_of_the_name_best_sellers_first() -> None:
    board = Board()
    for number, name in enumerate(("Lamp-1", "lamp-2", "chair")):
        board.add(topics.DEMAND_WINDOWS, 0, window(name, START_MS, number + 1))
    assert [one["sku"] for one in page.search(board, "LAMP")] == ["lamp-2", "Lamp-1"]


@pytest.mark.parametrize("seed", range(5))
def test_the_ring_holds_what_a_dictionary_would_for_the_cells_it_still_covers(seed: int) -> None:
    print(f"seed {seed}")
    random_ = random.Random(seed)
    clock, plain = Clock(1_000, 16), dict[int, int]()
    grid = Grid(clock, np.int64)
    time_ms = 5_000_000
    for _ in range(400):
        time_ms = max(0, time_ms + random_.randint(-6_000, 8_000))
        column = clock.column(time_ms)
        if column is not None:
            grid.values[0, column] += 1
            plain[time_ms // 1_000] = plain.get(time_ms // 1_000, 0) + 1
        cells = np.arange(clock.newest - 15, clock.newest + 1)
        assert grid.series(0, cells).tolist() == [plain.get(cell, 0) for cell in cells.tolist()]
    assert grid.series(0, np.array([clock.newest + 1, clock.newest - 16])).tolist() == [0, 0]


def test_every_horizon_of_the_contract_can_be_selected() -> None:
    board = Board()
    board.add(topics.DEMAND_WINDOWS, 0, window("a", START_MS, 1))
    for one in HORIZONS_MS:
        assert page.selection(board, None, one)["known"]
