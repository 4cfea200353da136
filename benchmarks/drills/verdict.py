"""From a drill that has ended to its row: `flashcast reconcile`, the independent check, the truth
by construction, and the measures.
"""

import asyncio
import time
from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.drills.brokers import Cluster
from benchmarks.drills.drill import Row
from benchmarks.drills.independent.check import Findings, check
from benchmarks.drills.independent.log import Rules
from benchmarks.drills.stage import Stage
from benchmarks.drills.transactions import aborted
from streams.reconcile import reconcile
from streams.reconcile_report import ReconcileReport
from streams.settings import Settings

WAIT_S = 120.0


def rules_of(settings: Settings) -> Rules:
    """What the independent check is told of the deployment."""
    return Rules(
        prefix=settings.topic_prefix,
        application=settings.application,
        partitions=settings.partitions,
        exactly_once=settings.processing_guarantee == "exactly_once",
        forecasting=settings.forecasting,
        bucket_ms=settings.bucket_ms,
        allowed_lateness_ms=settings.allowed_lateness_ms,
        future_tolerance_ms=settings.future_tolerance_ms,
        dedupe_horizon_records=settings.dedupe_horizon_records,
        dead_letter_bytes_max=settings.dead_letter_bytes_max,
        forecast_interval_ms=settings.forecast_interval_ms,
    )


def judged(stage: Stage, began_s: float) -> Row:
    """Wait for the workers to finish, compare, let them leave; the drill's row."""
    settings = stage.settings
    report = asyncio.run(reconcile(settings, wait_s=WAIT_S, console=Console(quiet=True)))
    codes = stage.fleet.leave()
    findings = check(settings.bootstrap_servers, rules_of(settings))
    untrue = against_truth(findings, stage.load.truth)
    causes = causes_of(report, findings, untrue, codes)
    exact = settings.processing_guarantee == "exactly_once"
    if not findings.exact(exact) and not causes:
        causes.append("the independent check found repeats")
    decisions = findings.decisions
    row = {
        "name": stage.drill.name,
        "seed": stage.seed,
        "accepted": findings.accepted,
        "lost": findings.lost,
        "double": findings.double,
        "dead_letters_expected": findings.dead.expected,
        "dead_letters_found": findings.dead.found,
        "decisions_lost": decisions.lost,
        "decisions_changed": decisions.changed,
        "resume_s": round(max(stage.resumes_s), 2) if stage.resumes_s else None,
        "rss_peak_mb": round(stage.fleet.rss_peak_mb),
        "exact": not causes,
        "cause": "; ".join(causes) or None,
        "guarantee": settings.processing_guarantee,
        "quick": stage.quick,
        "resumes": len(stage.resumes_s),
        "resume_median_s": _median(stage.resumes_s),
        "duplicates": findings.outcomes["duplicate"],
        "late_expected": findings.late.expected,
        "late_found": findings.late.found,
        "late_by_cut": untrue.pop("late_by_cut", 0),
        "cuts": findings.cuts,
        "windows": findings.windows_expected,
        "decisions": decisions.found,
        "decisions_unexplained": decisions.unexplained,
        "decisions_expired": decisions.expired,
        "repeats": {
            "windows": findings.windows_repeated,
            "windows_conflicting": findings.windows_conflicting,
            "late_events": findings.late.repeated,
            "dead_letters": findings.dead.repeated,
            "decisions": decisions.repeated,
        },
        "aborted_transactions": _aborted(stage),
        "exit_codes": codes,
        "seconds": round(time.monotonic() - began_s, 1),
        **stage.notes,
        "listed": findings.listed + decisions.listed,
    }
    also = list(stage.drill.also(stage, row))
    return row | ({"exact": False, "cause": "; ".join([*causes, *also])} if also else {})


def against_truth(findings: Findings, truth: dict[tuple[str, int, int], str]) -> Counter[str]:
    """Verdicts that differ from what the workload meant, by name. `late_by_cut`: late because
    buckets were closed while the topic partition was silent, which the log explains.
    """
    untrue: Counter[str] = Counter()
    for place, meant in truth.items():
        verdict = findings.verdicts.get(place, "not in the log")
        if meant == "accepted" and verdict == "late":
            untrue["late_by_cut"] += 1
        elif meant != verdict:
            untrue[f"{meant} became {verdict}"] += 1
    strangers = len(findings.verdicts.keys() - truth.keys())
    if strangers:
        untrue["in the log, and never acknowledged"] = strangers
    if untrue["late_by_cut"] and not findings.cuts:
        untrue["late without a cut"] = untrue.pop("late_by_cut")
    return untrue


def causes_of(
    report: ReconcileReport, findings: Findings, untrue: Counter[str], codes: list[int]
) -> list[str]:
    """Why a drill is not exact, in words; empty when it is."""
    causes = []
    if not report.exact:
        causes.append(f"reconcile: {report.by_kind}, {report.unprocessed} unprocessed")
    decisions = findings.decisions
    counts = {
        "lost": findings.lost,
        "double": findings.double,
        "windows with wrong sums": findings.units_differ,
        "windows conflicting": findings.windows_conflicting,
        "windows open": findings.windows_open,
        "unprocessed": findings.unprocessed,
        "late events missing, unexpected or wrong": _faults(findings.late),
        "dead letters missing, unexpected or wrong": _faults(findings.dead),
        "decisions lost": decisions.lost,
        "decisions changed": decisions.changed,
        "decisions unexplained": decisions.unexplained,
    }
    found = {name: count for name, count in counts.items() if count}
    if found:
        causes.append(f"independent check: {found}")
    if wrong := {name: n for name, n in untrue.items() if n and name != "late_by_cut"}:
        causes.append(f"against the workload's truth: {wrong}")
    if any(codes):
        causes.append(f"workers left with exit codes {codes}")
    return causes


def _faults(refusals: Any) -> int:
    return int(refusals.missing + refusals.unexpected + refusals.wrong)


def _median(values: list[float]) -> float | None:
    return round(sorted(values)[len(values) // 2], 2) if values else None


def _aborted(stage: Stage) -> int | None:
    directory: Path | None = stage.brokers.directory
    if directory is None or not isinstance(stage.brokers, Cluster):
        return None
    return aborted(directory, stage.settings.topic_prefix)
