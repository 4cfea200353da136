"""What really happened in a simulated sale, sold or not: the yardstick for every decision."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streams.simulation.assortment import Assortment, SaleConfig
from streams.simulation.funnel import CART, CLICK, ORDER, Events
from streams.simulation.servers import Servers
from streams.simulation.warehouse import Warehouse

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class SaleSummary:
    """A sale in numbers. Margin is revenue less the cost of what was sold."""

    events: int
    orders: int
    units_demanded: int
    units_sold: int
    units_lost_to_stock: int
    units_lost_to_capacity: int
    units_left: int
    units_restocked: int
    units_on_order: int
    restocks: int
    price_changes: int
    sell_through: float
    fill_rate: float
    revenue_cents: int
    margin_cents: int
    leftover_cost_cents: int
    requests_lost_share: float
    replica_hours: float


class Truth:
    """Counts per SKU and tick, arrays [n, ticks]; ticks not yet lived are zero."""

    def __init__(self, config: SaleConfig) -> None:
        shape = (config.skus, config.ticks)
        self._config = config
        self.ticks_done = 0
        self.clicks = np.zeros(shape, dtype=np.int32)
        self.carts = np.zeros(shape, dtype=np.int32)
        self.orders = np.zeros(shape, dtype=np.int32)
        self.units = np.zeros(shape, dtype=np.int32)  # sold
        self.demand = np.zeros(shape, dtype=np.int32)  # units wanted, whether sold or not
        self.unserved = np.zeros(shape, dtype=np.int32)  # units lost because no server answered
        self.price_cents = np.zeros(shape, dtype=np.int32)
        self.competitor_cents = np.zeros(shape, dtype=np.int32)
        self.in_stock = np.zeros(shape, dtype=np.bool_)
        self._summed = np.zeros((config.skus, config.ticks + 1), dtype=np.int64)
        self._summed_ticks = 0

    def record(
        self,
        tick: int,
        events: Events,
        served: NDArray[np.bool_],
        got: Integers,
        price_cents: Integers,
        in_stock: NDArray[np.bool_],
        competitor_cents: Integers,
    ) -> None:
        """Add one tick: `events` that shoppers wanted, which were `served`, units they `got`."""
        skus = self._config.skus

        def summed(chosen: NDArray[np.bool_], weights: Integers | None = None) -> Integers:
            weighed = None if weights is None else weights[chosen]
            return np.bincount(events.sku[chosen], weights=weighed, minlength=skus).astype(np.int64)

        ordered = events.kind == ORDER
        self.clicks[:, tick] = summed((events.kind == CLICK) & served)
        self.carts[:, tick] = summed((events.kind == CART) & served)
        self.orders[:, tick] = summed(ordered & (got > 0))
        self.units[:, tick] = summed(ordered, got)
        self.demand[:, tick] = summed(ordered, events.quantity)
        self.unserved[:, tick] = summed(ordered & ~served, events.quantity)
        self.price_cents[:, tick] = price_cents
        self.competitor_cents[:, tick] = competitor_cents
        self.in_stock[:, tick] = in_stock
        self.ticks_done = tick + 1

    def demand_between(self, skus: Integers, from_ms: Integers, to_ms: Integers) -> Integers:
        """Units wanted of `skus` [k] in [from_ms, to_ms) [k], in whole ticks, within the sale."""
        config = self._config
        if self._summed_ticks != self.ticks_done:
            np.cumsum(self.demand, axis=1, out=self._summed[:, 1:])
            self._summed_ticks = self.ticks_done
        first = np.clip((from_ms - config.sale_start_ms) // config.tick_ms, 0, config.ticks)
        last = np.clip((to_ms - config.sale_start_ms) // config.tick_ms, 0, config.ticks)
        between: Integers = self._summed[skus, last] - self._summed[skus, np.minimum(first, last)]
        return between

    def summary(
        self,
        assortment: Assortment,
        warehouse: Warehouse,
        servers: Servers,
        restocks: int,
        price_changes: int,
    ) -> SaleSummary:
        """The sale in numbers so far."""
        sold = self.units.sum(axis=1).astype(np.int64)
        revenue = int((self.units.astype(np.int64) * self.price_cents).sum())
        demanded, unserved = int(self.demand.sum()), int(self.unserved.sum())
        stocked = warehouse.initial_units + warehouse.arrived_units
        return SaleSummary(
            events=int(self.clicks.sum()) + int(self.carts.sum()) + int(self.orders.sum()),
            orders=int(self.orders.sum()),
            units_demanded=demanded,
            units_sold=int(sold.sum()),
            units_lost_to_stock=demanded - unserved - int(sold.sum()),
            units_lost_to_capacity=unserved,
            units_left=int(warehouse.on_hand.sum()),
            units_restocked=warehouse.arrived_units,
            units_on_order=warehouse.on_order_units(),
            restocks=restocks,
            price_changes=price_changes,
            sell_through=int(sold.sum()) / stocked,
            fill_rate=int(sold.sum()) / max(demanded, 1),
            revenue_cents=revenue,
            margin_cents=revenue - int((sold * assortment.unit_cost_cents).sum()),
            leftover_cost_cents=int((warehouse.on_hand * assortment.unit_cost_cents).sum()),
            requests_lost_share=servers.requests_lost / max(servers.requests, 1.0),
            replica_hours=servers.replica_ms / 3_600_000,
        )
