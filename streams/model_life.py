"""The forecaster's life from the command line: train, backtest, and what weights are at hand."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Final

import orjson
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from models.backtest import MODEL
from models.card_text import render
from models.errors import ModelError
from models.fit import Exam, Stage, examine, fit, summary
from models.forecaster import Forecaster
from models.series import SeriesSet
from models.train import TrainConfig
from models.weights_file import SHIPPED, ModelCard, card_of, read_card
from streams.errors import ConfigurationError
from streams.settings import Settings
from streams.simulation import curriculum
from streams.simulation.training import simulated_series

FUNNEL_BUCKET_MS: Final = 300_000  # of a file with clicks
ORDERS_BUCKET_MS: Final = 3_600_000  # of a file of orders alone, which are sparse
SALE_SKUS: Final = 100
HORIZON_ORDER: Final = ("1min", "5min", "15min", "60min", "end", "load 1min", "load 5min")


def run_train(
    out: Path,
    files: list[Path],
    seed: int,
    steps: int,
    json_output: bool,
) -> int:
    """Train on simulated sales and the first part of real `files`; write weights and model card.

    Deterministic for a seed on one machine. Returns 0.
    """
    torch.set_num_threads(1)  # as deterministic as it is quick: the batches are small
    console = Console(stderr=json_output)
    console.print(f"seed {seed}, {steps} steps, {len(files)} files of real events")
    with _stages(console) as stage:
        stage("simulating sales", 0, 1)
        real = [_real(path) for path in files]
        card = fit(
            [*curriculum.simulated_lessons(seed), *curriculum.real_lessons(real)],
            curriculum.calibration_exams(real),
            curriculum.exams(real),
            TrainConfig(seed=seed, steps=steps),
            out,
            stage,
        )
    if json_output:
        print(orjson.dumps(asdict(card)).decode())
    else:
        console.print(render(card))
        console.print(f"weights: {out}, model card: {card_of(out)}")
    return 0


def run_backtest(
    settings: Settings,
    files: list[Path],
    seed: int,
    json_output: bool,
) -> int:
    """Hold the weights against plain methods: on the held-out part of files, else on a sale."""
    torch.set_num_threads(1)
    console = Console(stderr=json_output)
    forecaster = _forecaster(settings)
    with _stages(console) as stage:
        stage("reading series", 0, 1)
        if files:
            real = [_real(path) for path in files]
            exams = [Exam(series.name, series, held_out) for series, held_out in real]
        else:
            sale = curriculum.usual_sale(seed, SALE_SKUS)
            series = simulated_series(seed, sale, curriculum.BUCKET_MS)
            exams = [Exam(f"simulated sale of two hours, seed {seed}", series)]
        reports = {exam.name: examine(exam, forecaster, stage, "backtest") for exam in exams}
    results = {name: summary(report) for name, report in reports.items()}
    if json_output:
        print(orjson.dumps({"version": forecaster.version, "series": results}).decode())
        return 0
    for name, report in reports.items():
        for measure in ("wape", "pinball", "rmsse", "coverage90"):
            console.print(_table(f"{name}: {measure}", report.scores, measure))
    return 0


def run_models(settings: Settings, json_output: bool) -> int:
    """Which weights a worker would use, where they come from, and how good they were."""
    path = settings.weights_file or SHIPPED
    try:
        card: ModelCard = read_card(path)
        _forecaster(settings)
    except ModelError as error:
        raise ConfigurationError(str(error)) from None
    if json_output:
        print(orjson.dumps({"file": str(path), **asdict(card)}).decode())
    else:
        console = Console()
        console.print(f"[bold]{card.version}[/] from {path}")
        console.print(render(card))
    return 0


def _real(path: Path) -> tuple[SeriesSet, int]:
    series, held_out = curriculum.real_series(path, FUNNEL_BUCKET_MS)
    if series.clicks.any():
        return series, held_out
    return curriculum.real_series(path, ORDERS_BUCKET_MS)


def _forecaster(settings: Settings) -> Forecaster:
    try:
        return Forecaster.load(settings.weights_file, settings.device)
    except ModelError as error:
        raise ConfigurationError(f"FLASHCAST_WEIGHTS_FILE: {error}") from None


def _table(title: str, scores: dict[str, dict[str, dict[str, float]]], measure: str) -> Table:
    """One row a horizon, one column a method; the best in bold."""
    table = Table(title=title)
    table.add_column("horizon")
    methods = sorted({name for row in scores.values() for name in row}, key=lambda n: n != MODEL)
    for method in methods:
        table.add_column(method, justify="right")
    for horizon in (name for name in HORIZON_ORDER if name in scores):
        values = {name: row[measure] for name, row in scores[horizon].items() if measure in row}
        best = min(values.values(), default=None) if measure != "coverage90" else None
        cells = [_cell(values.get(method), best) for method in methods]
        table.add_row(horizon, *cells)
    return table


def _cell(value: float | None, best: float | None) -> str:
    if value is None:
        return ""
    return f"[bold]{value:.4g}[/]" if value == best else f"{value:.4g}"


@contextmanager
def _stages(console: Console) -> Iterator[Stage]:
    """A progress bar whose text says what is going on."""
    columns = (TextColumn("{task.description:<32}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        task = progress.add_task("", total=None)

        def stage(what: str, done: int, of: int) -> None:
            progress.update(task, description=what, completed=done, total=of)

        yield stage
