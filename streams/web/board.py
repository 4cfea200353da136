"""What the live page shows, gathered from the output topics record by record, in bounded memory.

Pure: records in, `page.py` reads the state out. Every record counts in the totals; detail is kept
for the first `skus_max` SKUs, and charts for the last `cells` cells of event time. Repeats (at
least once delivery) are recognised for SKUs with detail: a SKU's buckets come in order.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import msgspec
import numpy as np

from streams import topics
from streams.codec import published
from streams.errors import UNREADABLE
from streams.records import (
    HORIZONS_MS,
    CapacityForecast,
    DemandWindow,
    HorizonForecast,
    PriceAdjustment,
    RestockEvent,
)
from streams.web.grid import Clock, Grid

ALL: Final = 0  # the row of all SKUs together
UNITS, CLICKS, PRICE, COMPETITOR = range(4)
MEAN, LOW, MEDIAN, HIGH = range(4)
SUM_MEAN, SUM_VARIANCE, SUM_COUNT = range(3)
Z_95: Final = 1.6448536269514722  # standard normal quantile of 0.95
MOVES_MAX: Final = 200
MOVES_PER_SKU_MAX: Final = 60
CAPACITY_MAX: Final = 720
SERVICES_MAX: Final = 20
REASONS_MAX: Final = 40
BEHIND_CELLS_MAX: Final = 2  # a partition with nothing to sell holds the charts back no further


class RefusedHead(msgspec.Struct, frozen=True):
    """The part of a late event or dead letter that the page shows."""

    topic: str
    partition: int
    offset: int
    reason: str
    detail: str


# Built here, once: msgspec 0.22 crashes where threads are the first to use a type at the same time.
_REFUSED_HEAD: Final = msgspec.json.Decoder(RefusedHead)


@dataclass(slots=True)
class SkuState:
    """Everything kept of one SKU beside its row in the grids."""

    row: int
    units: int = 0
    orders: int = 0
    clicks: int = 0
    revenue_cents: int = 0
    price_cents: int = 0
    competitor_price_cents: int = 0
    in_stock_share: float = 1.0
    last_bucket_ms: int = -1
    ordered_units: int = 0
    fallback: str | None = None
    to_the_end: tuple[int, HorizonForecast] | None = None  # (origin, forecast) of the sale's end
    restocks: deque[RestockEvent] = field(default_factory=lambda: deque(maxlen=MOVES_PER_SKU_MAX))
    prices: deque[PriceAdjustment] = field(default_factory=lambda: deque(maxlen=MOVES_PER_SKU_MAX))


@dataclass(slots=True)
class Totals:
    """Counts over everything read, all SKUs."""

    clicks: int = 0
    carts: int = 0
    orders: int = 0
    units: int = 0
    revenue_cents: int = 0
    windows: int = 0
    forecasts: int = 0
    fallbacks: int = 0
    restocks: int = 0
    restock_units: int = 0
    price_changes: int = 0
    capacity_forecasts: int = 0
    late: int = 0
    dead_letters: int = 0
    repeats: int = 0
    unreadable: int = 0
    without_detail: int = 0  # records of SKUs beyond `skus_max`


class Board:
    """The state behind the page."""

    def __init__(self, cell_ms: int = 60_000, cells: int = 480, skus_max: int = 1_000) -> None:
        self.clock = Clock(cell_ms, cells)
        self.skus_max = skus_max
        self.skus: dict[str, SkuState] = {}
        self.totals = Totals()
        self.sales = Grid(self.clock, np.int64, (4,))
        self.forecasts = Grid(self.clock, np.float32, (len(HORIZONS_MS), 4), blank=np.nan)
        self.sums = Grid(self.clock, np.float64, (len(HORIZONS_MS), 3))
        self.restocks: deque[RestockEvent] = deque(maxlen=MOVES_MAX)
        self.prices: deque[PriceAdjustment] = deque(maxlen=MOVES_MAX)
        self.capacity: dict[str, deque[CapacityForecast]] = {}
        self.refused: deque[tuple[str, RefusedHead]] = deque(maxlen=MOVES_MAX)
        self.late_by_topic: dict[str, int] = {}
        self.dead_by_reason: dict[str, int] = {}
        self.version = 0  # moves with every record: what was built from it can be kept till then
        self._through_ms: dict[int, int] = {}
        self._readers: dict[str, Callable[[bytes, int], None]] = {
            topics.DEMAND_WINDOWS: self._window,
            topics.DEMAND_FORECASTS: self._forecast,
            topics.RESTOCK_EVENTS: self._restock,
            topics.PRICE_ADJUSTMENTS: self._price,
            topics.CAPACITY_FORECASTS: self._capacity,
            topics.LATE_EVENTS: self._late,
            topics.DEAD_LETTERS: self._dead_letter,
        }

    def add(self, topic: str, partition: int, value: bytes) -> None:
        """Take in one record of an output topic (logical name); count one that cannot be read."""
        self.version += 1
        try:
            self._readers[topic](value, partition)
        except (*UNREADABLE, OverflowError):  # the last: a number that no chart holds
            self.totals.unreadable += 1

    def front_ms(self) -> int | None:
        """The end of the newest closed bucket seen."""
        return max(self._through_ms.values(), default=None)

    def through_ms(self) -> int | None:
        """Up to here every partition has been heard: sums before it are whole."""
        front = self.front_ms()
        if front is None:
            return None
        behind = front - BEHIND_CELLS_MAX * self.clock.cell_ms
        return max(min(self._through_ms.values()), behind)

    def _sku(self, sku: str) -> SkuState | None:
        state = self.skus.get(sku)
        if state is None and len(self.skus) < self.skus_max:
            row = len(self.skus) + 1
            state = self.skus[sku] = SkuState(row)
            self.sales.grow(row + 1)
            self.forecasts.grow(row + 1)
        if state is None:
            self.totals.without_detail += 1
        return state

    def _window(self, value: bytes, partition: int) -> None:
        window = published.WINDOW.decode(value)
        state = self._sku(window.sku)
        if state is not None:
            if window.bucket_start_ms <= state.last_bucket_ms:
                self.totals.repeats += 1
                return
            self._window_of(state, window)
        totals = self.totals
        totals.windows += 1
        totals.clicks += window.clicks
        totals.carts += window.carts
        totals.orders += window.orders
        totals.units += window.units
        totals.revenue_cents += window.revenue_cents
        end_ms = window.bucket_start_ms + window.bucket_ms
        self._through_ms[partition] = max(self._through_ms.get(partition, 0), end_ms)
        column = self.clock.column(window.bucket_start_ms)
        if column is None:
            return
        rows = (ALL,) if state is None else (ALL, state.row)
        for row in rows:
            self.sales.values[row, column, UNITS] += window.units
            self.sales.values[row, column, CLICKS] += window.clicks
        if state is not None:
            self.sales.values[state.row, column, PRICE] = window.price_cents
            self.sales.values[state.row, column, COMPETITOR] = window.competitor_price_cents

    def _window_of(self, state: SkuState, window: DemandWindow) -> None:
        state.last_bucket_ms = window.bucket_start_ms
        state.units += window.units
        state.orders += window.orders
        state.clicks += window.clicks
        state.revenue_cents += window.revenue_cents
        state.price_cents = window.price_cents
        state.competitor_price_cents = window.competitor_price_cents
        state.in_stock_share = window.in_stock_ms / max(window.bucket_ms, 1)

    def _forecast(self, value: bytes, _: int) -> None:
        forecast = published.FORECAST.decode(value)
        self.totals.forecasts += 1
        self.totals.fallbacks += forecast.fallback is not None
        state = self._sku(forecast.sku)
        column = self.clock.column(forecast.origin_ms)
        if state is not None:
            state.fallback = forecast.fallback
            if forecast.horizons:
                state.to_the_end = (forecast.origin_ms, forecast.horizons[-1])
        if column is None:
            return
        for one in forecast.horizons[: len(HORIZONS_MS)]:
            if one.horizon_ms in HORIZONS_MS:  # one cut short by the sale's end is not compared
                self._horizon(state, column, HORIZONS_MS.index(one.horizon_ms), one)

    def _horizon(self, state: SkuState | None, column: int, at: int, one: HorizonForecast) -> None:
        total = self.sums.values[ALL, column, at]
        total += (one.mean, _variance(one.p05, one.p95), 1)
        if state is None:
            return
        known = self.forecasts.values[state.row, column, at]
        if known[MEAN] == known[MEAN]:  # a repeat, or a second origin in this cell: replaced
            total -= (known[MEAN], _variance(float(known[LOW]), float(known[HIGH])), 1)
        known[:] = (one.mean, one.p05, one.p50, one.p95)

    def _restock(self, value: bytes, _: int) -> None:
        restock = published.RESTOCK.decode(value)
        state = self._sku(restock.sku)
        if state is not None:
            if any(one.origin_ms == restock.origin_ms for one in state.restocks):
                self.totals.repeats += 1
                return
            state.restocks.append(restock)
            state.ordered_units += restock.order_quantity
        self.totals.restocks += 1
        self.totals.restock_units += restock.order_quantity
        self.restocks.append(restock)

    def _price(self, value: bytes, _: int) -> None:
        price = published.PRICE.decode(value)
        state = self._sku(price.sku)
        if state is not None:
            if any(one.origin_ms == price.origin_ms for one in state.prices):
                self.totals.repeats += 1
                return
            state.prices.append(price)
        self.totals.price_changes += 1
        self.prices.append(price)

    def _capacity(self, value: bytes, _: int) -> None:
        forecast = published.CAPACITY.decode(value)
        held = self.capacity.get(forecast.service)
        if held is None:
            if len(self.capacity) >= SERVICES_MAX:
                self.totals.without_detail += 1
                return
            held = self.capacity[forecast.service] = deque(maxlen=CAPACITY_MAX)
        if held and held[-1].as_of_ms == forecast.as_of_ms:
            held.pop()
            self.totals.repeats += 1
        else:
            self.totals.capacity_forecasts += 1
        held.append(forecast)

    def _late(self, value: bytes, _: int) -> None:
        refused = _REFUSED_HEAD.decode(value)
        self.totals.late += 1
        self.refused.append(("late", refused))
        _count(self.late_by_topic, refused.topic)

    def _dead_letter(self, value: bytes, _: int) -> None:
        refused = _REFUSED_HEAD.decode(value)
        self.totals.dead_letters += 1
        self.refused.append(("dead letter", refused))
        _count(self.dead_by_reason, refused.reason)


def _variance(low: float, high: float) -> float:
    """Units squared: of a normal distribution with these 5 % and 95 % quantiles."""
    return ((high - low) / (2 * Z_95)) ** 2


def _count(counts: dict[str, int], name: str) -> None:
    known = name if name in counts or len(counts) < REASONS_MAX else "other"
    counts[known] = counts.get(known, 0) + 1
