"""The command line. Every command loads what it needs when it runs, so that `--help` is quick."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from streams.errors import ConfigurationError, FlashcastError
from streams.settings import Settings, load

EXIT_FAILED = 1
EXIT_CONFIGURATION = 2
EXIT_INTERRUPTED = 130

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

Json = Annotated[bool, typer.Option("--json", help="One JSON object, for machines.")]
Seed = Annotated[int, typer.Option(help="The same seed gives the same sale.")]
Skus = Annotated[int, typer.Option(min=1, max=100_000, help="Products in the sale.")]


def main() -> None:
    """Entry point: our own errors end with a message that says what to do, not a traceback."""
    try:
        app()
    except ConfigurationError as error:
        _complain(error, EXIT_CONFIGURATION)
    except FlashcastError as error:
        _complain(error, EXIT_FAILED)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


def _complain(error: Exception, code: int) -> None:
    print(f"flashcast: {error}", file=sys.stderr)
    sys.exit(code)


def _settings(**overrides: Any) -> Settings:
    """Settings of this command, with its log lines on stderr."""
    from streams import logs

    settings = load(**overrides)
    logs.configure(settings)
    return settings


@app.command()
def demo(
    skus: Skus = 200,
    seed: Seed = 7,
    minutes: Annotated[
        float, typer.Option(min=0.2, max=120, help="Wall time that the two-hour sale takes.")
    ] = 2.2,
    json: Json = False,
) -> None:
    """Run a whole sale on this machine: broker, simulated shop, worker, live page, summary.

    With KAFKA_BOOTSTRAP_SERVERS set, on that broker.
    """
    from streams.demo.run import run_demo

    raise typer.Exit(run_demo(skus, seed, minutes, json))


@app.command()
def worker(
    without_forecasts: Annotated[
        bool, typer.Option("--without-forecasts", help="Windows alone: no forecast, no decision.")
    ] = False,
) -> None:
    """Run one worker: agents, windows, forecasts, decisions; /livez, /readyz, /metrics and
    /v1/capacity/{service}. Start as many as there are partitions to share.
    """
    from streams.app import run_worker

    overrides = {"forecasting": False, "deciding": False} if without_forecasts else {}
    raise typer.Exit(run_worker(_settings(**overrides)))


@app.command()
def dashboard() -> None:
    """Serve the live page of a sale, from the output topics."""
    from streams.web.dashboard import run_dashboard

    raise typer.Exit(run_dashboard(_settings()))


@app.command()
def replay(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True)],
    speed: Annotated[
        str, typer.Option(help="Seconds of event time per second, or `max`.")
    ] = "max",
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many rows.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Look the file over only.")] = False,
    time: Annotated[str, typer.Option(help="Column of the event's time.")] = "ts",
    time_unit: Annotated[str, typer.Option(help="s, ms, us, ns or auto.")] = "auto",
    type_: Annotated[str, typer.Option("--type", help="Column of the kind of event.")] = "type",
    sku: Annotated[str, typer.Option(help="Column of the SKU.")] = "sku",
    user: Annotated[str, typer.Option(help="Column of the shopper.")] = "user",
    price: Annotated[str, typer.Option(help="Column of the price, in whole currency.")] = "price",
    quantity: Annotated[str, typer.Option(help="Column of the quantity.")] = "qty",
    session: Annotated[str, typer.Option(help="Column of the session.")] = "session",
    order_id: Annotated[str, typer.Option(help="Column of the order.")] = "order_id",
    only: Annotated[
        str | None, typer.Option(help="Every row is a click, a cart or an order.")
    ] = None,
    json: Json = False,
) -> None:
    """Publish a Parquet, CSV or JSONL file of shop events into the topics."""
    from streams.event_file import ColumnNames
    from streams.replay import run_replay

    names = ColumnNames(
        time=time,
        type=type_,
        sku=sku,
        user=user,
        price=price,
        quantity=quantity,
        session=session,
        order_id=order_id,
        time_unit=_one_of("--time-unit", time_unit, ("auto", "s", "ms", "us", "ns")),
        only_type=only,
    )
    code = run_replay(
        _settings(),
        file,
        names,
        speed=_speed(speed),
        limit=limit,
        dry_run=dry_run,
        json_output=json,
    )
    raise typer.Exit(code)


def _one_of(option: str, value: str, allowed: tuple[str, ...]) -> Any:
    if value not in allowed:
        raise ConfigurationError(f"{option} {value!r}: one of {', '.join(allowed)}")
    return value


def _speed(text: str) -> float | None:
    if text == "max":
        return None
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0.0 < speed < float("inf"):
        raise ConfigurationError(f"--speed {text!r}: a number above 0, or `max`")
    return speed


@app.command()
def reconcile(
    wait_s: Annotated[
        float, typer.Option(min=0, help="Wait so long for the workers to reach the input's end.")
    ] = 0.0,
    json: Json = False,
) -> None:
    """Recompute every window plainly from the log and compare: exact, or the differences (exit
    code 1).
    """
    from streams.reconcile import run_reconcile

    raise typer.Exit(run_reconcile(_settings(), json, wait_s=wait_s))


@app.command()
def tail(
    topics: Annotated[
        list[str] | None, typer.Argument(help="Output topics; the decisions if none is named.")
    ] = None,
    follow: Annotated[bool, typer.Option(help="Go on with what comes.")] = True,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Show decisions as they come."""
    from streams.tail import run_tail

    raise typer.Exit(run_tail(_settings(), topics or [], json, follow))


if __name__ == "__main__":
    main()
