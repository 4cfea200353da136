"""A whole training run: lessons, training, calibration, exams, weights with their model card.

`flashcast train` fills the lessons from simulated sales and files of real shops.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from models.backtest import MODEL, Report, backtest
from models.calibration import nominal
from models.card_text import render
from models.forecaster import Forecaster
from models.series import SeriesSet
from models.train import TrainConfig, train
from models.training_set import build
from models.weights_file import ModelCard, save_weights

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 3_600_000
FORECASTS_MAX: Final = 2_000_000
SCORES: Final = ("wape", "pinball")  # on which a plain method may win: said in the card

Stage = Callable[[str, int, int], None]  # what is going on, done, of how many


@dataclass(frozen=True)
class Lesson:
    """A series to learn from, up to `end_bucket`. `told` false: the sale's times are hidden."""

    series: SeriesSet
    end_bucket: int
    told: bool = True
    samples_max: int = 120_000


@dataclass(frozen=True)
class Exam:
    """A series to be judged on, from `first_bucket` on; nothing of it was learned from."""

    name: str
    series: SeriesSet
    first_bucket: int = 0
    told: bool = True


def origin_buckets(bucket_ms: int) -> int:
    """Forecast every minute of a sale, every hour of a shop in longer buckets; every fifth bucket
    of an hour or more, which visits all hours of the day.
    """
    if bucket_ms <= MINUTE_MS:
        return MINUTE_MS // bucket_ms
    return HOUR_MS // bucket_ms if bucket_ms < HOUR_MS else 5


def fit(
    lessons: Sequence[Lesson],
    calibration: Sequence[Exam],
    exams: Sequence[Exam],
    config: TrainConfig,
    path: Path,
    stage: Stage = lambda _what, _done, _all: None,
) -> ModelCard:
    """Trains, calibrates, examines, writes `path`, its card (.json) and the card as text (.md).

    Learns from demand itself where a series knows it, else from sales, censored. The exams run
    with the calibrated forecaster, as shipped.
    """
    sets = []
    for number, lesson in enumerate(lessons):
        stage("reading lessons", number, len(lessons))
        series = lesson.series.between(0, lesson.end_bucket)
        sets.append(
            build(
                series,
                seed=config.seed * 1_000 + number,
                origin_buckets=origin_buckets(series.bucket_ms),
                samples_max=lesson.samples_max,
                told=lesson.told,
                truth=True,
            )
        )
    stage("reading lessons", len(lessons), len(lessons))
    network, trained = train(
        sets, config, lambda progress: stage("training", progress.step, progress.steps)
    )
    forecaster = Forecaster(network, nominal(), "in training")
    for exam in calibration:
        report = examine(exam, forecaster, stage, "calibrating")
        forecaster.calibration = report.memory.calibrator.state
    metrics = {}
    for exam in exams:
        report = examine(exam, forecaster, stage, "examining")
        metrics[exam.name] = summary(report)
    card = save_weights(path, network, forecaster.calibration, trained, metrics)
    path.with_suffix(".md").write_text(render(card))
    return card


def examine(exam: Exam, forecaster: Forecaster, stage: Stage, what: str) -> Report:
    """The exam's backtest; of a long series so few origins that memory holds all forecasts."""
    series = exam.series
    every = origin_buckets(series.bucket_ms)
    forecasts = series.skus * (series.buckets - exam.first_bucket) // every
    if forecasts > FORECASTS_MAX:
        every = every * -(-forecasts // FORECASTS_MAX) | 1  # odd: visits all hours of the day
    return backtest(
        series,
        forecaster,
        origin_buckets=every,
        first_bucket=exam.first_bucket,
        told=exam.told,
        progress=lambda done, of: stage(f"{what}: {exam.name}", done, of),
    )


def summary(report: Report) -> dict[str, Any]:
    """Scores rounded, and where a plain method did better."""
    rounded = {
        horizon: {
            method: {key: _rounded(value) for key, value in measures.items()}
            for method, measures in methods.items()
        }
        for horizon, methods in report.scores.items()
    }
    return {
        "forecasts": report.forecasts,
        "fallback_share": _rounded(report.fallback_share),
        "scores": rounded,
        "beaten_by": beaten_by(report.scores),
    }


def beaten_by(scores: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[str]:
    """`horizon measure method` wherever a plain method is better."""
    return [
        f"{horizon} {measure} {method}"
        for horizon, methods in scores.items()
        for measure in SCORES
        for method, measures in methods.items()
        if method != MODEL and measures[measure] < methods[MODEL][measure]
    ]


def _rounded(value: float) -> float:
    """Four significant digits."""
    return float(np.format_float_positional(value, 4, fractional=False, unique=False))
