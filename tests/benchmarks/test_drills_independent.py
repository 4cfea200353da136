"""The independent check finds what is lost, doubled, altered or made up, and shares no code."""

import ast
import base64
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.drills.independent import check
from benchmarks.drills.independent.check import Findings, judge_log
from benchmarks.drills.independent.log import Log, Record
from tests.benchmarks.small_log import RULES, T, record, small_log

FOLDER = Path(check.__file__).parent


def without(topic: str, at: int) -> Findings:
    """The verdict on the small sale with one record missing."""
    log = small_log()
    del log.records[topic, 0][at]
    return judge_log(log, RULES)


def altered(topic: str, at: int, **changes: Any) -> Findings:
    """With one record saying something else."""
    log = small_log()
    _alter(log, topic, at, changes)
    return judge_log(log, RULES)


def again(topic: str, at: int, **changes: Any) -> Findings:
    """With one record there twice, the second time with changes."""
    log = small_log()
    log.records[topic, 0].append(log.records[topic, 0][at])
    _alter(log, topic, -1, changes)
    return judge_log(log, RULES)


def _alter(log: Log, topic: str, at: int, changes: dict[str, Any]) -> None:
    found = log.records[topic, 0][at]
    value = json.dumps(json.loads(found.value or b"") | changes).encode()
    log.records[topic, 0][at] = Record(*found[:3], value, found.headers)


def test_no_module_of_it_imports_flashcast() -> None:
    allowed = (
        "json",
        "hashlib",
        "base64",
        "time",
        "collections",
        "dataclasses",
        "typing",
        "zlib",
        "kafka",
    )
    for file in FOLDER.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{file}: a relative import"
                names = [node.module or ""]
            for name in names:
                own = name.startswith("benchmarks.drills.independent")
                assert own or name.split(".")[0] in allowed, f"{file} imports {name}"


def test_a_consistent_log_is_exact() -> None:
    findings = judge_log(small_log(), RULES)
    assert findings.exact(exactly_once=True), findings
    assert findings.accepted == 7
    assert findings.outcomes == {"accepted": 7, "duplicate": 1, "late": 1, "dead_letter": 1}
    assert findings.windows_expected == 3


def test_a_missing_window_is_so_many_events_lost() -> None:
    findings = without("demand-windows", 2)
    assert (findings.lost, findings.double) == (3, 0)
    assert not findings.exact(True)


def test_a_window_that_counts_too_much_is_double() -> None:
    findings = altered("demand-windows", 0, clicks=3)
    assert (findings.lost, findings.double) == (0, 2)
    assert not findings.exact(True)


@pytest.mark.parametrize("field", ["units", "revenue_cents", "price_cents"])
def test_wrong_sums_are_found(field: str) -> None:
    findings = altered("demand-windows", 0, **{field: 7})
    assert findings.units_differ == 1
    assert not findings.exact(True)


def test_a_window_of_no_events_is_double() -> None:
    findings = altered("demand-windows", 2, bucket_start_ms=T + 140_000)
    assert (findings.lost, findings.double) == (3, 3)


def test_a_repeated_window_counts_twice_unless_repeats_are_allowed() -> None:
    assert again("demand-windows", 0).double == 3
    log = small_log()
    log.records["demand-windows", 0] *= 2
    findings = judge_log(log, replace(RULES, exactly_once=False))
    assert (findings.double, findings.windows_repeated) == (0, 3)
    assert findings.exact(False)
    assert not findings.exact(True)


def test_a_window_with_two_contents_conflicts_under_either_guarantee() -> None:
    findings = again("demand-windows", 0, clicks=2)
    assert findings.windows_conflicting == 1
    assert not findings.exact(False)


def test_events_behind_the_marker_are_unprocessed_and_open() -> None:
    log = small_log()
    marker = json.loads(log.records["changelog", 0][0].value or b"")
    marker["offsets"]["clicks"] = 4
    marker["core"]["windows"]["closed_through_ms"] = T + 130_000
    log.records["changelog", 0] = [record(0, marker, b"\x00marker")]
    findings = judge_log(log, RULES)
    assert (findings.unprocessed, findings.windows_open) == (1, 1)
    assert not findings.exact(True)


