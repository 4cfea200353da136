"""`flashcast simulate-faults`: many seeds, and a table of what they went through."""

import contextlib
import gc
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
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
    forecasts: int = 0
    decisions: int = 0
    virtual_s: float = 0.0
    seconds: float = 0.0
    faults: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(KINDS, 0)))
    failures: list[Failure] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        self.seeds += 1
        self.events += outcome.events
        self.lives += outcome.lives
        self.forecasts += outcome.forecasts
        self.decisions += outcome.decisions
        self.virtual_s = round(self.virtual_s + outcome.virtual_s, 3)
        self.faults.update(outcome.faults)
        if outcome.violations:
            self.failures.append(Failure(outcome.seed, outcome.violations))


def run_faults(seeds: int, first: int, traced: bool, jobs: int, json_output: bool) -> int:
    """Runs and reports, in `jobs` processes; 0: as many as there are processors. Returns 0 when all
    was as it must be, 1 when not.
    """
    console = Console(stderr=json_output)
    report = Report(first)
    began = time.monotonic()
    numbers = range(first, first + seeds)
    quiet = traced or not console.is_terminal
    with _outcomes(numbers, traced, jobs or os.cpu_count() or 1) as outcomes:
        shown = outcomes if quiet else track(outcomes, "seeds", total=seeds, console=console)
        for outcome in shown:
            report.add(outcome)
            for line in outcome.trace:
                console.print(line, highlight=False, markup=False, soft_wrap=True)
            _tell(outcome, console)
    report.seconds = round(time.monotonic() - began, 3)
    if json_output:
        print(msgspec.json.encode(report).decode())
    else:
        _show(report, console)
    return 1 if report.failures else 0


@contextlib.contextmanager
def _outcomes(numbers: Sequence[int], traced: bool, jobs: int) -> Iterator[Iterator[Outcome]]:
    """In the order of the seeds."""
    if jobs == 1 or len(numbers) == 1:
        _be_quiet()
        yield (_outcome((seed, traced)) for seed in numbers)
        return
    # Spawned: a fork would take over threads that torch and numba have begun.
    with multiprocessing.get_context("spawn").Pool(min(jobs, len(numbers)), _be_quiet) as pool:
        yield pool.imap(_outcome, [(seed, traced) for seed in numbers])


def _be_quiet() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(CRITICAL))


def _outcome(asked: tuple[int, bool]) -> Outcome:
    outcome = Run(*asked).result()
    gc.collect(0)
    return outcome


def _tell(outcome: Outcome, console: Console) -> None:
    if outcome.violations:
        seed = outcome.seed
        lines = [f"seed {seed} failed:", *(f"  {one}" for one in outcome.violations)]
        lines.append(f"  again: flashcast simulate-faults --first {seed} --seeds 1 --trace")
        console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)


def _show(report: Report, console: Console) -> None:
    table = Table("fault", "times")
    for kind, count in sorted(report.faults.items()):
        table.add_row(kind, f"{count:,}")
    console.print(table)
    console.print(
        f"{report.seeds:,} seeds, {report.events:,} events, {report.lives:,} lives of workers, "
        f"{report.forecasts:,} forecasts, {report.decisions:,} decisions, "
        f"{len(report.failures)} failures, {report.seconds:,.1f} s"
    )
