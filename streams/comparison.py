"""What `demand-windows`, `late-events`, `dead-letters` and the marker say, against what the log
implies.
"""

import base64
import binascii
from collections import Counter
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

import msgspec

from streams.cloud_events import refused_id
from streams.codec import published
from streams.codec.plain import Record
from streams.recompute import Cell, Figures, Outcome, Place, Recomputed, Refusal
from streams.records import Refused
from streams.settings import Settings
from streams.topics import DEAD_LETTERS, DEMAND_WINDOWS, EVENT_TOPICS, LATE_EVENTS

LISTED_MAX: Final = 100


class Difference(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that is not as the log implies."""

    what: str
    where: str
    expected: str = ""
    found: str = ""


@dataclass
class Differences:
    """Every difference counted, the first LISTED_MAX listed."""

    counts: Counter[str] = field(default_factory=Counter)
    listed: list[Difference] = field(default_factory=list)

    def add(self, what: str, where: str, expected: Any = "", found: Any = "") -> None:
        self.counts[what] += 1
        if len(self.listed) < LISTED_MAX:
            self.listed.append(Difference(what, where, str(expected), str(found)))

    @property
    def total(self) -> int:
        return sum(self.counts.values())


@dataclass
class Tally:
    """What was compared."""

    windows_expected: int = 0
    windows_found: int = 0
    windows_open: int = 0  # not yet closed by the last marker: to be compared later
    late_expected: int = 0
    late_found: int = 0
    dead_expected: int = 0
    dead_found: int = 0
    repeats: int = 0  # the same record again: `at_least_once` allows it
    not_events: int = 0  # dead letters of catalog, stock and competitor records: not recomputed
    units: int = 0
    revenue_cents: int = 0


class PartitionComparison:
    """Compares the outputs of one partition number. Feed every output record, then `finish`."""

    def __init__(
        self,
        settings: Settings,
        partition: int,
        recomputed: Recomputed,
        closed_through_ms: int,
        processed_to: dict[str, int],
        differences: Differences,
        tally: Tally,
    ) -> None:
        """`closed_through_ms` and `processed_to` (logical topic -> offset) are the marker's that
        `recomputed` covers. Outputs ahead of it are not compared: more input may be in them.
        """
        self._settings = settings
        self._partition = partition
        self._recomputed = recomputed
        self._closed_through_ms = closed_through_ms
        self._processed_to = processed_to
        self._differences = differences
        self._tally = tally
        self._windows: dict[Cell, Figures] = {}
        self._refused: dict[str, dict[Place, Refused]] = {LATE_EVENTS: {}, DEAD_LETTERS: {}}
        self._logical = {settings.topic(topic): topic for topic in EVENT_TOPICS}

    def add_window(self, record: Record) -> None:
        """One record of `demand-windows`."""
        where = f"{DEMAND_WINDOWS}/{self._partition}@{record.offset}"
        try:
            window = published.WINDOW.decode(record.value or b"")
        except msgspec.DecodeError as error:
            self._differences.add("window_unreadable", where, found=error)
            return
        if window.bucket_ms != self._settings.bucket_ms or record.key != window.sku.encode():
            self._differences.add("window_malformed", where, found=window)
            return
        cell = Cell(window.sku, window.bucket_start_ms)
        figures = Figures(
            window.clicks, window.carts, window.orders, window.units, window.revenue_cents,
            window.price_cents,
        )  # fmt: skip
        self._tally.windows_found += 1
        before = self._windows.setdefault(cell, figures)
        if before is not figures:
            self._repeated("window", where, before == figures, before, figures)

    def add_refused(self, topic: str, record: Record) -> None:
        """One record of `late-events` or `dead-letters`."""
        where = f"{topic}/{self._partition}@{record.offset}"
        try:
            refused = published.REFUSED.decode(record.value or b"")
        except msgspec.DecodeError as error:
            self._differences.add(f"{topic}_unreadable", where, found=error)
            return
        logical = self._logical.get(refused.topic)
        if logical is None:
            self._tally.not_events += 1
            return
        if topic == LATE_EVENTS:
            self._tally.late_found += 1
        else:
            self._tally.dead_found += 1
        wanted = refused_id(refused.topic, refused.partition, refused.offset)
        if dict(record.headers).get("ce_id") != wanted.encode():
            self._differences.add(f"{topic}_id", where, wanted, dict(record.headers).get("ce_id"))
        place = Place(logical, refused.partition, refused.offset)
        before = self._refused[topic].setdefault(place, refused)
        if before is not refused:
            self._repeated(topic, where, before == refused, before, refused)

    def finish(self) -> None:
        """Compare everything that was added, and what is missing."""
        self._finish_windows()
        self._tally.late_expected += self._finish_refused(LATE_EVENTS, self._recomputed.late)
        self._tally.dead_expected += self._finish_refused(DEAD_LETTERS, self._recomputed.dead)

    def compare_counters(self, counters: dict[str, dict[Outcome, int]]) -> None:
        """The counts of a marker that covers the whole input, by topic and outcome."""
        for topic, counts in counters.items():
            for outcome, count in counts.items():
                expected = self._recomputed.outcomes[topic, outcome]
                if count != expected:
                    where = f"marker of partition {self._partition}: {topic} {outcome}"
                    self._differences.add("marker_count", where, expected, count)

    def _finish_windows(self) -> None:
        bucket_ms = self._settings.bucket_ms
        for cell in self._recomputed.windows:
            found = self._windows.pop(cell, None)
            where = f"{cell.sku} at {cell.bucket_start_ms}"
            if cell.bucket_start_ms + bucket_ms > self._closed_through_ms:
                self._tally.windows_open += 1
                continue
            expected = self._recomputed.figures(cell)
            self._tally.windows_expected += 1
            self._tally.units += expected.units
            self._tally.revenue_cents += expected.revenue_cents
            if found is None:
                self._differences.add("window_missing", where, expected)
            elif found != expected:
                self._differences.add("window_differs", where, expected, found)
        for cell, found in self._windows.items():
            if cell.bucket_start_ms + bucket_ms > self._closed_through_ms:
                continue
            where = f"{cell.sku} at {cell.bucket_start_ms}"
            self._differences.add("window_unexpected", where, "no such window", found)

    def _finish_refused(self, topic: str, expected: dict[Place, Refusal]) -> int:
        """The number of records that must have come."""
        due = 0
        records = self._refused[topic]
        for place, refusal in expected.items():
            found = records.pop(place, None)
            where = f"{place.topic}/{place.partition}@{place.offset}"
            if place.offset >= self._processed_to.get(place.topic, 0):
                continue
            due += 1
            if found is None:
                self._differences.add(f"{topic}_missing", where, refusal.reason)
            elif fault := _fault(found, refusal, self._settings.dead_letter_bytes_max):
                self._differences.add(f"{topic}_differs", where, refusal, fault)
        for place, found in records.items():
            if place.offset >= self._processed_to.get(place.topic, 0):
                continue
            where = f"{place.topic}/{place.partition}@{place.offset}"
            self._differences.add(f"{topic}_unexpected", where, "not refused", found.reason)
        return due

    def _repeated(self, what: str, where: str, same: bool, before: Any, again: Any) -> None:
        """A second record for the same thing."""
        if not same:
            self._differences.add(f"{what}_conflicts", where, before, again)
        elif self._settings.processing_guarantee == "exactly_once":
            self._differences.add(f"{what}_repeated", where, "once", again)
        else:
            self._tally.repeats += 1


def _fault(found: Refused, expected: Refusal, bytes_max: int) -> str:
    """What is wrong with a refused record; empty when nothing is. Keys and values above `bytes_max`
    are cut, and shoppers replaced.
    """
    if found.reason != expected.reason:
        return f"reason {found.reason}"
    if found.value_length != expected.value_length:
        return f"value of {found.value_length} bytes"
    if found.value_sha256 != expected.value_sha256:
        return (
            f"SHA-256 {found.value_sha256}; is FLASHCAST_PSEUDONYM_KEY the one that the workers had"
            " when they wrote it?"
        )
    try:
        key = None if found.key is None else base64.b64decode(found.key, validate=True)
        value = base64.b64decode(found.value or "", validate=True)
    except binascii.Error as error:
        return f"base64: {error}"
    if key != (expected.key and expected.key[:bytes_max]):
        return f"key {key!r}"
    if len(value) != min(expected.shown_length, bytes_max):
        return f"{len(value)} bytes of value"
    if len(value) == expected.shown_length and sha256(value).hexdigest() != expected.value_sha256:
        return "a value that is not the one of its SHA-256"
    return ""
