"""The windows worked out again from the log alone, plainly: what `reconcile` compares with.

    per topic partition, offset by offset:
    decode -> partition -> duplicate? -> late? -> refused? -> apply
                                                  (nothing here is shared with the worker's windows)

Only the wire contract itself (`streams.codec.strict`), and what of a refused record may be shown
(`streams.codec.pseudonyms`), are the same code. Whether an event is late
depends on its own topic partition: on the greatest event time at smaller offsets, and on the cuts
that the worker recorded when it closed buckets because the partition was silent. Whether its SKU
was admitted depended on the catalog of that moment, which no log keeps: the dead letter itself says
so, and is believed of events that would count otherwise and whose SKU cannot have been known.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from streams.codec.plain import Record
from streams.codec.pseudonyms import Pseudonyms
from streams.codec.strict import decode_event
from streams.errors import ContractError, Reason
from streams.placement import Placement
from streams.settings import Settings
from streams.topics import EVENT_TOPICS

ORDER_KIND = 2


class Outcome(StrEnum):
    """What must become of one input record."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    LATE = "late"
    DEAD_LETTER = "dead_letter"


class Cell(NamedTuple):
    """One SKU in one bucket."""

    sku: str
    bucket_start_ms: int


class Figures(NamedTuple):
    """What a window must say."""

    clicks: int
    carts: int
    orders: int
    units: int
    revenue_cents: int
    price_cents: int


class Place(NamedTuple):
    """Where an input record lies; `topic` is its logical name."""

    topic: str
    partition: int
    offset: int


class Refusal(NamedTuple):
    """A record that must be in `late-events` or `dead-letters`. `key`, the digest and
    `shown_length` are of what is published of it, before it is cut.
    """

    reason: str
    key: bytes | None
    value_length: int
    value_sha256: str
    shown_length: int


class Cut(NamedTuple):
    """Buckets were closed up to `through_ms` when the topic partition had been read to
    `position`.
    """

    position: int
    through_ms: int


@dataclass
class Recomputed:
    """What follows from the input of one partition number."""

    windows: dict[Cell, list[int]] = field(default_factory=dict)  # 5 sums, price sum, events
    late: dict[Place, Refusal] = field(default_factory=dict)
    dead: dict[Place, Refusal] = field(default_factory=dict)
    outcomes: Counter[tuple[str, Outcome]] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    begins: dict[str, int] = field(default_factory=dict)  # topic -> the log's first offset

    def figures(self, cell: Cell) -> Figures:
        """The window of a cell that has events."""
        clicks, carts, orders, units, revenue_cents, price_sum, events = self.windows[cell]
        mean_price = (2 * price_sum + events) // (2 * events)
        return Figures(clicks, carts, orders, units, revenue_cents, mean_price)


class PartitionRules:
    """The verdicts over one topic partition, in the order of its offsets."""

    def __init__(
        self,
        settings: Settings,
        kind: int,
        partition: int,
        placement: Placement,
        cuts: Iterable[Cut],
        not_admitted: Mapping[int, str] | None = None,
    ) -> None:
        """`not_admitted` are the reasons of dead letters of SKUs without a row, by offset."""
        self._settings = settings
        self._pseudonyms = Pseudonyms(settings.pseudonym_key)
        self._kind = kind
        self._topic = EVENT_TOPICS[kind]
        self._partition = partition
        self._placement = placement
        self._cuts = sorted(cuts, reverse=True)  # the next one last
        self._not_admitted = not_admitted or {}
        self._open_until_ms: dict[str, int] = {}  # end of the last bucket that a SKU counted in
        self._closed_through_ms = 0
        self._greatest_ms = 0
        self._generation = -1
        self._seen: set[str] = set()
        self._seen_before: set[str] = set()

    def add(self, record: Record, into: Recomputed) -> Outcome:
        """Judge one record and book it."""
        outcome, reason = self._judged(record, into)
        into.outcomes[self._topic, outcome] += 1
        if outcome in (Outcome.LATE, Outcome.DEAD_LETTER):
            place = Place(self._topic, self._partition, record.offset)
            refusal = self._refusal(reason, record)
            (into.late if outcome is Outcome.LATE else into.dead)[place] = refusal
            into.reasons[reason] += 1
        return outcome

    def _refusal(self, reason: str, record: Record) -> Refusal:
        key, shown, _ = self._pseudonyms.record(record.key, record.value)
        shown = shown or b""
        digest = hashlib.sha256(shown).hexdigest()
        return Refusal(reason, key, len(record.value or b""), digest, len(shown))

    def _judged(self, record: Record, into: Recomputed) -> tuple[Outcome, str]:
        tolerance_ms = self._settings.future_tolerance_ms
        if record.unreadable is not None:
            return Outcome.DEAD_LETTER, Reason.BATCH_UNREADABLE
        try:
            event = decode_event(
                self._kind, record.key, record.value, record.timestamp_ms, tolerance_ms
            )
        except ContractError as error:
            return Outcome.DEAD_LETTER, error.reason
        if self._settings.partitioner != "none" and (
            self._placement.of(event.sku.encode()) != self._partition
        ):
            return Outcome.DEAD_LETTER, Reason.WRONG_PARTITION
        repeated = self._enter(event.event_id, record.offset)
        watermark_ms = self._watermark_ms(record.offset)
        self._greatest_ms = max(self._greatest_ms, min(event.event_time_ms, record.timestamp_ms))
        if repeated:
            return Outcome.DUPLICATE, ""
        if event.event_time_ms < watermark_ms:
            return Outcome.LATE, "late"
        refused = self._not_admitted.get(record.offset)
        # a SKU keeps its row while a bucket of it is open, which it is up to this watermark
        if refused is not None and self._open_until_ms.get(event.sku, 0) <= watermark_ms:
            return Outcome.DEAD_LETTER, refused
        quantity = 1 if self._kind != ORDER_KIND else getattr(event, "quantity", 1)
        self._apply(event.sku, event.event_time_ms, event.price_cents, quantity, into)
        return Outcome.ACCEPTED, ""

    def _enter(self, event_id: str, offset: int) -> bool:
        """Whether the id was seen in this or the previous generation of offsets."""
        generation = offset // self._settings.dedupe_horizon_records
        if generation != self._generation:
            follows = generation == self._generation + 1
            self._seen_before = self._seen if follows else set()
            self._seen = set()
            self._generation = generation
        repeated = event_id in self._seen or event_id in self._seen_before
        self._seen.add(event_id)
        return repeated

    def _watermark_ms(self, offset: int) -> int:
        """What the topic partition has left behind before this offset."""
        while self._cuts and self._cuts[-1].position <= offset:
            self._closed_through_ms = max(self._closed_through_ms, self._cuts.pop().through_ms)
        return max(self._greatest_ms - self._settings.allowed_lateness_ms, self._closed_through_ms)

    def _apply(
        self, sku: str, event_time_ms: int, price_cents: int, quantity: int, into: Recomputed
    ) -> None:
        bucket_start_ms = event_time_ms - event_time_ms % self._settings.bucket_ms
        end_ms = bucket_start_ms + self._settings.bucket_ms
        self._open_until_ms[sku] = max(end_ms, self._open_until_ms.get(sku, 0))
        sums = into.windows.setdefault(Cell(sku, bucket_start_ms), [0] * 7)
        sums[self._kind] += 1
        if self._kind == ORDER_KIND:
            sums[3] += quantity
            sums[4] += quantity * price_cents
        sums[5] += price_cents
        sums[6] += 1
