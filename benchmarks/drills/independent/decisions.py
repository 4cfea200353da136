"""Forecasts and decisions of one partition number: is each there, once, and explained by the rest?

`lost`: a decision that must exist and is not among the committed records. How that is known:
- every SKU with a window must have a forecast at its next origin, once the marker has closed the
  buckets before it: the buckets' ends of a forecast interval are numbered from the epoch on, and a
  SKU's is the one whose number is the CRC-32 of its name, modulo the buckets of an interval;
- the marker counts the forecasts, restocks and price changes ever made; those found under distinct
  ids must not be fewer.

`changed`: an id that was found again with other contents, whichever guarantee holds.
`repeated`: one found again with the same contents, which `at_least_once` allows.

`unexplained`: a decision that does not follow from those before it. A restock must state the
position that stock level, windows and all earlier restocks give; a price change must begin at the
price in force: the last one set, or the one shoppers were shown since. One that was lost, made up
or altered breaks the next of its SKU. Also counted here: a forecast for which no window asks, more
decisions than the marker counts, and an id that two different decisions share.
"""

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

from benchmarks.drills.independent.log import (
    CATALOG,
    FORECASTS,
    PRICES,
    RESTOCKS,
    STOCK_LEVELS,
    Log,
    Record,
    Rules,
)
from benchmarks.drills.independent.windows import Implied, State

COUNTED = {FORECASTS: "forecast", RESTOCKS: "restock", PRICES: "price_change"}
LISTED_MAX = 20

Decision = dict[str, Any]


@dataclass
class Decisions:
    """What was found, over all partitions."""

    found: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTED, 0))
    lost: int = 0
    changed: int = 0
    repeated: int = 0
    unexplained: int = 0
    expired: int = 0  # made too late to be of use: counted by the marker, not published
    listed: list[str] = field(default_factory=list)

    def note(self, what: str) -> None:
        """The first few, in words."""
        if len(self.listed) < LISTED_MAX:
            self.listed.append(what)


@dataclass
class _Sku:
    """Of one SKU: (start of bucket, units, mean price) of its windows in order of time."""

    windows: list[tuple[int, int, int]] = field(default_factory=list)


def check_decisions(
    log: Log, partition: int, implied: Implied, state: State, rules: Rules, into: Decisions
) -> None:
    """Book all that is wrong with one partition's decisions."""
    by_kind = {}
    for topic, counted in COUNTED.items():
        into.expired += state.decisions.get(f"expired_{counted}", 0)
        once = distinct(log.of(topic, partition), f"{topic}/{partition}", into)
        by_kind[topic] = once
        into.found[topic] += len(once)
        difference = int(state.decisions.get(counted, 0)) - len(once)
        if difference:
            into.note(f"{topic}/{partition}: the marker counts {difference:+d} to those found")
        if difference > 0 and topic != FORECASTS:  # forecasts are known one by one, below
            into.lost += difference
        elif difference:
            into.unexplained += abs(difference)
    skus: dict[str, _Sku] = defaultdict(_Sku)
    for (sku, start_ms), window in sorted(implied.windows.items(), key=lambda one: one[0][1]):
        skus[sku].windows.append((start_ms, window.units, window.price_cents()))
    if rules.forecasting:
        _check_forecasts(by_kind[FORECASTS], implied, state, rules, into)
    _check_restocks(by_kind[RESTOCKS], _latest(log, STOCK_LEVELS, partition), skus, rules, into)
    _check_prices(by_kind[PRICES], _latest(log, CATALOG, partition), skus, into)


def distinct(records: Iterable[Record], where: str, into: Decisions) -> list[Decision]:
    """Each id once, the newest contents of it, ordered by origin."""
    by_id: dict[bytes, Record] = {}
    names: dict[tuple[str, int], bytes] = {}
    for record in records:
        ce_id = record.headers.get("ce_id", b"")
        decision = json.loads(record.value or b"{}")
        origin_ms = decision.get("origin_ms", decision.get("as_of_ms"))
        subject = decision.get("sku", decision.get("service"))
        if not ce_id or names.setdefault((subject, origin_ms), ce_id) != ce_id:
            into.unexplained += 1
            into.note(f"{where}@{record.offset}: id {ce_id!r} of {subject} at {origin_ms}")
        before = by_id.get(ce_id)
        if before is not None and before.value == record.value:
            into.repeated += 1
        elif before is not None:
            into.changed += 1
            into.note(f"{where}@{record.offset}: {before.value!r} became {record.value!r}")
        by_id[ce_id] = record
    decisions = [json.loads(record.value or b"{}") for record in by_id.values()]
    return sorted(decisions, key=lambda one: one.get("origin_ms", one.get("as_of_ms", 0)))


