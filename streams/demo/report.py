"""The end of a demo: what went in, what came out, and what the decisions were worth."""

import urllib.request
from typing import Any, Final

from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.table import Table

from streams.demo.scoring import BASELINES, END_OF_SALE
from streams.topics import DEAD_LETTERS, LATE_EVENTS

METHODS: Final = ("flashcast", *BASELINES)
MINUTE_MS: Final = 60_000


def worker_metrics(worker_url: str) -> dict[str, float]:
    """Event counts by verdict, and lag, from the worker's `/metrics`."""
    with urllib.request.urlopen(f"{worker_url}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    totals: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "flashcast_events_total":
                verdict = sample.labels["verdict"]
                totals[verdict] = totals.get(verdict, 0) + sample.value
            elif sample.name == "flashcast_consumer_lag_records":
                totals["lag"] = totals.get("lag", 0) + sample.value
    return totals


def print_summary(console: Console, summary: dict[str, Any]) -> None:
    """The summary as tables."""
    console.print()
    console.print(_flow(summary))
    console.print(_forecasts(summary["forecasts"]))
    console.print(_worth(summary["with_decisions"], summary["without_decisions"]))
    if summary["exact"]:
        console.print("[bold green]every event was counted once, every spoilt one accounted for[/]")
    else:
        console.print("[bold red]the counts above differ: this must not happen[/]")


def _flow(summary: dict[str, Any]) -> Table:
    title = f"{summary['broker']}, {summary['processing_guarantee']}"
    table = Table(title=title, show_header=False)
    table.add_column("what")
    table.add_column("count", justify="right")
    table.add_row("events published", f"{summary['events_published']:,}")
    table.add_row("events in the windows", f"{summary['events_processed']:,}")
    for outcome, spoilt in summary["spoilt"].items():
        found = summary["found"][outcome]
        name = outcome.replace("_", " ")
        table.add_row(f"{name}, spoilt on purpose / found", f"{spoilt:,} / {found:,}")
    for name, count in summary["outputs"].items():
        if count and name not in (LATE_EVENTS, DEAD_LETTERS):
            table.add_row(name, f"{count:,}")
    table.add_row("seconds", f"{summary['seconds']:.1f}")
    return table


def _forecasts(scores: list[dict[str, Any]]) -> Table:
    table = Table(title="forecast error (WAPE) against what shoppers wanted")
    table.add_column("horizon", justify="right")
    for method in METHODS:
        table.add_column(method, justify="right")
    table.add_column("within 5-95 %", justify="right")
    for one in scores:
        best = min(one["wape"].values())
        cells = [
            f"[bold]{one['wape'][method]:.3f}[/]"
            if one["wape"][method] == best
            else f"{one['wape'][method]:.3f}"
            for method in METHODS
        ]
        ahead = one["horizon_ms"]
        name = "end of sale" if ahead == END_OF_SALE else f"{ahead // MINUTE_MS} min"
        table.add_row(name, *cells, f"{one['coverage']:.1%}")
    return table


def _worth(decided: dict[str, Any], alone: dict[str, Any]) -> Table:
    table = Table(title="the sale, with our decisions and with none (same seed)")
    for heading in ("", "with", "without", "difference"):
        table.add_column(heading, justify="right" if heading else "left")
    money = {"revenue_cents": "revenue", "margin_cents": "margin"}
    for field, name in money.items():
        with_, without = decided[field] / 100, alone[field] / 100
        change = (with_ - without) / max(abs(without), 1e-9)
        table.add_row(name, f"{with_:,.0f}", f"{without:,.0f}", f"{change:+.1%}")
    counts = {
        "units_sold": "units sold",
        "units_lost_to_stock": "units lost to empty shelves",
        "units_lost_to_capacity": "units lost to missing servers",
        "units_left": "units left over",
        "restocks": "restocks",
        "price_changes": "price changes",
    }
    for field, name in counts.items():
        difference = decided[field] - alone[field]
        table.add_row(name, f"{decided[field]:,}", f"{alone[field]:,}", f"{difference:+,}")
    shares = {
        "sell_through": "sell-through",
        "fill_rate": "fill rate",
        "requests_lost_share": "requests lost",
    }
    for field, name in shares.items():
        difference = decided[field] - alone[field]
        table.add_row(name, f"{decided[field]:.1%}", f"{alone[field]:.1%}", f"{difference:+.1%}")
    return table
