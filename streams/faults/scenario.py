"""What one seed is about: settings, and the events of a sale with all that may be wrong with them.
What the shop says beside them is in shop.py.

Every record is made together with what must become of it, so that who judges needs no decoder.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from streams.faults.broker import EPOCH_MS
from streams.faults.chance import Chance
from streams.faults.shop import Extras, Told, extras_of, told_of
from streams.placement import Placement
from streams.settings import Settings
from streams.topics import EVENT_TOPICS

KINDS: Final = range(len(EVENT_TOPICS))
POISON: Final = (
    "not_json",
    "value_missing",
    "missing_field",
    "wrong_type",
    "out_of_range",
    "key_missing",
    "key_mismatch",
    "event_time_unit",
)


@dataclass(frozen=True, slots=True)
class Fact:
    """One record. `reason` None: it is a good event."""

    key: bytes | None
    value: bytes | None
    event_id: str
    sku: str
    event_time_ms: int
    price_cents: int
    quantity: int
    reason: str | None


@dataclass(frozen=True, slots=True)
class Published:
    """Facts that come as one batch. `fate`: plain, commit, abort; of a transaction, it is decided
    `open_s` later.
    """

    at_s: float
    timestamp_ms: int  # of its records
    kind: int
    partition: int
    facts: list[Fact]
    fate: str
    open_s: float


@dataclass(frozen=True)
class Scenario:
    settings: Settings
    partitions: int
    hosts: int
    batches: list[Published]
    told: list[Told]
    faults_until_s: float


def scenario_of(chance: Chance) -> Scenario:
    """Draws everything that is decided before the run."""
    partitions, hosts = chance.some(3), chance.some(3)
    exact = chance.rng.random() < 0.85
    if not exact:  # whose promise is about crashes, not about former owners
        hosts = 1
        chance.forbid("freeze", "silence", "outage", "input_aborted", "input_left_open")
    drawn = _settings(chance, exact)
    extras = extras_of(chance.seed, hosts, exact)
    settings = _stretched(drawn, partitions, extras)
    sale = _Sale(chance, settings, partitions, extras.stretch)
    batches = sale.batches()
    told: list[Told] = []
    if extras.forecasting:
        told = told_of(chance.seed, settings, partitions, sale.skus, sale.span_s, extras)
    last_s = max((one.at_s + one.open_s for one in batches), default=1.0)
    return Scenario(settings, partitions, hosts, batches, told, last_s + 2.0)


def _stretched(drawn: dict[str, Any], partitions: int, extras: Extras) -> Settings:
    """Unvalidated, and without the environment: small numbers make much happen in little time."""
    in_event_time = ("allowed_lateness_ms", "future_tolerance_ms")
    longer = {name: drawn[name] * extras.stretch for name in in_event_time}
    return Settings.model_construct(partitions=partitions, **(drawn | longer | extras.settings))


def _settings(chance: Chance, exact: bool) -> dict[str, Any]:
    return {
        "application": "sale",
        "topic_prefix": "",
        "data_dir": Path("/simulated"),
        "processing_guarantee": "exactly_once" if exact else "at_least_once",
        "clock": "event",
        "forecasting": False,
        "deciding": False,
        "bucket_ms": chance.one_of((200, 500, 1_000)),
        "allowed_lateness_ms": chance.one_of((0, 200, 1_000)),
        "idle_timeout_ms": chance.one_of((400, 1_000, 3_000)),
        "future_tolerance_ms": chance.one_of((0, 500)),
        "dedupe_horizon_records": chance.one_of((15, 60, 1_000)),
        "checkpoint_interval_ms": chance.one_of((20, 200, 1_000)),
        "session_timeout_ms": chance.one_of((1_000, 2_000)),
        "outputs_bytes_max": chance.one_of((2_000, 2**26)),
        "sku_retention_ms": chance.one_of((1_000, 3_000, 86_400_000)),
    }


class _Sale:
    """Event by event, of every topic partition. In a millisecond of the run, `stretch` of event
    time pass.
    """

    def __init__(self, chance: Chance, settings: Settings, partitions: int, stretch: int) -> None:
        self._chance = chance
        self._stretch = stretch
        self._number = 0
        placement = Placement(settings.partitioner, partitions)
        self._skus: list[list[str]] = [[] for _ in range(partitions)]
        self.skus = [f"SKU-{index}" for index in range(4 * partitions)]
        for sku in self.skus:
            self._skus[placement.of(sku.encode())].append(sku)
        self.span_s = chance.between(2.0, 6.0)
        self._backlog = chance.rng.random() < 0.2

    def batches(self) -> list[Published]:
        found = []
        for partition, skus in enumerate(self._skus):
            for kind in KINDS:
                if skus and not self._chance.happens("idle_topic"):
                    found += self._topic(kind, partition, skus)
        return sorted(found, key=lambda one: one.at_s)

    def _topic(self, kind: int, partition: int, skus: list[str]) -> list[Published]:
        chance = self._chance
        found: list[Published] = []
        sent: list[Fact] = []
        at_s = chance.between(0.0, 1.0)
        while at_s < self.span_s:
            at_ms = EPOCH_MS + self._stretch * int(at_s * 1_000)
            facts = [self._fact(kind, skus, at_ms, sent) for _ in range(chance.some(8))]
            fate, open_s = "plain", 0.0
            if chance.happens("input_aborted"):
                fate, open_s = "abort", chance.between(0.0, 0.5)
            elif chance.happens("input_left_open"):
                fate, open_s = chance.one_of(("commit", "abort")), chance.between(1.0, 6.0)
            published_s = at_s if not self._backlog else 0.01
            found.append(Published(published_s, at_ms, kind, partition, facts, fate, open_s))
            at_s += chance.between(0.05, 0.6)
        return found

    def _fact(self, kind: int, skus: list[str], at_ms: int, sent: list[Fact]) -> Fact:
        chance = self._chance
        if sent and chance.happens("duplicate"):
            return chance.one_of(sent)
        self._number += 1
        time_ms = at_ms - self._stretch * chance.pick(0, 30)
        if chance.happens("reordered"):
            time_ms -= self._stretch * chance.pick(0, 300)
        if chance.happens("late"):
            time_ms -= self._stretch * chance.pick(1_000, 4_000)
        reason = None
        if chance.happens("future"):
            time_ms, reason = at_ms + 100_000 * self._stretch, "event_time_future"
        fields = {
            "event_id": f"e{self._number}",
            "sku": chance.one_of(skus),
            "user_id": "u1",
            "event_time_ms": time_ms,
            "price_cents": chance.pick(1, 900),
        }
        if kind:
            fields["quantity"] = chance.some(5)
        fact = _fact_of(fields, reason)
        if reason is None and chance.happens("poison"):
            return _poisoned(fields, chance.one_of(POISON))
        if reason is None:
            sent.append(fact)
        return fact


def _fact_of(fields: dict[str, Any], reason: str | None) -> Fact:
    return Fact(
        fields["sku"].encode(),
        json.dumps(fields).encode(),
        fields["event_id"],
        fields["sku"],
        fields["event_time_ms"],
        fields["price_cents"],
        fields.get("quantity", 1),
        reason,
    )


def _poisoned(fields: dict[str, Any], reason: str) -> Fact:
    """The same, spoilt in one way."""
    key: bytes | None = fields["sku"].encode()
    spoilt = dict(fields)
    value: bytes | None = None
    if reason == "missing_field":
        del spoilt["user_id"]
    elif reason == "wrong_type":
        spoilt["price_cents"] = "ten"
    elif reason == "out_of_range":
        spoilt["price_cents"] = -1
    elif reason == "event_time_unit":
        spoilt["event_time_ms"] //= 1_000
    elif reason == "key_missing":
        key = None
    elif reason == "key_mismatch":
        key = b"other"
    if reason == "not_json":
        value = json.dumps(spoilt).encode()[:-3]
    elif reason != "value_missing":
        value = json.dumps(spoilt).encode()
    return Fact(key, value, "", fields["sku"], 0, 0, 1, reason)
