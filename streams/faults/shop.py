"""What the shop says of its products in a run: catalog, stock levels, competitors' prices.

Drawn from a stream of its own, so that a seed whose run has none of it goes as it always went. The
catalog is there before the first worker is; what the forecaster sees of it (list price, start and
end of the sale) does not change from then on, so that only the order of the event logs decides what
is forecast. Stock levels, competitors' prices, costs, bounds and lead times change during the sale,
but not under `at_least_once`, where a repeat may then decide otherwise, nor where buckets are so
short that a count may lie behind what is remembered of them. Where SKUs are forgotten, products are
withdrawn, too: no log says when, so that of their forecasts only the names are judged.
"""

import json
import random
from dataclasses import dataclass
from typing import Any, Final

from streams.faults.broker import EPOCH_MS
from streams.placement import Placement
from streams.settings import Settings
from streams.topics import CATALOG, COMPETITOR_PRICES, REFERENCE_TOPICS, STOCK_LEVELS

FORECASTING_SHARE: Final = 0.25
STANDBY_SHARE: Final = 0.4
STRETCHES: Final = (1, 4, 15)  # milliseconds of event time in one of the run
CHANGES_MAX: Final = 6  # of a partition during the run
KEPT_MS: Final = 86_400_000  # of event time: no SKU is forgotten


@dataclass(frozen=True, slots=True)
class Told:
    """One record. `fields` None: it withdraws what was said (`value` None), or is refused, as
    `reason` says.
    """

    at_s: float
    topic: str
    partition: int
    key: bytes
    value: bytes | None
    fields: dict[str, Any] | None
    reason: str | None


@dataclass(frozen=True)
class Extras:
    """What a seed has beside events. `settings` are those that differ for it."""

    forecasting: bool
    standby_replicas: int
    stretch: int
    changes: bool
    settings: dict[str, Any]


def extras_of(seed: int, hosts: int, exact: bool) -> Extras:
    """Drawn for a seed whose run has so many hosts."""
    rng = random.Random(f"scope:{seed}")
    forecasting = rng.random() < FORECASTING_SHARE
    standby = rng.random() < STANDBY_SHARE and hosts > 1 and exact
    replicas = {"standby_replicas": int(standby)}
    if not forecasting:
        return Extras(False, int(standby), 1, False, replicas)
    stretch = rng.choice(STRETCHES)
    short = rng.random() < 0.2
    bucket_ms = (50 if short else rng.choice((200, 200, 500))) * stretch
    interval_ms = bucket_ms * rng.choice((1, 2, 3))
    settings = {
        "bucket_ms": bucket_ms,
        "forecasting": True,
        "deciding": True,
        "device": "cpu",
        "forecast_interval_ms": interval_ms,
        "review_period_ms": rng.choice((1, 3)) * interval_ms,
        "price_cooldown_ms": rng.choice((0, 2 * interval_ms)),
        "price_changes_per_hour_max": rng.choice((3, 8)),
        "sku_retention_ms": rng.choice((KEPT_MS, KEPT_MS, KEPT_MS, 2_000 * stretch)),
    }
    return Extras(True, int(standby), stretch, exact and not short, replicas | settings)


def told_of(
    seed: int, settings: Settings, partitions: int, skus: list[str], span_s: float, extras: Extras
) -> list[Told]:
    """All that the shop says, in order; what is `at_s` 0 it says before any worker lives."""
    return _Shop(seed, settings, partitions, span_s, extras).told(skus)