def _check_forecasts(
    forecasts: list[Decision], implied: Implied, state: State, rules: Rules, into: Decisions
) -> None:
    due = {(sku, _origin_ms(sku, start_ms, rules)) for sku, start_ms in implied.windows}
    due = {one for one in due if one[1] <= state.closed_through_ms}
    found = {(one["sku"], one["origin_ms"]) for one in forecasts}
    expired = state.decisions.get("expired_forecast", 0)
    into.lost += max(0, len(due - found) - expired)
    into.unexplained += max(0, expired - len(due - found))
    into.unexplained += len(found - due)
    for sku, at_ms in sorted(due - found)[:LISTED_MAX]:
        into.note(f"no forecast of {sku} at {at_ms}")
    for sku, at_ms in sorted(found - due)[:LISTED_MAX]:
        into.note(f"a forecast of {sku} at {at_ms} that no window asks for")


def _origin_ms(sku: str, start_ms: int, rules: Rules) -> int:
    """When a SKU is forecast that was active in the bucket of `start_ms`."""
    slots = rules.forecast_interval_ms // rules.bucket_ms
    end = start_ms // rules.bucket_ms + 1
    return (end + (crc32(sku.encode()) - end) % slots) * rules.bucket_ms


def _check_restocks(
    restocks: list[Decision],
    levels: dict[str, Decision],
    skus: dict[str, _Sku],
    rules: Rules,
    into: Decisions,
) -> None:
    ordered: dict[str, int] = defaultdict(int)  # units of earlier restocks that the shop ignores
    for restock in restocks:
        sku, at_ms, level = restock["sku"], restock["origin_ms"], levels[restock["sku"]]
        as_of_ms = level["as_of_ms"]
        sold = sum(
            units
            for start_ms, units, _ in skus[sku].windows
            if start_ms < at_ms and start_ms + rules.bucket_ms // 2 >= as_of_ms
        )
        position = max(level["on_hand"] - sold, 0) + level["on_order"] + ordered[sku]
        if restock["inventory_position"] != position:
            into.unexplained += 1
            into.note(
                f"restock of {sku} at {at_ms} states position {restock['inventory_position']}, "
                f"stock, sales and earlier restocks give {position}"
            )
        if at_ms > as_of_ms:
            ordered[sku] += restock["order_quantity"]


def _check_prices(
    changes: list[Decision], catalog: dict[str, Decision], skus: dict[str, _Sku], into: Decisions
) -> None:
    last: dict[str, Decision] = {}
    for change in changes:
        sku, at_ms = change["sku"], change["origin_ms"]
        before = last.get(sku)
        in_force = before["new_price_cents"] if before else 0
        set_at_ms = before["origin_ms"] if before else 0
        shown = [one for one in skus[sku].windows if one[0] < at_ms]
        if shown and shown[-1][0] > set_at_ms and shown[-1][2] > 0:
            in_force = shown[-1][2]
        in_force = in_force or catalog[sku]["list_price_cents"]
        if change["old_price_cents"] != in_force:
            into.unexplained += 1
            into.note(
                f"price of {sku} at {at_ms} begins at {change['old_price_cents']}, {in_force} was "
                "in force"
            )
        last[sku] = change


def _latest(log: Log, topic: str, partition: int) -> dict[str, Decision]:
    """The newest entry of each SKU. Only one is known how to follow: a drill publishes no more."""
    entries: dict[str, Decision] = {}
    for record in log.of(topic, partition):
        entry = json.loads(record.value or b"{}")
        if entry and entries.setdefault(entry["sku"], entry) != entry:
            raise ValueError(f"{topic} changes {entry['sku']} meanwhile: not known how to follow")
    return entries
