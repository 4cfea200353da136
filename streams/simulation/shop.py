"""The simulated shop: shoppers, shelves, prices and servers of one flash sale.

START HERE for the simulator. It steps through event time in small ticks and is told what flashcast
decided:

    shop = Shop(SaleConfig.ending_at(now_ms), seed=7)
    publish(shop.catalog())
    while not shop.over:
        step = shop.advance(shop.now_ms + 10_000)     # events, stock counts, competitor's prices
        publish(step); shop.apply_restock(...); shop.apply_price(...); shop.apply_capacity(...)
    shop.summary()

The same seed with nothing applied is the sale without decisions: every random draw belongs to its
SKU and tick, so the two differ by the decisions alone.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from streams.records import (
    CapacityForecast,
    CatalogEntry,
    CompetitorPrice,
    PriceAdjustment,
    RestockEvent,
    StockLevel,
)
from streams.settings import SHOP, Service
from streams.simulation.assortment import HOUR_MS, MINUTE_MS, SaleConfig, draw_assortment
from streams.simulation.funnel import (
    ORDER,
    SOLD_OUT_SHARE,
    Events,
    counts,
    materialised,
    price_response,
    rates_per_s,
)
from streams.simulation.servers import Servers
from streams.simulation.truth import SaleSummary, Truth
from streams.simulation.warehouse import Warehouse

STOCK_COUNT_INTERVAL_MS: Final = 5 * MINUTE_MS
SERVERS_HEADROOM: Final = 1.5  # servers at the opening, over what the sale needs on average


@dataclass(frozen=True)
class Step:
    """What the shop publishes for one stretch of event time."""

    events: Events
    stock_levels: list[StockLevel]
    competitor_prices: list[CompetitorPrice]


class Shop:
    """One sale of one seed. Pure: time moves only by `advance`."""

    def __init__(
        self,
        config: SaleConfig,
        seed: int,
        service: Service = SHOP,
        stock_count_delay_ms: int = 2 * MINUTE_MS,
    ) -> None:
        """`stock_count_delay_ms`: a periodic count is of that long ago, so that every restock
        decided before it has reached the shop and is counted as on order.
        """
        self.config = config
        self.seed = seed
        self.assortment = draw_assortment(config, seed)
        self.price_cents = self.assortment.list_price_cents.copy()
        self.warehouse = Warehouse(
            self.assortment.names, config.stock_units, config.sale_start_ms, config.tick_ms,
            config.ticks,
        )  # fmt: skip
        self.servers = Servers(service, self._replicas_at_opening(service))
        self.truth = Truth(config)
        self._index = {name: index for index, name in enumerate(self.assortment.names)}
        self._stock_count_delay_ms = stock_count_delay_ms
        self._counted_as_of = np.full(config.skus, -1, dtype=np.int64)
        self._price_moves: list[tuple[int, int, int, int]] = []  # effective, origin, SKU, cents
        self._tick = 0
        self._serial = 0
        self._restocks = 0
        self._price_changes = 0

    @property
    def now_ms(self) -> int:
        return self.config.sale_start_ms + self._tick * self.config.tick_ms

    @property
    def over(self) -> bool:
        return self._tick >= self.config.ticks

    def catalog(self) -> list[CatalogEntry]:
        """The catalog's records, to be published before the sale."""
        return self.assortment.catalog()

    def advance(self, to_ms: int) -> Step:
        """Live through every whole tick that ends by `to_ms`, at most to the end of the sale."""
        parts: list[Events] = []
        stock: list[StockLevel] = []
        rival: list[CompetitorPrice] = []
        while not self.over and self.now_ms + self.config.tick_ms <= to_ms:
            started = self.now_ms - self.config.sale_start_ms
            stock += self._stock_counts()
            if started % MINUTE_MS == 0:
                minute = started // MINUTE_MS
                rival += self.assortment.competitor_moves(minute, minute + 1)
            parts.append(self._live_tick())
        return Step(Events.joined(parts), stock, rival)

    def apply_restock(self, record: RestockEvent, now_ms: int) -> bool:
        """Order the units; they arrive a lead time after the decision's origin, but not in the
        past. False when the record was seen before or names no SKU of the sale.
        """
        sku = self._index.get(record.sku)
        if sku is None:
            return False
        lead_time_ms = int(self.assortment.lead_time_ms[sku])
        arrives_ms = max(record.origin_ms + lead_time_ms, now_ms, self.now_ms)
        taken = self.warehouse.order(sku, record.order_quantity, record.origin_ms, arrives_ms)
        self._restocks += taken
        return taken

    def apply_price(self, record: PriceAdjustment, now_ms: int) -> bool:
        """Show the new price from its effective time, or from now if that is past. False as for
        `apply_restock`.
        """
        sku = self._index.get(record.sku)
        if sku is None:
            return False
        effective_ms = max(record.effective_at_ms, now_ms, self.now_ms)
        self._price_moves.append((effective_ms, record.origin_ms, sku, record.new_price_cents))
        return True

    def apply_capacity(self, record: CapacityForecast, now_ms: int) -> bool:
        """Scale the servers to the 90 % level, as an autoscaler would. False for another
        service.
        """
        if record.service != self.servers.service.name:
            return False
        self.servers.ask(record.desired_replicas.p90, max(now_ms, self.now_ms))
        return True

    def set_prices(self, skus: Iterable[int], cents: Iterable[int]) -> None:
        """New prices at once, for scripted sales (training data)."""
        for sku, price in zip(skus, cents, strict=True):
            self.price_cents[sku] = price

    def summary(self) -> SaleSummary:
        """How the sale went so far."""
        return self.truth.summary(
            self.assortment, self.warehouse, self.servers, self._restocks, self._price_changes
        )

    def _live_tick(self) -> Events:
        """One tick: shoppers come, some find no server, orders meet the shelf."""
        tick, now_ms = self._tick, self.now_ms
        seconds = self.config.tick_ms / 1000.0
        self._move_prices(now_ms)
        minute = (now_ms - self.config.sale_start_ms) // MINUTE_MS
        rival_cents = self.assortment.competitor_cents[:, minute]
        response = price_response(self.assortment, self.price_cents, rival_cents)
        means = rates_per_s(self.assortment, now_ms, response) * seconds
        empty = self.warehouse.on_hand == 0
        means[empty] *= SOLD_OUT_SHARE
        numbers = counts(self.seed, tick, means)
        events, luck = materialised(
            self.assortment, self.seed, tick, numbers, self.price_cents, self._serial
        )
        self._serial += len(events)
        wanted = (int(numbers[:, 0].sum()), int(numbers[:, 1].sum()), int(numbers[:, 2].sum()))
        lost = self.servers.share_lost(wanted, now_ms, self.config.tick_ms)
        served = luck >= lost
        got = np.where(served, events.quantity, 0)
        buying = np.flatnonzero((events.kind == ORDER) & served)
        got[buying] = self.warehouse.sell(events.sku[buying], events.quantity[buying])
        self.truth.record(tick, events, served, got, self.price_cents, ~empty, rival_cents)
        self.warehouse.end_tick()
        self._tick += 1
        seen = np.flatnonzero(got > 0)
        happened = events.selected(seen)
        happened.quantity[:] = got[seen]
        return happened

    def _move_prices(self, now_ms: int) -> None:
        due = sorted(move for move in self._price_moves if move[0] <= now_ms)
        if not due:
            return
        self._price_moves = [move for move in self._price_moves if move[0] > now_ms]
        for _, _, sku, cents in due:
            self._price_changes += int(self.price_cents[sku] != cents)
            self.price_cents[sku] = cents

    def _stock_counts(self) -> list[StockLevel]:
        """Counts due now: of what has just arrived, and of everything every five minutes."""
        now_ms, start_ms = self.now_ms, self.config.sale_start_ms
        levels = []
        if arrived := self.warehouse.receive(now_ms):
            self._counted_as_of[arrived] = now_ms
            levels = self.warehouse.count(arrived, now_ms)
        if (now_ms - start_ms) % STOCK_COUNT_INTERVAL_MS == 0:
            delay_ms = self._stock_count_delay_ms
            delay_ms -= delay_ms % self.config.tick_ms
            as_of_ms = max(start_ms, now_ms - delay_ms)
            due = np.flatnonzero(self._counted_as_of < as_of_ms)
            self._counted_as_of[due] = as_of_ms
            levels += self.warehouse.count([int(sku) for sku in due], as_of_ms)
        return levels

    def _replicas_at_opening(self, service: Service) -> int:
        """Enough servers for the average of the sale with some headroom; not for its peaks."""
        config = self.config
        orders_per_s = (
            config.skus * config.units_per_sku_hour / config.units_per_order / (HOUR_MS / 1000)
        )
        requests_per_s = orders_per_s * (
            config.clicks_per_order * service.requests_per_click
            + config.carts_per_order * service.requests_per_cart
            + service.requests_per_order
        )
        return math.ceil(SERVERS_HEADROOM * requests_per_s / service.rps_per_replica)
