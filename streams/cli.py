"""The command line. Every command loads what it needs when it runs, so that `--help` is quick."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from streams.errors import ConfigurationError, FlashcastError
from streams.settings import Settings, load

EXIT_CONFIGURATION = 2
EXIT_FAILED = 1

app = typer.Typer(
    name="flashcast",
    help="The stream processor that runs a flash sale: demand windows, forecasts, restocks, "
    "prices and capacity from Kafka topics of clicks, carts and orders.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog="Configuration: KAFKA_BOOTSTRAP_SERVERS, FLASHCAST_* or the TOML file that "
    "FLASHCAST_CONFIG names; the README has the table.",
)
topics_app = typer.Typer(help="Create, check and repair the topics.", no_args_is_help=True)
app.add_typer(topics_app, name="topics")

Json = Annotated[
    bool, typer.Option("--json", help="One JSON object on the last line, for machines.")
]
Seed = Annotated[int, typer.Option(help="The same seed gives the same sale.")]


def main() -> None:
    """Entry point: errors of ours end with a message that says what to do, not with a traceback."""
    try:
        app()
    except ConfigurationError as error:
        print(f"flashcast: {error}", file=sys.stderr)
        sys.exit(EXIT_CONFIGURATION)
    except FlashcastError as error:
        print(f"flashcast: {error}", file=sys.stderr)
        sys.exit(EXIT_FAILED)


def _finish(code: int) -> None:
    raise typer.Exit(code)


@app.command()
def worker(
    without_forecasts: Annotated[
        bool, typer.Option("--without-forecasts", help="Windows alone: no forecasts, no decisions.")
    ] = False,
) -> None:
    """Run one worker: agents, windows, forecasts, decisions, and its /livez, /readyz, /metrics and
    /v1/capacity/{service}. Start as many as there are partitions to share.
    """
    from streams.app import run_worker

    overrides: dict[str, Any] = {}
    if without_forecasts:
        overrides = {"forecasting": False, "deciding": False}
    _finish(run_worker(load(**overrides)))
