"""`python -m benchmarks.throughput`: how many events a second, and is the answer right?

One job on one broker: clicks, carts and orders, four partitions each, keyed by SKU, into one record
per active SKU per closed ten-second bucket of event time. Every program runs alone, in a group of
its own and into an output topic of its own, on inputs that were loaded before; rounds are
interleaved, so that a machine that slows down slows down all of them. Every answer is checked.

What is measured, from outside and the same for all:
- Output topics carry the broker's time of arrival. `begin` is when the windows that had arrived
  covered a quarter of the events (of those in buckets that the data itself closes, all but the
  last), `end` when they covered all. The rate is the events covered in between over that time:
  start-up, compilation and warm-up are outside it, and partitions may come as unevenly as they do.
  A program that reads the three topics unevenly has up to a fifth of the work of later windows
  behind it at `begin`, which flatters it by at most a quarter; flashcast reads them evenly.
  In a transaction a record arrives before it is committed: at most one checkpoint earlier.
- CPU seconds of all the program's processes over the same stretch, broker excluded; their greatest
  resident memory in the whole run, shared pages counted in each process.
- `startup_s` is from the start of the process to `begin`.
- The ceilings write nothing, so they time themselves from a quarter of the events to all of them.
- Where there are several rounds, the first program runs once beforehand, unmeasured.
- Before each run a fixed piece of work is timed: `machine speed` 0.80 means that it took a quarter
  longer than in the best moment of the whole bench.

Needs Apache Kafka: FLASHCAST_TEST_KAFKA names the launcher; programs in Java run on its jars. With
KAFKA_BOOTSTRAP_SERVERS that broker is used. The exit code is 0 when every answer was right.
"""

import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.drills.brokers import LAUNCHER, Cluster, Foreign
from benchmarks.throughput.catalogue import CATALOGUE, NotAvailableError, Program, chosen
from benchmarks.throughput.report import summary, table, with_ratios, write
from benchmarks.throughput.running import Bench, Row
from benchmarks.throughput.topics import SHAPES
from benchmarks.throughput.venvs import InstallError, is_installed

RESULTS = Path(__file__).parents[1] / "results" / "throughput.json"
REPORT_WIDTH = 160  # where no terminal says
QUICK_EVENTS = 200_000


def main(
    program: Annotated[list[str] | None, typer.Option(help="This one; may be repeated.")] = None,
    events: Annotated[int, typer.Option(help="How many; slow programs get fewer.")] = 4_000_000,
    rounds: Annotated[int, typer.Option(min=1, help="Of which medians are taken.")] = 3,
    input_: Annotated[
        list[str] | None,
        typer.Option(
            "--input", help=f"How it was produced: {', '.join(SHAPES)}; may be repeated. [plain]"
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option(help="200,000 events, one round, what is installed already.")
    ] = False,
    list_: Annotated[bool, typer.Option("--list", help="Say what there is, and end.")] = False,
    results: Annotated[
        Path | None, typer.Option(help="Where rows go; by default only those of a whole run do.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The rows on stdout.")] = False,
    keep: Annotated[bool, typer.Option(help="Keep logs and state.")] = False,
) -> None:
    """The same job on flashcast and on other programs."""
    console = Console(stderr=as_json, width=None if sys.stdout.isatty() else REPORT_WIDTH)
    if list_:
        for one in CATALOGUE:
            console.print(f"[bold]{one.name}[/]  {one.about}", highlight=False)
        return
    if not LAUNCHER and not os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        raise typer.BadParameter("neither FLASHCAST_TEST_KAFKA nor KAFKA_BOOTSTRAP_SERVERS is set")
    try:
        wanted = chosen(program)
    except KeyError as error:
        raise typer.BadParameter(f"no program is called {error}: see --list") from None
    shapes = input_ or ["plain"]
    if unknown := set(shapes) - set(SHAPES):
        raise typer.BadParameter(f"--input {', '.join(unknown)}: there are {', '.join(SHAPES)}")
    if quick:
        events, rounds = QUICK_EVENTS, 1
        if not program:
            wanted = [one for one in wanted if one.quick and is_installed(one.requirements)]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with _folder(keep, console) as folder, _broker(folder) as address:
        runs = [(one, shape) for one in wanted for shape in shapes]
        rows = _measured(Bench(address, folder), runs, events, rounds, console)
    console.print(table(rows))
    if results or not (program or quick or input_):
        write(rows, results or RESULTS)
    if as_json:
        print(json.dumps(rows, indent=2))
    raise typer.Exit(0 if all(row["answer_right"] for row in rows) else 1)


def _measured(
    bench: Bench, runs: list[tuple[Program, str]], events: int, rounds: int, console: Console
) -> list[Row]:
    found: list[list[Row]] = [[] for _ in runs]
    if rounds > 1:  # a broker just started is slow, and whoever comes first would pay for it
        _run(bench, runs[0][0], events, rounds, runs[0][1])
    for number in range(rounds):
        for (one, shape), rows in zip(runs, found, strict=True):
            row = _run(bench, one, events, number, shape)
            rows.append(row)
            rate = row.get("events_per_s")
            said = f"{rate:,} events/s" if rate else "no rate"
            said += f", {row['problem'][:300]}" if "problem" in row else ", right"
            console.print(
                f"round {number + 1}/{rounds} {one.name}, {shape}: {said}",
                markup=False,
                highlight=False,
            )
    return with_ratios(
        [summary(one, shape, rows) for (one, shape), rows in zip(runs, found, strict=True)]
    )


def _run(bench: Bench, program: Program, events: int, number: int, shape: str) -> Row:
    """A program that cannot be installed has a row all the same."""
    try:
        return bench.run(program, events, number, shape) | {"version": program.version()}
    except (InstallError, NotAvailableError) as error:
        return {"events": None, "answer_right": False, "problem": str(error)}


@contextmanager
def _folder(keep: bool, console: Console) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="flashcast-throughput-"))
    try:
        yield folder
    finally:
        if keep:
            console.print(f"logs and state: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _broker(folder: Path) -> Iterator[str]:
    if named := os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        yield Foreign(named).bootstrap_servers
        return
    cluster = Cluster(folder / "kafka")
    try:
        cluster.start()
        yield cluster.bootstrap_servers
    finally:
        cluster.stop(kill=True)


if __name__ == "__main__":
    typer.run(main)
