"""The shop's shelf: units on hand, on order, and the history that a stock count needs."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streams.records import StockLevel

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Shipment:
    """One restock on its way."""

    sku: int
    quantity: int
    origin_ms: int
    arrives_ms: int


class Warehouse:
    """Stock of n SKUs over a sale of `ticks` ticks."""

    def __init__(self, names: list[str], stock_units: int, start_ms: int, tick_ms: int, ticks: int):
        self._names = names
        self._start_ms = start_ms
        self._tick_ms = tick_ms
        self.on_hand: Integers = np.full(len(names), stock_units, dtype=np.int64)
        self.initial_units = stock_units * len(names)
        self.arrived_units = 0
        self._shipments: list[Shipment] = []  # every one, also those that have arrived
        self._pending: list[Shipment] = []
        self._known: set[tuple[int, int]] = set()
        # on_hand_after[:, t] is the stock after tick t - 1, so that [:, 0] is the opening stock
        self._on_hand_after: Integers = np.zeros((len(names), ticks + 1), dtype=np.int64)
        self._on_hand_after[:, 0] = stock_units
        self._ticks_done = 0

    def order(self, sku: int, quantity: int, origin_ms: int, arrives_ms: int) -> bool:
        """Take a restock order; False when this one (SKU, origin) was taken before."""
        if (sku, origin_ms) in self._known:
            return False
        self._known.add((sku, origin_ms))
        ticks = -(
            -(arrives_ms - self._start_ms) // self._tick_ms
        )  # it is unpacked at a tick's start
        shipment = Shipment(sku, quantity, origin_ms, self._start_ms + ticks * self._tick_ms)
        self._shipments.append(shipment)
        self._pending.append(shipment)
        return True

    def receive(self, now_ms: int) -> list[int]:
        """Put what has arrived by `now_ms` on the shelf; the SKUs that got something."""
        arrived = [one for one in self._pending if one.arrives_ms <= now_ms]
        if not arrived:
            return []
        self._pending = [one for one in self._pending if one.arrives_ms > now_ms]
        for one in arrived:
            self.on_hand[one.sku] += one.quantity
            self.arrived_units += one.quantity
        self._on_hand_after[:, self._ticks_done] = self.on_hand
        return sorted({one.sku for one in arrived})

    def sell(self, sku: Integers, quantity: Integers) -> Integers:
        """What each of these orders gets, in their sequence: all of it, the rest of the shelf, or
        nothing.
        """
        by_sku = np.argsort(sku, kind="stable")
        ordered_sku, ordered_quantity = sku[by_sku], quantity[by_sku]
        before = np.cumsum(ordered_quantity) - ordered_quantity
        first = np.searchsorted(ordered_sku, ordered_sku, side="left")
        before -= before[first] if len(first) else 0
        got_ordered = np.clip(self.on_hand[ordered_sku] - before, 0, ordered_quantity)
        got = np.empty_like(got_ordered)
        got[by_sku] = got_ordered
        self.on_hand -= np.bincount(sku, weights=got, minlength=len(self.on_hand)).astype(np.int64)
        return got

    def end_tick(self) -> None:
        """Remember the stock after this tick."""
        self._ticks_done += 1
        self._on_hand_after[:, self._ticks_done] = self.on_hand

    def on_order_units(self) -> int:
        return sum(one.quantity for one in self._pending)

    def count(self, skus: list[int], as_of_ms: int) -> list[StockLevel]:
        """Stock levels as they were at `as_of_ms`, a tick's boundary: on order is every restock
        whose origin was no later and which had not arrived then.
        """
        tick = (as_of_ms - self._start_ms) // self._tick_ms
        wanted = set(skus)
        on_order: dict[int, int] = {}
        for one in self._shipments:
            if one.sku in wanted and one.origin_ms <= as_of_ms < one.arrives_ms:
                on_order[one.sku] = on_order.get(one.sku, 0) + one.quantity
        return [
            StockLevel(
                sku=self._names[sku],
                on_hand=int(self._on_hand_after[sku, tick]),
                on_order=on_order.get(sku, 0),
                as_of_ms=as_of_ms,
            )
            for sku in skus
        ]
