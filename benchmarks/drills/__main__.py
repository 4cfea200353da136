"""`python -m benchmarks.drills`: every drill, a table, and benchmarks/results/drills.json.

Needs Apache Kafka: FLASHCAST_TEST_KAFKA names the launcher that starts, kills and restarts brokers.
With KAFKA_BOOTSTRAP_SERVERS the drills that leave the broker in peace run on that one; the others
still need the launcher. The exit code is 0 when every drill was exact.
"""

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.drills.brokers import LAUNCHER
from benchmarks.drills.catalogue import DRILLS
from benchmarks.drills.drill import Drill, Guarantee, Row
from benchmarks.drills.runner import Runner

RESULTS = Path(__file__).parents[1] / "results" / "drills.json"
COLUMNS = {
    "drill": "name", "accepted": "accepted", "lost": "lost", "double": "double",
    "dead\nletters": "dead_letters_expected", "\nfound": "dead_letters_found",
    "decisions\nlost": "decisions_lost", "\nchanged": "decisions_changed",
    "resume\ns": "resume_s", "peak\nMB": "rss_peak_mb", "took\ns": "seconds",
}  # fmt: skip
_VERDICTS = {True: "[green]exact[/]", False: "[red]not exact[/]", None: "[yellow]not run[/]"}


def main(
    only: Annotated[list[str] | None, typer.Option(help="This drill; may be repeated.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="Say what there is, and end.")] = False,
    quick: Annotated[bool, typer.Option(help="The few that CI runs, shortened.")] = False,
    seed: Annotated[int, typer.Option(help="The same seed, the same events and moments.")] = 1,
    guarantee: Annotated[
        str | None, typer.Option(help="exactly_once or at_least_once, whatever the drill says.")
    ] = None,
    results: Annotated[Path, typer.Option(help="Where the rows are kept, by name.")] = RESULTS,
    as_json: Annotated[bool, typer.Option("--json", help="The rows on stdout.")] = False,
    keep: Annotated[bool, typer.Option(help="Keep logs and data of exact drills too.")] = False,
) -> None:
    """Drills on Apache Kafka: faults under load, counted."""
    console = Console(stderr=as_json)
    if list_:
        for drill in DRILLS:
            console.print(f"[bold]{drill.name}[/]  {drill.about}", highlight=False)
        return
    chosen = _chosen(only, quick, guarantee)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    rows: list[Row] = []
    with Runner(quick, keep) as runner:
        for number, drill in enumerate(chosen, 1):
            console.print(f"{number}/{len(chosen)} [bold]{drill.name}[/]: {drill.about}")
            row = runner.run(drill, seed)
            rows.append(row)
            _say(console, row)
            _keep(rows, results)
        console.print(_table(rows))
        if runner.kept:
            console.print(f"logs and data: {runner.folder}")
    if as_json:
        print(json.dumps(rows, indent=2))
    raise typer.Exit(0 if all(row["exact"] is not False for row in rows) else 1)


def _chosen(only: list[str] | None, quick: bool, guarantee: str | None) -> list[Drill]:
    known = {drill.name: drill for drill in DRILLS}
    unknown = sorted(set(only or ()) - known.keys())
    if unknown:
        raise typer.BadParameter(f"no drill is called {', '.join(unknown)}: see --list")
    if guarantee not in (None, "exactly_once", "at_least_once"):
        raise typer.BadParameter(f"--guarantee {guarantee}: exactly_once or at_least_once")
    if not LAUNCHER and not os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        raise typer.BadParameter(
            "no Kafka: FLASHCAST_TEST_KAFKA must name a launcher, or KAFKA_BOOTSTRAP_SERVERS a "
            "broker for the drills that leave it in peace"
        )
    wanted = [known[name] for name in only] if only else list(DRILLS)
    if quick and not only:
        wanted = [drill for drill in wanted if drill.quick]
    if not LAUNCHER:
        wanted = [drill for drill in wanted if not drill.brokers]
    chosen: Guarantee | None = guarantee  # type: ignore[assignment]
    return [replace(drill, guarantee=chosen) if chosen else drill for drill in wanted]


def _say(console: Console, row: Row) -> None:
    verdict = _VERDICTS[row["exact"]] + (f": {row['cause']}" if row["cause"] else "")
    console.print(f"    {verdict}, {row['seconds']:.0f} s", highlight=False)
    for line in row.get("listed", ()) if not row["exact"] else ():
        console.print(f"      {line}", highlight=False, markup=False)


def _keep(rows: list[Row], path: Path) -> None:
    """New rows take the place of those of the same name."""
    kept = json.loads(path.read_text()) if path.exists() else []
    by_name = {row["name"]: row for row in [*kept, *rows]}
    order = [drill.name for drill in DRILLS]
    names = sorted(by_name, key=lambda name: order.index(name) if name in order else len(order))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([by_name[name] for name in names], indent=2) + "\n")


def _table(rows: list[Row]) -> Table:
    table = Table(*COLUMNS, "exact", box=None)
    for row in rows:
        cells = ["-" if row[name] is None else f"{row[name]:,}" if isinstance(row[name], int)
                 else str(row[name]) for name in COLUMNS.values()]  # fmt: skip
        table.add_row(*cells, {True: "[green]yes[/]", False: "[red]no[/]"}.get(row["exact"], "-"))
    return table


if __name__ == "__main__":
    typer.run(main)
