"""From series to what the network learns from: tracks of steps, and samples asked along them.

A track is one SKU's active buckets in order; a sample is one origin, the last step before it, what
the head is asked there and what happened after. All of it is made by the serving code
(`playback`, `ForecastMemory`, `features`), so that nothing is seen in training that is not served.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.calibration import nominal
from models.forecaster import Forecaster
from models.gru import Network, NetworkConfig
from models.memory import ForecastMemory
from models.playback import play, time_left_ms
from models.prediction import load_window_ms
from models.row_state import HORIZONS_MS, LOAD_LEADS_MS
from models.series import SeriesSet
from models.series_sums import SeriesSums

Array = NDArray[Any]

SAMPLE_COLUMNS: Final = (
    "query", "components", "loads", "stretch", "length", "load_stretch", "load_length",
    "units", "censored", "asked", "kinds", "kinds_asked",
)  # fmt: skip


@dataclass
class TrainingSet:
    """Tracks and samples of one series; steps and samples sorted by SKU, then time."""

    name: str
    features: Array  # f32[steps, F]
    track_begin: Array  # i8[tracks + 1] into steps
    sample_step: Array  # i8[samples] last step before the origin
    columns: dict[str, Array]  # SAMPLE_COLUMNS, [samples, ...]

    @property
    def samples(self) -> int:
        return len(self.sample_step)


def build(
    series: SeriesSet,
    *,
    seed: int,
    origin_buckets: int,
    samples_max: int = 200_000,
    told: bool = True,
    truth: bool = False,
) -> TrainingSet:
    """Asks every `origin_buckets` buckets of every SKU seen so far, at most `samples_max` times.

    `told` false hides the sale's times; `truth`: learn from demand itself where it is known.
    """
    random = np.random.default_rng(seed)
    blank = Forecaster(Network(NetworkConfig()), nominal(), "untrained")
    memory = ForecastMemory(blank, series.skus)
    steps, step_sku = [], []
    asked: list[dict[str, Array]] = []
    last_step = np.full(series.skus, -1)
    share = min(1.0, samples_max * origin_buckets / max(series.skus * series.buckets, 1))
    count = 0
    for played in play(series, told):
        if played.inputs is not None:
            steps.append(memory.observe(played.rows, played.inputs))
            step_sku.append(played.rows)
            last_step[played.rows] = count + np.arange(len(played.rows))
            count += len(played.rows)
        if played.bucket % origin_buckets == origin_buckets - 1:
            rows = np.nonzero((last_step >= 0) & (random.random(series.skus) < share))[0]
            if len(rows):
                asked.append(_ask(series, memory, rows, played.bucket + 1, told))
                asked[-1]["step"] = last_step[rows]
    return _sorted(series, steps, step_sku, asked, truth)


def _ask(
    series: SeriesSet, memory: ForecastMemory, rows: Array, first: int, told: bool
) -> dict[str, Array]:
    """What the head is asked for `rows` at the begin of bucket `first`."""
    origin_ms = series.start_ms + first * series.bucket_ms
    left = time_left_ms(series, rows, origin_ms, told)
    asked = memory.ask(rows, origin_ms, left)
    return {"sku": rows, "first": np.full(len(rows), first), "left": left, **asked._asdict()}


def _sorted(
    series: SeriesSet,
    steps: list[Array],
    step_sku: list[Array],
    asked: list[dict[str, Array]],
    truth: bool,
) -> TrainingSet:
    """Steps regrouped by SKU, samples by their last step, outcomes looked up."""
    sku_of = np.concatenate(step_sku)
    order = np.argsort(sku_of, kind="stable")
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    columns = {key: np.concatenate([part[key] for part in asked]) for key in asked[0]}
    columns["step"] = place[columns["step"]]
    by_step = np.argsort(columns["step"], kind="stable")
    columns = {key: column[by_step] for key, column in columns.items()}
    _add_outcomes(series, columns, truth)
    return TrainingSet(
        name=series.name,
        features=np.concatenate(steps)[order],
        track_begin=np.searchsorted(sku_of[order], np.arange(series.skus + 1)),
        sample_step=columns["step"],
        columns={key: columns[key] for key in SAMPLE_COLUMNS},
    )


def _add_outcomes(series: SeriesSet, columns: dict[str, Array], truth: bool) -> None:
    """units, censored and asked [m, 5]; kinds and kinds_asked [m, 2, 3] and [m, 2, 1]."""
    sums = SeriesSums(series)
    sku, first = columns["sku"][:, None], columns["first"][:, None]
    horizons = columns["horizons"]
    outcome = sums.outcome(sku, first, first + horizons // series.bucket_ms, truth)
    columns["units"] = outcome.units.astype(np.float32)
    columns["censored"] = outcome.censored
    columns["asked"] = (
        judged(horizons, columns["left"], series.bucket_ms) & outcome.whole & ~outcome.empty
    )
    lead = np.array(LOAD_LEADS_MS)
    window = load_window_ms(series.bucket_ms)
    begin = first + np.maximum(lead - window, 0) // series.bucket_ms
    end = begin + window // series.bucket_ms
    fits = (lead % series.bucket_ms == 0) | (window == series.bucket_ms)
    ends_in_time = (columns["left"][:, None] < 0) | (columns["left"][:, None] >= lead)
    columns["kinds"] = sums.counts(sku, begin, end).astype(np.float32)
    columns["kinds_asked"] = ((end <= series.buckets) & fits & ends_in_time)[:, :, None]


def judged(horizons: Array, left: Array, bucket_ms: int) -> Array:
    """b1[m, 5]: the horizon is its own (not cut, not a repeat) and a whole number of buckets."""
    own = np.ones(horizons.shape, np.bool_)
    own[:, :4] = horizons[:, :4] == np.array(HORIZONS_MS)
    own[:, 4] = left > 0
    return np.asarray(own & (horizons % bucket_ms == 0) & (horizons > 0))
