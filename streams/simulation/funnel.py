"""From intensities to single events: how many clicks, carts and orders a tick sees, and when.

An order follows the click by about a minute, so traffic shows in clicks first.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streams.simulation.assortment import MINUTE_MS, Assortment
from streams.simulation.noise import Draw, Floats, hashed, poisson_quantile, uniform

CLICK, CART, ORDER = 0, 1, 2
LAG_MS: Final = (0, 30_000, 60_000)  # of a cart and an order behind the click
PRICE_SHARE: Final = (0.25, 0.6, 1.0)  # how much of the price effect each step of the funnel shows
SOLD_OUT_SHARE: Final = (0.8, 0.5, 1.0)  # traffic that an empty shelf leaves; demand itself stays
QUANTITY_MAX: Final = 60
SESSION_MS: Final = 600_000
RESPONSE_BOUNDS: Final = (0.05, 6.0)


@dataclass(frozen=True)
class Events:
    """Events as columns, all of length n, ordered by time."""

    kind: NDArray[np.int8]  # index in topics.EVENT_TOPICS
    sku: NDArray[np.int64]  # index in the assortment
    event_time_ms: NDArray[np.int64]
    price_cents: NDArray[np.int64]
    quantity: NDArray[np.int64]  # 1 for clicks
    shopper: NDArray[np.uint64]
    serial: NDArray[np.int64]  # unique within the sale

    def __len__(self) -> int:
        return len(self.kind)

    @classmethod
    def joined(cls, parts: "list[Events]") -> "Events":
        """One after the other; empty for no parts."""
        fields = ("kind", "sku", "event_time_ms", "price_cents", "quantity", "shopper", "serial")
        if not parts:
            return cls(np.zeros(0, np.int8), *(np.zeros(0, np.int64),) * 4,
                       np.zeros(0, np.uint64), np.zeros(0, np.int64))  # fmt: skip
        return cls(*(np.concatenate([getattr(part, field) for part in parts]) for field in fields))

    def selected(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> "Events":
        """The events of a mask or of indexes, in that order."""
        return Events(
            self.kind[chosen], self.sku[chosen], self.event_time_ms[chosen],
            self.price_cents[chosen], self.quantity[chosen], self.shopper[chosen],
            self.serial[chosen],
        )  # fmt: skip


def price_response(
    assortment: Assortment, price_cents: NDArray[np.int64], competitor_cents: NDArray[np.int64]
) -> Floats:
    """Demand at this price over demand at list price, per SKU: log-linear in own and competitor's
    price, within bounds.
    """
    own = np.log(np.maximum(price_cents, 1) / assortment.list_price_cents)
    rival = np.log(competitor_cents / assortment.config.competitor_price_cents)
    effect = np.exp(assortment.elasticity * own + assortment.cross_elasticity * rival)
    return np.clip(effect, *RESPONSE_BOUNDS)


def rates_per_s(assortment: Assortment, at_ms: int, response: Floats) -> Floats:
    """Events a second [n, 3] by kind at `at_ms`, every shelf full."""
    config = assortment.config
    per_order = (assortment.clicks_per_order, assortment.carts_per_order, 1.0)
    columns = []
    for kind in (CLICK, CART, ORDER):
        minute = (at_ms - config.sale_start_ms - LAG_MS[kind]) // MINUTE_MS
        if minute < 0:  # the lag reaches before the opening: nobody has come yet
            columns.append(np.zeros(config.skus))
            continue
        base = assortment.orders_per_s[:, min(minute, config.minutes - 1)]
        columns.append(base * per_order[kind] * response ** PRICE_SHARE[kind])
    return np.stack(columns, axis=1)


def counts(seed: int, tick: int, means: Floats) -> NDArray[np.int64]:
    """How many events of each kind [n, 3]: Poisson with `means`, one draw for one tick."""
    skus = np.arange(len(means))
    draws = [
        uniform(seed, draw, tick, skus)
        for draw in (Draw.CLICK_COUNT, Draw.CART_COUNT, Draw.ORDER_COUNT)
    ]
    return poisson_quantile(np.stack(draws, axis=1), means)


def materialised(
    assortment: Assortment,
    seed: int,
    tick: int,
    numbers: NDArray[np.int64],
    price_cents: NDArray[np.int64],
    first_serial: int,
) -> tuple[Events, Floats]:
    """The single events of one tick, `numbers` [n, 3] of each kind, ordered by time; and each one's
    luck in (0, 1): it is the first to go when few requests can be served and its luck is low.

    Event i of a SKU and kind has its own draws: more events add to the earlier ones and change
    none.
    """
    config = assortment.config
    flat = numbers.ravel()
    cell = np.repeat(np.arange(len(flat)), flat)
    sku, kind = cell // 3, cell % 3
    ordinal = np.arange(len(cell)) - np.repeat(np.cumsum(flat) - flat, flat)
    start_ms = config.sale_start_ms + tick * config.tick_ms
    moment = uniform(seed, Draw.EVENT_TIME, tick, cell, ordinal)
    event_time_ms = start_ms + (moment * config.tick_ms).astype(np.int64)
    quantity = np.ones(len(cell), dtype=np.int64)
    buying = np.flatnonzero(kind != CLICK)
    quantity[buying] = _quantities(
        uniform(seed, Draw.QUANTITY, tick, cell[buying], ordinal[buying]),
        assortment.units_per_order[sku[buying]],
    )
    shopper = hashed(seed, Draw.SHOPPER, start_ms // SESSION_MS, sku)
    pool = np.maximum(numbers[sku, CLICK] * 4, 8).astype(np.uint64)
    shopper = shopper + hashed(seed, Draw.SHOPPER, tick, cell, ordinal) % pool
    order = np.lexsort((ordinal, cell, event_time_ms))
    events = Events(
        kind[order].astype(np.int8), sku[order], event_time_ms[order], price_cents[sku][order],
        quantity[order], shopper[order], first_serial + np.arange(len(cell), dtype=np.int64),
    )  # fmt: skip
    return events, uniform(seed, Draw.REQUEST_LOST, tick, cell, ordinal)[order]


def _quantities(uniforms: Floats, means: Floats) -> NDArray[np.int64]:
    """Geometric quantities from 1 with the given means, cut at QUANTITY_MAX."""
    stay = 1.0 - 1.0 / np.maximum(means, 1.0 + 1e-9)
    drawn = 1 + np.floor(np.log(uniforms) / np.log(stay)).astype(np.int64)
    return np.clip(drawn, 1, QUANTITY_MAX)
