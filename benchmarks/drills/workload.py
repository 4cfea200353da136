"""A seeded sale whose truth is known: what must become of every event is decided as it is made.

Event time runs `speed` times as fast as the wall clock from START_MS on, so that buckets close and
forecasts fall due throughout a drill. Stragglers lag by less than the allowed lateness; `late` ones
by two minutes; duplicates repeat one of the last accepted events, bytes and all.
"""

import json
import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from kafka.partitioner.default import murmur2

START_MS = 1_700_000_000_000 - 1_700_000_000_000 % 10_000
SALE_MS = 6 * 3_600_000
LATE_BY_MS = 120_000
LATE_FROM_MS = 2 * LATE_BY_MS  # by then every topic partition has seen events two minutes newer
TOPICS, SHARES = ("clicks", "carts", "orders"), (70, 20, 10)
LIST_PRICE_CENTS = 10_000
RECENT = 200

Poison = Callable[[random.Random, dict[str, Any]], tuple[str, bytes | None, bytes | None]]


class Event(NamedTuple):
    """`truth`: accepted, duplicate, late, or the reason of a dead letter."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    truth: str


@dataclass(frozen=True)
class Workload:
    """Shares are of all events; `poison` makes (reason, key, value) out of a good event."""

    events_per_s: int = 600
    speed: int = 20
    skus: int = 60
    partitions: int = 4
    stragglers_ms: int = 3_000
    duplicate_share: float = 0.02
    late_share: float = 0.01
    future_share: float = 0.0
    poison_share: float = 0.0
    poison: Poison | None = None
    start_ms: int = START_MS
    begins_ago_ms: int | None = None  # before the drill, instead of `start_ms`
    silent: tuple[str, ...] = ()  # topics of which only the last events come
    padding_bytes: int = 0  # of each event, beyond the usual

    @property
    def step_us(self) -> int:
        """Event time between two events, in microseconds."""
        return self.speed * 1_000_000 // self.events_per_s

    def as_of(self, now_ms: int) -> "Workload":
        """The same, with a start that is known."""
        if self.begins_ago_ms is None:
            return self
        start_ms = now_ms - self.begins_ago_ms
        return replace(self, start_ms=start_ms - start_ms % 10_000, begins_ago_ms=None)

    def one(self, topic: str, number: int, event_id: str, at_ms: int) -> Event:
        """A good event of the numbered SKU, beside the others."""
        sku = self.sku(number)
        value = _encoded(_body(topic, sku, event_id, at_ms, 1))
        return Event(topic, self.partition_of(sku), *value, "accepted")

    def sku(self, number: int) -> str:
        return f"SKU-{number:05d}"

    def partition_of(self, sku: str) -> int:
        return (murmur2(sku.encode()) & 0x7FFF_FFFF) % self.partitions

    def references(self, seed: int) -> Iterator[tuple[str, Event]]:
        """(topic, record) of catalog and stock levels, on sale throughout."""
        chance = random.Random(seed)
        for number in range(self.skus):
            sku = self.sku(number)
            partition = self.partition_of(sku)
            entry = {
                "sku": sku,
                "title": f"Thing {number}",
                "category": f"c{number % 5}",
                "list_price_cents": LIST_PRICE_CENTS,
                "unit_cost_cents": 4_000,
                "price_floor_cents": 5_000,
                "price_ceiling_cents": 15_000,
                "lead_time_ms": 600_000,
                "sale_start_ms": self.start_ms,
                "sale_end_ms": self.start_ms + SALE_MS,
            }
            level = {
                "sku": sku,
                "on_hand": chance.choice((100, 300, 1_000, 3_000)),
                "on_order": 0,
                "as_of_ms": self.start_ms,
            }
            for topic, body in (("catalog", entry), ("stock-levels", level)):
                value = json.dumps(body).encode()
                yield topic, Event(topic, partition, sku.encode(), value, "accepted")

    def events(self, seed: int) -> Iterator[Event]:
        """Without end, in nearly the order of event time."""
        return _Source(self, seed).events()

    def last_events(self, count: int) -> Iterator[Event]:
        """One for every topic partition, at the very end of a bucket behind the first `count`
        events, so that the silence that closes the last bucket can be short.
        """
        at_ms = self.start_ms + count * self.step_us // 1_000 + 20_000
        at_ms += 9_999 - at_ms % 10_000
        skus = {self.partition_of(self.sku(number)): number for number in range(self.skus)}
        for topic in TOPICS:
            for partition, number in sorted(skus.items()):
                name = f"last-{topic}-{partition}"
                key, value = _encoded(_body(topic, self.sku(number), name, at_ms, 0))
                yield Event(topic, partition, key, value, "accepted")


class _Source:
    """The state of one sequence of events."""

    def __init__(self, workload: Workload, seed: int) -> None:
        self._work = workload
        self._chance = random.Random(seed)
        self._shares = [
            0 if topic in workload.silent else share
            for topic, share in zip(TOPICS, SHARES, strict=True)
        ]
        self._recent: dict[str, deque[Event]] = {topic: deque(maxlen=RECENT) for topic in TOPICS}

    def events(self) -> Iterator[Event]:
        number = 0
        while True:
            yield self._event(number)
            number += 1

    def _event(self, number: int) -> Event:
        work, chance = self._work, self._chance
        topic = chance.choices(TOPICS, self._shares)[0]
        passed_ms = number * work.step_us // 1_000
        at_ms = work.start_ms + passed_ms - chance.randrange(work.stragglers_ms + 1)
        sku = work.sku(min(chance.randrange(work.skus), chance.randrange(work.skus)))
        dice = chance.random()
        if dice < work.duplicate_share and self._recent[topic]:
            return chance.choice(self._recent[topic])._replace(truth="duplicate")
        truth = "accepted"
        dice -= work.duplicate_share
        if 0 <= dice < work.late_share and passed_ms > LATE_FROM_MS:
            truth, at_ms = "late", at_ms - LATE_BY_MS
        dice -= work.late_share
        if 0 <= dice < work.future_share:
            # beyond the wall clock of any producer, and short of the greatest time there may be
            truth, at_ms = "event_time_future", 9 * 10**13 + at_ms % 10**12
        dice -= work.future_share
        body = _body(topic, sku, f"{topic}-{number}", at_ms, chance.randrange(1, 4))
        body["user_id"] = f"u{chance.randrange(5_000)}"
        if work.padding_bytes:
            body["session_id"] = "s" * work.padding_bytes
        if work.poison is not None and 0 <= dice < work.poison_share:
            truth, key, value = work.poison(chance, body)
            return Event(topic, self._placed(truth, sku), key, value, truth)
        event = Event(topic, work.partition_of(sku), *_encoded(body), truth)
        if truth == "accepted":
            self._recent[topic].append(event)
        return event

    def _placed(self, truth: str, sku: str) -> int:
        right = self._work.partition_of(sku)
        return (right + 1) % self._work.partitions if truth == "wrong_partition" else right


def _body(topic: str, sku: str, event_id: str, at_ms: int, quantity: int) -> dict[str, Any]:
    body: dict[str, Any] = {
        "event_id": event_id,
        "sku": sku,
        "user_id": "u0",
        "event_time_ms": at_ms,
        "price_cents": LIST_PRICE_CENTS,
    }
    if topic != "clicks":
        body["quantity"] = max(1, quantity)
    return body


def _encoded(body: dict[str, Any]) -> tuple[bytes, bytes]:
    return str(body["sku"]).encode(), json.dumps(body, separators=(",", ":")).encode()
