"""Rounds to one row a program, a table, and the file."""

import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from rich.table import Table

from benchmarks.throughput.catalogue import Program
from benchmarks.throughput.running import Row

MEASURED = ("events_per_s", "cpu_s_per_million", "rss_mb", "startup_s")


def machine() -> dict[str, Any]:
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gb": round(memory_bytes / 2**30),
        "python": platform.python_version(),
    }


def summary(program: Program, shape: str, rounds: Sequence[Row]) -> Row:
    """Medians; `answer_right` when it was in every round."""
    row: Row = {"program": program.name, "about": program.about, "durable": program.durable}
    row["input"] = shape
    problems = [one["problem"] for one in rounds if "problem" in one]
    measured = [one for one in rounds if one.get("events_per_s") is not None]
    row["version"] = rounds[0].get("version")
    row["events"] = rounds[0].get("events")
    row["answer_right"] = not problems
    for name in MEASURED:
        row[name] = round(median(one[name] for one in measured), 3) if measured else None
    if measured:
        rates = sorted(one["events_per_s"] for one in measured)
        row["events_per_s"] = round(row["events_per_s"])
        row["spread"] = round((rates[-1] - rates[0]) / row["events_per_s"], 3)
    if problems:
        row["problem"] = problems[0]
    return row | {"rounds": list(rounds)}


def with_ratios(rows: list[Row]) -> list[Row]:
    """Each rate over the first of flashcast; how fast the machine was in a round, of its best."""
    base = next((row["events_per_s"] for row in rows if row["program"] == "flashcast"), None)
    calibrated = [one["calibration_s"] for row in rows for one in row["rounds"] if "load" in one]
    for row in rows:
        rate = row["events_per_s"]
        row["of_flashcast"] = round(rate / base, 4) if base and rate else None
        for one in row["rounds"]:
            if "load" in one:
                one["machine_speed"] = round(min(calibrated) / one["calibration_s"], 2)
    return rows


def table(rows: Sequence[Row]) -> Table:
    shown = Table(box=None, header_style="bold")
    for heading in ("program", "version"):
        shown.add_column(heading, no_wrap=heading == "program")
    for heading in (
        "events", "events/s", "spread", "of flashcast", "CPU s\nper million", "peak\nMB",
        "start-up and\nfirst quarter s", "machine\nspeed",
    ):  # fmt: skip
        shown.add_column(heading, justify="right")
    for heading in ("durable", "answer"):
        shown.add_column(heading)
    for row in rows:
        speeds = [one["machine_speed"] for one in row["rounds"] if "machine_speed" in one]
        shown.add_row(
            row["program"] + ("" if row["input"] == "plain" else f", {row['input']}"),
            row["version"] or "-",
            _number(row["events"]),
            _number(row["events_per_s"]),
            "-" if row.get("spread") is None else f"{row['spread']:.0%}",
            "-" if row["of_flashcast"] is None else f"{row['of_flashcast']:.3f}",
            _number(row["cpu_s_per_million"]),
            _number(row["rss_mb"]),
            _number(row["startup_s"]),
            f"{min(speeds):.2f}-{max(speeds):.2f}" if speeds else "-",
            "yes" if row["durable"] else "no",
            "[green]right[/]" if row["answer_right"] else "[red]not right[/]",
        )
    return shown


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"


def write(rows: Sequence[Row], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    about = machine()
    path.write_text(json.dumps([{**row, "machine": about} for row in rows], indent=2) + "\n")