@pytest.mark.parametrize("topic", ["late-events", "dead-letters"])
def test_a_refused_record_must_be_there_once_as_it_came(topic: str) -> None:
    assert not without(topic, 0).exact(False)
    assert not altered(topic, 0, reason="wrong_type").exact(False)
    assert not altered(topic, 0, value="").exact(False)
    assert not altered(topic, 0, key=None).exact(False)
    assert not altered(topic, 0, offset=1).exact(False)
    assert not again(topic, 0).exact(True)
    assert again(topic, 0).exact(False)


def test_a_cut_makes_late_what_lies_before_it() -> None:
    log = small_log()
    cut = {"topic": "carts", "position": 1, "through_ms": T + 140_000}
    log.records["changelog", 0].insert(0, record(1, cut, b"\x00cut|carts|1"))
    findings = judge_log(log, RULES)
    assert findings.outcomes["late"] == 2
    assert findings.late.missing == 1


@pytest.mark.parametrize(
    ("topic", "at"), [("demand-forecasts", 1), ("restock-events", 1), ("price-adjustments", 1)]
)
def test_a_missing_decision_is_lost(topic: str, at: int) -> None:
    findings = without(topic, at)
    assert findings.decisions.lost == 1
    assert not findings.exact(False)


@pytest.mark.parametrize("topic", ["restock-events", "price-adjustments"])
def test_a_decision_that_the_state_forgot_is_unexplained(topic: str) -> None:
    """It is among the records, and the marker does not count it."""
    log = small_log()
    forgotten = log.records[topic, 0][1]
    log.records[topic, 0].append(forgotten._replace(headers={"ce_id": b"another"}))
    _alter(log, topic, -1, {"origin_ms": T + 240_000})
    findings = judge_log(log, RULES)
    assert findings.decisions.unexplained >= 1
    assert not findings.exact(False)


def test_a_position_that_ignores_an_earlier_restock_is_unexplained() -> None:
    findings = altered("restock-events", 1, inventory_position=5)
    assert findings.decisions.unexplained == 1
    assert not findings.exact(False)


def test_a_price_that_begins_elsewhere_is_unexplained() -> None:
    findings = altered("price-adjustments", 1, old_price_cents=115)
    assert findings.decisions.unexplained == 1


def test_a_price_that_nobody_saw_since_begins_at_the_last_one_set() -> None:
    log = small_log()
    _alter(log, "price-adjustments", 1, {"origin_ms": T + 65_000, "old_price_cents": 115})
    assert judge_log(log, RULES).exact(True)


def test_a_forecast_that_no_window_asks_for_is_unexplained() -> None:
    assert altered("demand-forecasts", 0, origin_ms=T).decisions.unexplained == 1


def test_an_id_with_two_contents_is_changed_and_with_the_same_repeated() -> None:
    changed = again("restock-events", 0, order_quantity=6)
    assert (changed.decisions.changed, changed.decisions.repeated) == (1, 0)
    assert not changed.exact(False)
    repeated = again("restock-events", 0)
    assert (repeated.decisions.changed, repeated.decisions.repeated) == (0, 1)
    assert not repeated.exact(True)
    assert repeated.exact(False)


def test_an_id_must_belong_to_one_decision() -> None:
    log = small_log()
    one = log.records["restock-events", 0][0]
    log.records["restock-events", 0][0] = one._replace(headers={})
    assert not judge_log(log, RULES).exact(False)


@pytest.mark.parametrize(
    "value",
    [
        b'{"event_id": "c2", "sku": "M", "user_id": "u", "price_cents": 100}',
        b'{"event_id": "c2", "sku": "B", "user_id": "redacted", "price_cents": 100}',
        b'{"user_id": "redacted"}',
    ],
)
def test_a_refused_record_that_shows_its_shopper_or_another_value_is_found(value: bytes) -> None:
    told = {
        "value": base64.b64encode(value).decode(),
        "value_sha256": hashlib.sha256(value).hexdigest(),
    }
    assert altered("late-events", 0, **told).late.wrong == 1
