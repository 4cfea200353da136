"""All of it: the input recomputed, every output held against it, and what differs, counted."""

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from benchmarks.drills.independent.decisions import Decisions, check_decisions, distinct
from benchmarks.drills.independent.log import (
    CAPACITY,
    DEAD,
    EVENTS,
    LATE,
    WINDOWS,
    Log,
    Record,
    Rules,
    read_log,
)
from benchmarks.drills.independent.refused import refused_fault
from benchmarks.drills.independent.windows import Implied, Place, State, implied, state_of

LISTED_MAX = 20


@dataclass
class Refusals:
    """Late events or dead letters: how many must be there, are there, and what is wrong."""

    expected: int = 0
    found: int = 0
    missing: int = 0
    unexpected: int = 0
    wrong: int = 0  # another reason, value or key than the record's
    repeated: int = 0


@dataclass
class Findings:
    """Counts are of events unless the name says windows."""

    accepted: int = 0
    lost: int = 0  # accepted, and missing from the windows
    double: int = 0  # in the windows more often than accepted
    units_differ: int = 0  # windows with the right counts and the wrong units, revenue or price
    windows_expected: int = 0
    windows_repeated: int = 0  # again with the same contents
    windows_conflicting: int = 0  # again with other contents
    windows_open: int = 0
    unprocessed: int = 0
    late: Refusals = field(default_factory=Refusals)
    dead: Refusals = field(default_factory=Refusals)
    decisions: Decisions = field(default_factory=Decisions)
    cuts: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    verdicts: dict[Place, str] = field(default_factory=dict)
    listed: list[str] = field(default_factory=list)

    def exact(self, exactly_once: bool) -> bool:
        """Nothing lost, counted twice, left out, altered or unexplained; repeats by guarantee."""
        refusals = [
            count
            for kind in (self.late, self.dead)
            for count in (kind.missing, kind.unexpected, kind.wrong)
        ]
        decisions = self.decisions
        faults = [
            self.lost, self.double, self.units_differ, self.windows_conflicting, self.windows_open,
            self.unprocessed, *refusals, decisions.lost, decisions.changed, decisions.unexplained,
        ]  # fmt: skip
        repeats = [
            self.windows_repeated, self.late.repeated, self.dead.repeated, decisions.repeated,
        ]  # fmt: skip
        return not any(faults) and not (exactly_once and any(repeats))

    def note(self, what: str) -> None:
        """The first few, in words."""
        if len(self.listed) < LISTED_MAX:
            self.listed.append(what)


def check(bootstrap_servers: str, rules: Rules) -> Findings:
    """Read everything and judge it."""
    return judge_log(read_log(bootstrap_servers, rules), rules)


def judge_log(log: Log, rules: Rules) -> Findings:
    """The same of a log that has been read."""
    findings = Findings()
    for partition in range(rules.partitions):
        state = state_of(log, partition)
        from_input = implied(log, partition, state, rules)
        findings.outcomes += from_input.outcomes
        findings.verdicts |= from_input.verdicts
        findings.cuts += sum(map(len, state.cuts.values()))
        findings.unprocessed += sum(
            max(0, log.ends.get((topic, partition), 0) - state.offsets.get(topic, 0))
            for topic in EVENTS
        )
        _check_windows(log, partition, from_input, state, rules, findings)
        late = {place: ("late", record) for place, record in from_input.late.items()}
        _check_refused(LATE, log, partition, late, rules, findings)
        _check_refused(DEAD, log, partition, from_input.dead, rules, findings)
        check_decisions(log, partition, from_input, state, rules, findings.decisions)
    distinct(log.of(CAPACITY, 0), CAPACITY, findings.decisions)
    findings.accepted = findings.outcomes["accepted"]
    return findings


def _check_windows(
    log: Log, partition: int, from_input: Implied, state: State, rules: Rules, findings: Findings
) -> None:
    found: dict[tuple[str, int], tuple[int, ...]] = {}
    for record in log.of(WINDOWS, partition):
        body = json.loads(record.value or b"{}")
        cell = body["sku"], body["bucket_start_ms"]
        names = ("clicks", "carts", "orders", "units", "revenue_cents", "price_cents")
        figures = tuple(body[name] for name in names)
        before = found.setdefault(cell, figures)
        if before is figures:
            continue
        if before == figures:
            findings.windows_repeated += 1
            findings.double += sum(figures[:3]) if rules.exactly_once else 0
        else:
            findings.windows_conflicting += 1
            findings.note(f"window {cell} was {before}, then {figures}")
    for cell, window in from_input.windows.items():
        if cell[1] + rules.bucket_ms > state.closed_through_ms:
            findings.windows_open += 1
            continue
        findings.windows_expected += 1
        expected, got = window.figures(), found.pop(cell, (0,) * 6)
        lost = sum(max(0, a - b) for a, b in zip(expected[:3], got[:3], strict=True))
        double = sum(max(0, b - a) for a, b in zip(expected[:3], got[:3], strict=True))
        findings.lost += lost
        findings.double += double
        findings.units_differ += int(not lost and not double and expected != got)
        if expected != got:
            findings.note(f"window {cell} says {got}, the input {expected}")
    for cell, figures in found.items():
        if cell[1] + rules.bucket_ms <= state.closed_through_ms:
            findings.double += sum(figures[:3])
            findings.note(f"window {cell} says {figures}, the input has no such events")


def _check_refused(
    topic: str,
    log: Log,
    partition: int,
    expected: dict[Place, tuple[str, Record]],
    rules: Rules,
    findings: Findings,
) -> None:
    tally = findings.late if topic == LATE else findings.dead
    logical = {rules.broker_name(one): one for one in EVENTS}
    found: dict[Place, dict[str, Any]] = {}
    for record in log.of(topic, partition):
        body = json.loads(record.value or b"{}")
        if body["topic"] not in logical:
            continue  # of a reference topic
        tally.found += 1
        place = logical[body["topic"]], body["partition"], body["offset"]
        if place in found:
            tally.repeated += 1
            tally.wrong += found[place] != body
        found[place] = body
    tally.expected += len(expected)
    tally.missing += len(expected.keys() - found.keys())
    tally.unexpected += len(found.keys() - expected.keys())
    for place in expected.keys() - found.keys():
        findings.note(f"{place} is not in {topic}: {expected[place][0]}")
    for place in found.keys() - expected.keys():
        findings.note(f"{place} is in {topic} as {found[place]['reason']}, and should not be")
    for place in expected.keys() & found.keys():
        fault = _fault(found[place], *expected[place], rules.dead_letter_bytes_max)
        if fault:
            tally.wrong += 1
            findings.note(f"{place} in {topic}: {fault}")


def _fault(body: dict[str, Any], reason: str, record: Record, bytes_max: int) -> str:
    """What a late event or dead letter says wrongly; empty when all is right."""
    if body["reason"] != reason:
        return f"reason {body['reason']}, not {reason}"
    return refused_fault(body, record, bytes_max)
