"""What must have come out of a run, worked out plainly from what was put in, and what did.

Shares no code with the windows, the decoders, or `flashcast reconcile`. Whether the numbers of
forecasts and decisions are right is said in retelling.py.
"""

import json
import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final

from models.forecaster import Forecaster
from streams.codec.plain import Record
from streams.faults.decided import NAMESPACE, DecidedJudge, differences
from streams.faults.logs import PartitionLog
from streams.faults.retelling import Retold
from streams.faults.scenario import Fact
from streams.faults.shelf import TOPICS, PlacedTold
from streams.faults.transactions import LogName
from streams.settings import Settings

EVENTS: Final = ("clicks", "carts", "orders")
LISTED_MAX: Final = 8

Placed = dict[LogName, list[tuple[int, int, Fact]]]  # offset, record timestamp, fact
Cell = tuple[str, int]
Figures = tuple[int, ...]
Refused = tuple[str, int, int]  # topic, partition, offset


class Expected:
    """Of one partition number, given the cuts that its worker wrote down."""

    def __init__(self) -> None:
        self.cells: dict[Cell, list[int]] = defaultdict(lambda: [0] * 7)
        self.late: dict[Refused, str] = {}
        self.dead: dict[Refused, str] = {}

    def windows(self) -> dict[Cell, Figures]:
        return {
            cell: (*sums[:5], (2 * sums[5] + sums[6]) // (2 * sums[6]))
            for cell, sums in self.cells.items()
        }


def expected_of(
    settings: Settings, placed: Placed, partition: int, cuts: Mapping[str, list[tuple[int, int]]]
) -> Expected:
    """Every record of the partition's event logs, judged in the order of its log."""
    expected = Expected()
    for kind, topic in enumerate(EVENTS):
        log = sorted(placed.get((topic, partition), []), key=lambda one: one[0])
        _judge_log(settings, kind, partition, log, cuts.get(topic, []), expected)
    return expected


def _judge_log(
    settings: Settings,
    kind: int,
    partition: int,
    log: Iterable[tuple[int, int, Fact]],
    cuts: list[tuple[int, int]],
    expected: Expected,
) -> None:
    seen: dict[str, int] = {}  # id -> generation in which it was last seen
    greatest_ms = 0
    for offset, timestamp_ms, fact in log:
        place = (EVENTS[kind], partition, offset)
        if fact.reason is not None:
            expected.dead[place] = fact.reason
            continue
        generation = offset // settings.dedupe_horizon_records
        repeated = seen.get(fact.event_id, -9) >= generation - 1
        seen[fact.event_id] = generation
        cut_ms = max((through for at, through in cuts if at <= offset), default=0)
        behind_ms = max(cut_ms, greatest_ms - settings.allowed_lateness_ms)
        greatest_ms = max(greatest_ms, min(fact.event_time_ms, timestamp_ms))
        if repeated:
            continue
        if fact.event_time_ms < behind_ms:
            expected.late[place] = "late"
            continue
        bucket_ms = settings.bucket_ms
        sums = expected.cells[fact.sku, fact.event_time_ms // bucket_ms * bucket_ms]
        sums[kind] += 1
        sums[5] += fact.price_cents
        sums[6] += 1
        if kind == 2:
            sums[3] += fact.quantity
            sums[4] += fact.quantity * fact.price_cents


class Judge:
    """Compares what a run left in the logs with what it must have."""

    def __init__(
        self,
        settings: Settings,
        logs: Mapping[LogName, PartitionLog],
        placed: Placed,
        told: PlacedTold,
    ) -> None:
        self._settings = settings
        self._logs = logs
        self._placed = placed
        self._told = told
        self._exact = settings.processing_guarantee == "exactly_once"
        self._read: dict[LogName, tuple[object, list[Record]]] = {}
        self._judged: dict[int, tuple[object, list[str]]] = {}
        self._markers: dict[int, tuple[list[Record], list[dict[str, Any]]]] = {}

    def _records(self, topic: str, partition: int) -> list[Record]:
        """All that is committed, read once for each state that a log is seen in."""
        name = self._settings.topic(topic), partition
        version = self._logs[name].version
        if name not in self._read or self._read[name][0] != version:
            self._read[name] = version, list(self._logs[name].committed_records())
        return self._read[name][1]

    def markers(self, partition: int) -> list[dict[str, Any]]:
        """In the order in which they became durable."""
        records = self._records("changelog", partition)
        if partition not in self._markers or self._markers[partition][0] is not records:
            markers = [json.loads(one.value or b"") for one in records if one.key == b"\x00marker"]
            self._markers[partition] = records, markers
        return self._markers[partition][1]

    def processed(self, partition: int) -> bool:
        """Whether the newest marker covers all of the input."""
        markers = self.markers(partition)
        if not markers:
            return not any(self._placed.get((topic, partition)) for topic in EVENTS)
        ends = {topic: self._logs[self._settings.topic(topic), partition].end for topic in EVENTS}
        return all(markers[-1]["offsets"][topic] >= end for topic, end in ends.items())

    def violations(self, partition: int) -> list[str]:
        """Everything that is not as it must be; empty when all is."""
        version = [log.version for (_, number), log in self._logs.items() if number == partition]
        if partition not in self._judged or self._judged[partition][0] != version:
            self._judged[partition] = version, self._violations(partition)
        return self._judged[partition][1]

    def _violations(self, partition: int) -> list[str]:
        expected = expected_of(self._settings, self._placed, partition, self._cuts(partition))
        for topic in TOPICS:
            for offset, one in self._told.get((topic, partition), []):
                if one.reason is not None:
                    expected.dead[topic, partition, offset] = one.reason
        wrong = self._windows(partition, expected.windows())
        decided = self._decided(partition)
        wrong += decided.shares(expected.cells)
        if self._settings.forecasting:
            wrong += decided.violations(expected.cells)
        wrong += self._refused("late-events", partition, expected.late)
        wrong += self._refused("dead-letters", partition, expected.dead)
        wrong += self._monotone(partition)
        return [f"partition {partition}: {one}" for one in wrong[:LISTED_MAX]]

    def _cuts(self, partition: int) -> dict[str, list[tuple[int, int]]]:
        cuts: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for record in self._records("changelog", partition):
            if (record.key or b"").startswith(b"\x00cut|") and record.value:
                cut = json.loads(record.value)
                cuts[cut["topic"]].append((cut["position"], cut["through_ms"]))
        return cuts

    def _windows(self, partition: int, expected: Mapping[Cell, Figures]) -> list[str]:
        wrong = []
        found: dict[Cell, Figures] = {}
        names = ("clicks", "carts", "orders", "units", "revenue_cents", "price_cents")
        for record in self._records("demand-windows", partition):
            window = json.loads(record.value or b"")
            cell = window["sku"], window["bucket_start_ms"]
            figures = tuple(window[name] for name in names)
            if cell in found and (self._exact or found[cell] != figures):
                wrong.append(f"window {cell} twice: {found[cell]}, {figures} at {record.offset}")
            found[cell] = figures
        return wrong + [f"window {what}" for what in differences(expected, found)]

    def _refused(self, topic: str, partition: int, expected: Mapping[Refused, str]) -> list[str]:
        wrong = []
        found: dict[Refused, str] = {}
        for record in self._records(topic, partition):
            said = json.loads(record.value or b"")
            place = said["topic"], said["partition"], said["offset"]
            wanted = uuid.uuid5(NAMESPACE, "|".join(map(str, place)))
            if dict(record.headers).get("ce_id") != str(wanted).encode():
                wrong.append(f"{topic} {place}: its id is not {wanted}")
            if place in found and (self._exact or found[place] != said["reason"]):
                wrong.append(f"{topic} {place} twice, again at {record.offset}")
            found[place] = said["reason"]
        return wrong + [f"{topic} {what}" for what in differences(expected, found)]

    def retold(self, partition: int, forecaster: Forecaster) -> Retold:
        """Whether the numbers are those of a forecaster that nothing interrupted; to be asked once
        nothing else is wrong.
        """
        retold = self._decided(partition).retold(forecaster)
        retold.violations = [f"partition {partition}: {one}" for one in retold.violations]
        return retold

    def _decided(self, partition: int) -> DecidedJudge:
        def records(topic: str) -> list[Record]:
            return self._records(topic, partition)

        markers = self.markers(partition)
        return DecidedJudge(self._settings, partition, records, markers, self._told)

    def _monotone(self, partition: int) -> list[str]:
        wrong = []
        before: dict[str, Any] | None = None
        for marker in self.markers(partition):
            if before is not None:
                windows, earlier = marker["core"]["windows"], before["core"]["windows"]
                pairs = [
                    *((at, before["offsets"][name], name) for name, at in
                      marker["offsets"].items()),
                    (windows["closed_through_ms"], earlier["closed_through_ms"], "closed through"),
                    *(
                        (now[what], then[what], f"{what} of {name}")
                        for name, now, then in zip(
                            EVENTS, windows["topics"], earlier["topics"], strict=True
                        )
                        for what in ("position", "max_event_time_ms", "cut_ms")
                    ),
                ]  # fmt: skip
                wrong += [f"a marker went back: {what} {then} -> {now}"
                          for now, then, what in pairs if now < then]  # fmt: skip
            before = marker
        return wrong
