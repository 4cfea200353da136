"""`flashcast simulate-faults`: many seeds, and a table of what they went through."""

import gc
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

import msgspec
import structlog
from rich.console import Console
from rich.progress import track
from rich.table import Table

from streams.faults.chance import KINDS
from streams.faults.run import Outcome, Run

CRITICAL: Final = 50  # the workers' own log lines would be thousands


class Failure(msgspec.Struct, frozen=True):
    """A seed in which something was not as it must be."""

    seed: int
    violations: list[str]


@dataclass
class Report:
    """Of all seeds."""

    first: int
    seeds: int = 0
    events: int = 0
    lives: int = 0
    virtual_s: float = 0.0
    seconds: float = 0.0
    faults: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(KINDS, 0)))
    failures: list[Failure] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        self.seeds += 1
        self.events += outcome.events
        self.lives += outcome.lives
        self.virtual_s = round(self.virtual_s + outcome.virtual_s, 3)
        self.faults.update(outcome.faults)
        if outcome.violations:
            self.failures.append(Failure(outcome.seed, outcome.violations))


def run_faults(
    seeds: int, first: int, traced: bool, json_output: bool, skipped_markers: bool = False
) -> int:
    """Runs and reports. Returns 0 when all was as it must be, 1 when not."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(CRITICAL))
    console = Console(stderr=json_output)
    report = Report(first)
    began = time.monotonic()
    numbers = range(first, first + seeds)
    quiet = traced or not console.is_terminal
    for seed in numbers if quiet else track(numbers, "seeds", console=console):
        outcome = Run(seed, traced, skipped_markers=skipped_markers).result()
        report.add(outcome)
        for line in outcome.trace:
            console.print(line, highlight=False, markup=False, soft_wrap=True)
        _tell(outcome, console)
        gc.collect(0)
    report.seconds = round(time.monotonic() - began, 3)
    if json_output:
        print(msgspec.json.encode(report).decode())
    else:
        _show(report, console)
    return 1 if report.failures else 0


def _tell(outcome: Outcome, console: Console) -> None:
    if outcome.violations:
        seed = outcome.seed
        lines = [f"seed {seed} failed:", *(f"  {one}" for one in outcome.violations)]
        same = " --skipped-markers" if outcome.faults["skipped_markers"] else ""
        lines.append(f"  again: flashcast simulate-faults --first {seed} --seeds 1 --trace{same}")
        console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)


def _show(report: Report, console: Console) -> None:
    table = Table("fault", "times")
    for kind, count in sorted(report.faults.items()):
        table.add_row(kind, f"{count:,}")
    console.print(table)
    console.print(
        f"{report.seeds:,} seeds, {report.events:,} events, {report.lives:,} lives of workers, "
        f"{len(report.failures)} failures, {report.seconds:,.1f} s"
    )
