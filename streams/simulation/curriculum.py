"""What the forecaster is taught and examined on: many kinds of sales, and files of real shops."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from models.fit import Exam, Lesson
from models.series import SeriesSet
from streams.simulation.assortment import HOUR_MS, MINUTE_MS, SaleConfig
from streams.simulation.training import file_series, simulated_series

BUCKET_MS: Final = 10_000
USUAL_SALES: Final = 8
OTHER_SALES: Final = 20
FIRST_END_MS: Final = 1_760_000_400_000  # sales end at random hours of the year after it
YEAR_HOURS: Final = 8_760
HELD_OUT_SHARE: Final = 0.25  # of a real file, its last part
EXAM_SEEDS: Final = (900_001, 900_002)
CALIBRATION_SEEDS: Final = (800_001, 800_002, 800_003, 800_004, 800_005, 800_006)


def usual_sale(seed: int, skus: int = 80) -> SaleConfig:
    """Two hours, 1,000 units each, 500 units an hour of demand per SKU."""
    return SaleConfig.ending_at(_end_ms(np.random.default_rng([seed, 3])), 2 * HOUR_MS, skus)


def drawn_sale(seed: int) -> tuple[SaleConfig, int]:
    """Any kind of sale, and the bucket to watch it in."""
    random = np.random.default_rng([seed, 5])
    hours = float(random.choice([1, 2, 3, 4, 6]))
    units = float(np.exp(random.uniform(np.log(30), np.log(2_500))))
    start_to_end = int(hours * HOUR_MS)
    end_ms = _end_ms(random)
    config = SaleConfig(
        sale_start_ms=end_ms - start_to_end,
        sale_end_ms=end_ms,
        skus=60,
        stock_units=max(int(units * hours * random.choice([0.4, 0.8, 1.5, 10.0])), 20),
        units_per_sku_hour=units,
        units_per_order=float(random.uniform(1.2, 6.0)),
        clicks_per_order=float(random.uniform(8, 40)),
        carts_per_order=float(random.uniform(1.5, 6.0)),
        tail=float(random.uniform(0.6, 1.4)),
    )
    return config, int(random.choice([BUCKET_MS, 30_000, MINUTE_MS], p=[0.6, 0.2, 0.2]))


def simulated_lessons(seed: int) -> list[Lesson]:
    """Usual sales, all kinds of others, and two of them with their times hidden."""
    usual = [simulated_series(seed * 1_000 + i, usual_sale(seed * 1_000 + i), BUCKET_MS)
             for i in range(USUAL_SALES)]  # fmt: skip
    others = []
    for i in range(USUAL_SALES, USUAL_SALES + OTHER_SALES):
        config, bucket_ms = drawn_sale(seed * 1_000 + i)
        others.append(simulated_series(seed * 1_000 + i, config, bucket_ms))
    lessons = [Lesson(series, series.buckets) for series in (*usual, *others)]
    hidden = [Lesson(series, series.buckets, told=False) for series in (usual[0], others[0])]
    return [*lessons, *hidden]


def real_series(path: Path, bucket_ms: int) -> tuple[SeriesSet, int]:
    """A file of events, and its first bucket that is held out."""
    series = file_series(path, bucket_ms)
    return series, int(series.buckets * (1 - HELD_OUT_SHARE))


def real_lessons(files: Sequence[tuple[SeriesSet, int]]) -> list[Lesson]:
    """The first part of each."""
    return [Lesson(series, held_out) for series, held_out in files]


def calibration_exams(files: Sequence[tuple[SeriesSet, int]]) -> list[Exam]:
    """What the intervals are first set by: the training part of files, then sales of their own."""
    exams = [
        Exam(f"{series.name}, training part", series.between(0, held_out), held_out // 2)
        for series, held_out in files
    ]
    for number, seed in enumerate(CALIBRATION_SEEDS):
        config, bucket_ms = (usual_sale(seed), BUCKET_MS) if number % 2 else drawn_sale(seed)
        exams.append(Exam(f"simulated sale {seed}", simulated_series(seed, config, bucket_ms)))
    return exams


def exams(files: Sequence[tuple[SeriesSet, int]]) -> list[Exam]:
    """Sales of other seeds (told of the sale's times, and not), and the files' held-out parts."""
    usual = simulated_series(EXAM_SEEDS[0], usual_sale(EXAM_SEEDS[0], 100), BUCKET_MS)
    config, bucket_ms = drawn_sale(EXAM_SEEDS[1])
    other = simulated_series(EXAM_SEEDS[1], config, bucket_ms)
    return [
        Exam("simulated sale of two hours, other seed", usual),
        Exam("the same, sale times unknown", usual, told=False),
        Exam("simulated sale of another kind, other seed", other),
        *(Exam(f"{series.name}, held-out last quarter", series, first) for series, first in files),
    ]


def _end_ms(random: np.random.Generator) -> int:
    return FIRST_END_MS + int(random.integers(YEAR_HOURS)) * HOUR_MS