class _Shop:
    def __init__(
        self, seed: int, settings: Settings, partitions: int, span_s: float, extras: Extras
    ) -> None:
        self._rng = random.Random(f"shop:{seed}")
        self._placement = Placement(settings.partitioner, partitions)
        self._partitions = partitions
        self._changes = extras.changes
        self._forgets = settings.sku_retention_ms < KEPT_MS
        self._span_s = span_s
        self._stretch = extras.stretch
        self._catalog: dict[str, dict[str, Any]] = {}

    def told(self, skus: list[str]) -> list[Told]:
        rng = self._rng
        found: list[Told] = []
        for sku in skus:
            entries = [self._new_entry(sku) for _ in range(rng.choice((0, 1, 1, 1, 2)))]
            counts = [self._stock(sku, 0.0) for _ in range(rng.choice((0, 1, 1, 2)))]
            rivals = [self._competitor(sku, 0.0) for _ in range(rng.choice((0, 1)))]
            found += [self._said(0.0, CATALOG, one) for one in entries]
            found += [self._said(0.0, STOCK_LEVELS, one) for one in counts]
            found += [self._said(0.0, COMPETITOR_PRICES, one) for one in rivals]
        for _ in range(rng.randint(0, CHANGES_MAX * self._partitions) if self._changes else 0):
            found.append(self._change(rng.choice(skus), found))
        return sorted(found, key=lambda one: one.at_s)

    def _change(self, sku: str, before: list[Told]) -> Told:
        rng = self._rng
        at_s = rng.uniform(0.2, self._span_s)
        kind = rng.choice((CATALOG, STOCK_LEVELS, STOCK_LEVELS, COMPETITOR_PRICES, *_OTHERWISE))
        key, partition = sku.encode(), self._placement.of(sku.encode())
        if kind == "bad":
            topic = rng.choice((CATALOG, STOCK_LEVELS))
            return Told(at_s, topic, partition, key, b'{"sku":', None, "not_json")
        if kind == "withdrawn":
            topic = rng.choice(REFERENCE_TOPICS if self._forgets else REFERENCE_TOPICS[1:])
            return Told(at_s, topic, partition, key, None, None, None)
        if kind == "again" and before:
            one = rng.choice(before)
            if one.topic != CATALOG:  # an old entry might bring back an old list price
                return Told(at_s, *_without_time(one))
        if kind == CATALOG and sku in self._catalog:
            entry = self._catalog[sku]
            changed = {name: rng.randint(*_BOUNDS[name]) for name in _BOUNDS}
            changed["lead_time_ms"] = self._lead_ms()
            return self._said(at_s, CATALOG, entry | changed)
        if kind == COMPETITOR_PRICES:
            return self._said(at_s, kind, self._competitor(sku, at_s))
        return self._said(at_s, STOCK_LEVELS, self._stock(sku, at_s))

    def _said(self, at_s: float, topic: str, fields: dict[str, Any]) -> Told:
        key = fields["sku"].encode()
        value = json.dumps(fields).encode()
        return Told(at_s, topic, self._placement.of(key), key, value, fields, None)

    def _new_entry(self, sku: str) -> dict[str, Any]:
        rng = self._rng
        numbers = {name: rng.randint(*bounds) for name, bounds in _BOUNDS.items()}
        entry = {
            "sku": sku,
            "title": sku,
            "category": rng.choice(("shoes", "bags")),
            "list_price_cents": rng.randint(300, 700),
            "lead_time_ms": self._lead_ms(),
            "sale_start_ms": self._event_ms(rng.choice((-60.0, -60.0, 1.0))),
            "sale_end_ms": self._event_ms(rng.choice((3.0, 60.0, 600.0))),
        }
        self._catalog[sku] = entry | numbers
        return self._catalog[sku]

    def _stock(self, sku: str, at_s: float) -> dict[str, Any]:
        rng = self._rng
        counted_s = at_s - rng.choice((0.0, 0.3, 1.0, 3.0))
        return {
            "sku": sku,
            "on_hand": rng.choice((0, 5, 40, 200, 2_000)),
            "on_order": rng.choice((0, 0, 30)),
            "as_of_ms": self._event_ms(counted_s),
        }

    def _competitor(self, sku: str, at_s: float) -> dict[str, Any]:
        price_cents = self._rng.randint(250, 800)
        as_of_ms = self._event_ms(at_s - self._rng.choice((0.0, 1.0)))
        return {"sku": sku, "competitor": "c", "price_cents": price_cents, "as_of_ms": as_of_ms}

    def _lead_ms(self) -> int:
        return int(self._rng.choice((200, 1_000, 5_000, 100_000)) * self._stretch)

    def _event_ms(self, at_s: float) -> int:
        return EPOCH_MS + int(at_s * 1_000 * self._stretch)


_OTHERWISE: Final = ("again", "withdrawn", "bad")
_BOUNDS: Final = {
    "unit_cost_cents": (100, 290),
    "price_floor_cents": (100, 300),
    "price_ceiling_cents": (600, 1_000),
}


def _without_time(
    one: Told,
) -> tuple[str, int, bytes, bytes | None, dict[str, Any] | None, str | None]:
    return one.topic, one.partition, one.key, one.value, one.fields, one.reason
