"""The windows, late events and dead letters that the input of one partition number implies, by the
documented order of checks: contract and partition, duplicate, late, apply.

A record is late when its event time lies more than `allowed_lateness_ms` behind the greatest one at
smaller offsets of its topic partition (no event counting for more than its record's timestamp), or
before a cut recorded in the changelog at or below its offset.
"""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.drills.independent.contract import RefusedError, judge
from benchmarks.drills.independent.log import (
    CARTS,
    CHANGELOG,
    CLICKS,
    EVENTS,
    ORDERS,
    Log,
    Record,
    Rules,
)

Place = tuple[str, int, int]  # logical topic, partition, offset
Cell = tuple[str, int]  # SKU, start of the bucket
MARKER_KEY, CUT_PREFIX = b"\x00marker", b"\x00cut|"


@dataclass
class Window:
    """What one cell's record must say."""

    clicks: int = 0
    carts: int = 0
    orders: int = 0
    units: int = 0
    revenue_cents: int = 0
    price_sum: int = 0

    @property
    def events(self) -> int:
        return self.clicks + self.carts + self.orders

    def price_cents(self) -> int:
        """The mean over the events, halves rounded up."""
        return (2 * self.price_sum + self.events) // (2 * self.events)

    def figures(self) -> tuple[int, ...]:
        return (
            self.clicks, self.carts, self.orders, self.units, self.revenue_cents,
            self.price_cents(),
        )  # fmt: skip


@dataclass
class State:
    """What a partition's changelog says of it: the newest marker, and every cut."""

    offsets: dict[str, int] = field(default_factory=dict)
    closed_through_ms: int = 0
    decisions: dict[str, int] = field(default_factory=dict)  # kind -> how many were ever made
    cuts: dict[str, list[tuple[int, int]]] = field(default_factory=dict)  # topic -> (at, through)


@dataclass
class Implied:
    """What follows from the input of one partition number."""

    windows: dict[Cell, Window] = field(default_factory=dict)
    late: dict[Place, Record] = field(default_factory=dict)
    dead: dict[Place, tuple[str, Record]] = field(default_factory=dict)
    outcomes: Counter[str] = field(default_factory=Counter)
    verdicts: dict[Place, str] = field(default_factory=dict)  # accepted, duplicate, late, or reason


def state_of(log: Log, partition: int) -> State:
    """Read out of the changelog."""
    state = State()
    newest: dict[str, Any] | None = None
    cuts: dict[tuple[str, int], int] = {}
    for record in log.of(CHANGELOG, partition):
        if record.key == MARKER_KEY and record.value:
            newest = json.loads(record.value)
        elif record.key and record.key.startswith(CUT_PREFIX) and record.value:
            cut = json.loads(record.value)
            cuts[cut["topic"], cut["position"]] = cut["through_ms"]
    for (topic, position), through_ms in sorted(cuts.items()):
        state.cuts.setdefault(topic, []).append((position, through_ms))
    if newest is not None:
        state.offsets = newest["offsets"]
        state.closed_through_ms = newest["core"]["windows"]["closed_through_ms"]
        state.decisions = newest["core"]["decider"]["counts"]
    return state


def implied(log: Log, partition: int, state: State, rules: Rules) -> Implied:
    """Judge every input record of one partition number."""
    found = Implied()
    for topic in EVENTS:
        records = log.of(topic, partition)
        _judge_all(topic, partition, records, state.cuts.get(topic, []), rules, found)
    return found


def _judge_all(
    topic: str,
    partition: int,
    records: Iterable[Record],
    cuts: Iterable[tuple[int, int]],
    rules: Rules,
    found: Implied,
) -> None:
    last_seen: dict[str, int] = {}  # event id -> generation of offsets in which it last occurred
    greatest_ms = cut_ms = 0
    ahead = sorted(cuts)
    for record in records:
        place = topic, partition, record.offset
        try:
            event = judge(topic, partition, record, rules)
        except RefusedError as refused:
            found.dead[place] = str(refused), record
            found.outcomes["dead_letter"] += 1
            found.verdicts[place] = str(refused)
            continue
        generation = record.offset // rules.dedupe_horizon_records
        before = last_seen.get(event["event_id"])
        last_seen[event["event_id"]] = generation
        while ahead and ahead[0][0] <= record.offset:
            cut_ms = max(cut_ms, ahead.pop(0)[1])
        at_ms = event["event_time_ms"]
        late = at_ms < max(greatest_ms - rules.allowed_lateness_ms, cut_ms)
        greatest_ms = max(greatest_ms, min(at_ms, record.timestamp_ms))
        verdict = "accepted"
        if before is not None and generation - before <= 1:
            verdict = "duplicate"
        elif late:
            verdict = "late"
            found.late[place] = record
        else:
            _apply(topic, event, rules, found)
        found.outcomes[verdict] += 1
        found.verdicts[place] = verdict


def _apply(topic: str, event: dict[str, Any], rules: Rules, found: Implied) -> None:
    at_ms = event["event_time_ms"]
    cell = event["sku"], at_ms - at_ms % rules.bucket_ms
    window = found.windows.setdefault(cell, Window())
    window.price_sum += event["price_cents"]
    if topic == CLICKS:
        window.clicks += 1
    elif topic == CARTS:
        window.carts += 1
    elif topic == ORDERS:
        window.orders += 1
        window.units += event["quantity"]
        window.revenue_cents += event["quantity"] * event["price_cents"]
