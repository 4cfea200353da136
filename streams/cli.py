"""The command line. Every command loads what it needs when it runs, so that `--help` is quick."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from streams.errors import ConfigurationError, FlashcastError
from streams.settings import Settings, load

KINDS = ("click", "cart", "order")
EXIT_CONFIGURATION = 2
EXIT_UNDONE = 3  # 1 is an answer: what was looked for, or looked at, is wrong
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
    "FLASHCAST_CONFIG names; the README has the table. Exit codes: 0 done; 1 done, and something "
    "is wrong; 2 mend a setting, a right or a topic first; 3 not done, as without a broker.",
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
        _complain(error, EXIT_UNDONE)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


def _complain(error: Exception, code: int) -> None:
    print(f"flashcast: {error}", file=sys.stderr)
    if "--json" in sys.argv:
        print(json.dumps({"error": str(error), "exit_code": code}))
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
    speed: Annotated[str, typer.Option(help="Seconds of event time per second, or `max`.")] = "max",
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
    word: Annotated[
        list[str] | None, typer.Option(help="The file's word for a kind: --word view=click.")
    ] = None,
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
        types=_words(word or []),
        only_type=None if only is None else _one_of("--only", only, KINDS),
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


def _words(pairs: list[str]) -> dict[str, str]:
    words = {}
    for pair in pairs:
        word, _, kind = pair.partition("=")
        words[word] = _one_of(f"--word {pair!r}: kind", kind, KINDS)
    return words


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


@app.command()
def simulate(
    skus: Skus = 200,
    seed: Seed = 7,
    hours: Annotated[float, typer.Option(min=0.05, max=48, help="Length of the sale.")] = 2.0,
    speed: Annotated[str, typer.Option(help="Seconds of the sale per second, or `max`.")] = "max",
    file: Annotated[
        Path | None, typer.Option(help="Write a Parquet file instead of publishing.")
    ] = None,
    dirt: Annotated[
        float, typer.Option(min=0, max=0.5, help="Spoilt records of every kind, a good one each.")
    ] = 0.0,
    json: Json = False,
) -> None:
    """Publish a seeded sale in which nobody decides anything, or write it to a file."""
    import time
    from dataclasses import fields

    from streams.simulation.assortment import HOUR_MS, SaleConfig
    from streams.simulation.dirt import DirtRates
    from streams.simulation.simulate import run_simulate

    now_ms = time.time_ns() // 1_000_000
    config = SaleConfig.ending_at(now_ms, duration_ms=int(hours * HOUR_MS), skus=skus)
    rates = DirtRates(**{field.name: dirt for field in fields(DirtRates)}) if dirt else None
    code = run_simulate(
        _settings(), config, seed, speed=_speed(speed), rates=rates, file=file, json_output=json
    )
    raise typer.Exit(code)


@app.command(name="simulate-faults")
def simulate_faults(
    seeds: Annotated[int, typer.Option(min=1, help="How many runs.")] = 100,
    first: Annotated[int, typer.Option(min=0, help="The first of them.")] = 1,
    trace: Annotated[bool, typer.Option("--trace", help="Say what happened in each.")] = False,
    jobs: Annotated[
        int, typer.Option(min=0, help="Processes that share them; 0: one for each processor.")
    ] = 0,
    json: Json = False,
) -> None:
    """Run workers through crashes, zombies, lost answers and spoilt disks, in simulation, and check
    that everything counted exactly once. Needs no broker.
    """
    from streams.faults.command import run_faults

    raise typer.Exit(run_faults(seeds, first, trace, jobs, json))


@app.command()
def train(
    out: Annotated[Path, typer.Argument(help="Weights to write (.safetensors), card beside them.")],
    files: Annotated[
        list[Path] | None,
        typer.Option("--file", exists=True, dir_okay=False, help="Real events to learn from too."),
    ] = None,
    seed: Seed = 1,
    steps: Annotated[int, typer.Option(min=1, help="Training steps.")] = 3_000,
    json: Json = False,
) -> None:
    """Train the forecaster on simulated sales and on files of real events."""
    from streams.model_life import run_train

    raise typer.Exit(run_train(out, files or [], seed, steps, json))


@app.command()
def backtest(
    files: Annotated[
        list[Path] | None,
        typer.Option("--file", exists=True, dir_okay=False, help="Judge on its last quarter."),
    ] = None,
    seed: Seed = 900_001,
    json: Json = False,
) -> None:
    """Hold the forecaster against plain methods, on files of real events or on a simulated sale."""
    from streams.model_life import run_backtest

    raise typer.Exit(run_backtest(_settings(), files or [], seed, json))


@app.command()
def models(json: Json = False) -> None:
    """Say which weights a worker would use, where they come from and how good they were."""
    from streams.model_life import run_models

    raise typer.Exit(run_models(_settings(), json))


@app.command()
def schema(
    topic: Annotated[str | None, typer.Argument(help="One topic; all if none is named.")] = None,
    asyncapi: Annotated[
        bool, typer.Option("--asyncapi", help="The AsyncAPI document of all topics.")
    ] = False,
) -> None:
    """Print the wire contract: JSON Schemas of the records, or an AsyncAPI document."""
    from streams.schema import run_schema

    form = "asyncapi" if asyncapi else "json-schema"
    raise typer.Exit(run_schema(form, topic, _settings().topic_prefix))


@topics_app.command()
def create(
    replication: Annotated[
        int | None, typer.Option(min=1, help="Copies of each; 3 where there are brokers for it.")
    ] = None,
    json: Json = False,
) -> None:
    """Create what is missing, as it must be; what is there stays as it is and is checked."""
    from streams.topic_admin import run_create

    raise typer.Exit(run_create(_settings(), replication, json))


@topics_app.command()
def check(json: Json = False) -> None:
    """Say what does not fit: partitions, clean-up, retention, timestamps (exit code 1)."""
    from streams.topic_admin import run_check

    raise typer.Exit(run_check(_settings(), json))


@topics_app.command()
def describe(json: Json = False) -> None:
    """Show every topic as it is on the broker."""
    from streams.topic_admin import run_describe

    raise typer.Exit(run_describe(_settings(), json))


@topics_app.command()
def acls(
    role: Annotated[
        str | None, typer.Argument(help="admin, worker, shop, dashboard, ...; all if none is named")
    ] = None,
    principal: Annotated[
        str | None, typer.Option(help="Whom to grant it; User:flashcast-ROLE.")
    ] = None,
    json: Json = False,
) -> None:
    """Print the least rights that each role needs on a Kafka with ACLs, as kafka-acls commands."""
    from streams.acls import ROLES, run_acls

    roles = list(ROLES) if role is None else [_one_of("role", role, tuple(ROLES))]
    raise typer.Exit(run_acls(_settings(), roles, principal, json))


@topics_app.command()
def rekey(
    target_prefix: Annotated[str, typer.Argument(help="Prefix of the copies' names.")],
    source_prefix: Annotated[
        str | None, typer.Option(help="Prefix of the topics to copy; FLASHCAST_TOPIC_PREFIX.")
    ] = None,
    json: Json = False,
) -> None:
    """Copy the input topics, each record to the partition where its key belongs under
    FLASHCAST_PARTITIONER.
    """
    from streams.topic_rekey import run_rekey

    settings = _settings()
    source = settings.topic_prefix if source_prefix is None else source_prefix
    raise typer.Exit(run_rekey(settings, source, target_prefix, json))


if __name__ == "__main__":
    main()
