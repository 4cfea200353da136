"""What a reconciliation found, for machines and for people."""

from typing import Final

import msgspec
from rich.console import Console
from rich.table import Table

from streams.comparison import Difference
from streams.recompute import Outcome

SHOWN_MAX: Final = 20


class ReconcileReport(msgspec.Struct):
    """The verdict, and what it rests on."""

    exact: bool  # nothing differs and nothing waits to be processed
    differences: int
    unprocessed: int  # input records beyond the markers
    inputs: dict[str, dict[str, int]]  # topic -> outcome -> records
    refused: dict[str, int]  # reason -> records
    windows: dict[str, int]
    late_events: dict[str, int]
    dead_letters: dict[str, int]
    units: int
    revenue_cents: int
    repeats: int
    cuts: int
    by_kind: dict[str, int]
    listed: list[Difference]
    waited_s: float  # for the workers
    seconds: float  # without waiting
    records_per_s: int


def show(report: ReconcileReport, console: Console) -> None:
    """For people."""
    table = Table("topic", *(str(outcome).replace("_", " ") for outcome in Outcome), box=None)
    for topic, outcomes in report.inputs.items():
        table.add_row(topic, *(f"{count:,}" for count in outcomes.values()))
    console.print(table)
    for reason, count in sorted(report.refused.items()):
        console.print(f"  refused as {reason}: {count:,}", highlight=False)
    for name, counts in (
        ("demand-windows", report.windows),
        ("late-events", report.late_events),
        ("dead-letters", report.dead_letters),
    ):
        said = ", ".join(f"{what} {count:,}" for what, count in counts.items())
        console.print(f"{name}: {said}", highlight=False)
    console.print(
        f"units {report.units:,}, revenue {report.revenue_cents / 100:,.2f}, "
        f"{report.repeats:,} repeats, {report.cuts:,} idle cuts\n"
        f"waited {report.waited_s:.1f} s for the workers, compared in {report.seconds:.1f} s "
        f"({report.records_per_s:,} records/s)",
        highlight=False,
    )
    for difference in report.listed[:SHOWN_MAX]:
        console.print(
            f"[red]{difference.what}[/] {difference.where}: expected {difference.expected}, "
            f"found {difference.found}",
            highlight=False,
        )
    if report.exact:
        console.print("[bold green]exact[/]: every window, late event and dead letter is right")
    elif report.differences:
        console.print(f"[bold red]{report.differences:,} differences[/]: {report.by_kind}")
    else:
        console.print(
            f"[bold yellow]{report.unprocessed:,} records are not processed yet[/]: so far nothing "
            "differs; wait with --wait-s"
        )
