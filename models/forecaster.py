"""The forecaster: one model call per closed bucket over all partitions, in chunks of rows.

    step      closed bucket -> levels, features -> one GRU cell step -> hidden state
    predict   origin -> what the head asks -> mean, dispersion, quantiles, load

A model that raises or answers NaN never stops the worker: its rows get the plain forecast, marked,
and `failures` counts them.
"""

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import torch
from numpy.typing import NDArray

from models.calibration import NOMINAL_SCORES
from models.cuda_runner import CudaRunner
from models.fallback import COLD_DISPERSION, plain_loads, plain_mean
from models.features import ASKED, FEATURES, HORIZONS, KINDS, LOAD_LEADS, BucketInputs
from models.gru import ANSWERS, DEMAND_ANSWERS, Network
from models.host_runner import HostRunner
from models.memory import HORIZONS_TRACKED, ForecastMemory
from models.negative_binomial import dispersion_of, nb_cdf, nb_quantile_at
from models.prediction import Prediction, at_horizon, load_window_ms
from models.row_state import HORIZONS_MS, Asked
from models.weights_file import ModelCard, load_weights

Array = NDArray[Any]
StepBatch = tuple[ForecastMemory, Array, BucketInputs]
PredictBatch = tuple[ForecastMemory, Array, int, Array]
Part = tuple[ForecastMemory, Array]

COLD_STEPS: Final = 3  # active buckets before the model is asked
INTERVAL_90: Final = 2 * 1.6448536269514722  # width of the normal's 90 % interval


class Forecaster:
    """Weights on a device; the memory of SKUs lies in `ForecastMemory`."""

    def __init__(
        self, network: Network, calibration: Array, version: str, device: str = "cpu"
    ) -> None:
        self.device = torch.device(device)
        self.network = network.to(self.device).eval()
        self.runner: CudaRunner | HostRunner = HostRunner(self.network)
        if self.device.type == "cuda":
            self.runner = CudaRunner(self.network, self.device)
        self.calibration = calibration
        self.version = version
        self.hidden_size = network.config.hidden_size
        self.card: ModelCard | None = None
        self.failures = 0  # rows whose model step or answer failed

    def memory(self, capacity: int) -> ForecastMemory:
        """Of one partition, empty."""
        return ForecastMemory(self, capacity)

    @classmethod
    def load(cls, weights: Path | None, device: str = "auto") -> Self:
        """From a weights file, or from those that ship. Raises WeightsError.

        `device`: `cpu`, `cuda`, or `auto` for CUDA where there is one.
        """
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        network, calibration, card = load_weights(weights)
        forecaster = cls(network, calibration, card.version, device)
        forecaster.card = card
        return forecaster

    def step(self, batches: Sequence[StepBatch]) -> None:
        """Takes in one closed bucket of active rows per memory; each memory at most once."""
        parts = [(memory, np.ascontiguousarray(rows, np.int64)) for memory, rows, _ in batches]
        spans = _spans(parts)
        x = self.runner.room("features", _count(parts), len(FEATURES))
        for (memory, rows), (_, _, inputs), span in zip(parts, batches, spans, strict=True):
            memory.observe(rows, inputs, x[span])
        if not len(x):
            return
        try:
            with torch.inference_mode():
                failed = self.runner.step([(memory.hidden, rows) for memory, rows in parts], x)
        except Exception:  # out of memory, a lost device, a bug: no state of this bucket counts
            failed = np.ones(len(x), np.bool_)
        for (memory, rows), span in zip(parts, spans, strict=True):
            memory.failed[rows] = failed[span]
        self.failures += int(failed.sum())

    def predict(self, batches: Sequence[PredictBatch]) -> list[Prediction]:
        """Forecasts for `rows` i8[n] of each memory at `origin_ms`, the end of a bucket.

        `time_left_ms` i8[n] until the sale ends, -1 unknown. Changes the rows' open forecasts.
        """
        parts = [(memory, np.ascontiguousarray(rows, np.int64)) for memory, rows, _, _ in batches]
        spans = _spans(parts)
        flat = self.runner.room("asked", _count(parts), ASKED)
        asked = []
        for (memory, rows), (_, _, origin_ms, left_ms), span in zip(
            parts, batches, spans, strict=True
        ):
            memory.judge(rows, origin_ms)
            asked.append(memory.ask(rows, origin_ms, left_ms, flat[span]))
        answers = self._answers(parts, flat)
        return [
            self._prediction(memory, rows, origin_ms, left_ms, one, answers[span])
            for (memory, rows), (_, _, origin_ms, left_ms), one, span in zip(
                parts, batches, asked, spans, strict=True
            )
        ]

    def _answers(self, parts: list[Part], asked: Array) -> Array:
        """f64[n, ANSWERS] over all parts; NaN throughout where the model raises."""
        if not len(asked):
            return np.empty((0, ANSWERS))
        try:
            with torch.inference_mode():
                states = [(memory.hidden, rows) for memory, rows in parts]
                return self.runner.answers(states, asked).astype(np.float64)
        except Exception:  # the plain forecast stands in for whatever fails
            return np.full((len(asked), ANSWERS), np.nan)

    def _prediction(
        self,
        memory: ForecastMemory,
        rows: Array,
        origin_ms: int,
        left_ms: Array,
        asked: Asked,
        answer: Array,
    ) -> Prediction:
        finite = np.isfinite(answer).all(axis=1)
        self.failures += int(len(rows) - np.count_nonzero(finite))
        cold = memory.steps[rows] < COLD_STEPS
        fallback = cold | memory.failed[rows] | ~finite
        mean, dispersion, load_mean, load_dispersion = _unpacked(answer, memory.bucket_ms)
        if fallback.any():
            mean[fallback] = plain_mean(asked)[fallback]
            load_mean[fallback] = plain_loads(asked, memory.bucket_ms)[fallback]
            dispersion[fallback], load_dispersion[fallback] = COLD_DISPERSION, COLD_DISPERSION
        _await_truth(memory, rows, origin_ms, asked.horizons, mean, dispersion, fallback)
        right = memory.calibrator.at(mean, dispersion)
        mean, dispersion, scores = (
            np.where(np.expand_dims(fallback, tuple(range(1, new.ndim))), plain, new)
            for new, plain in zip(right, (mean, dispersion, NOMINAL_SCORES), strict=True)
        )
        quantiles = nb_quantile_at(mean, dispersion, scores)
        return Prediction(
            horizons_ms=asked.horizons,
            mean=mean,
            dispersion=_widened(mean, dispersion, scores),
            quantiles=np.maximum.accumulate(quantiles, axis=1),
            end_known=np.asarray(left_ms) >= 0,
            fallback=fallback,
            cold=cold,
            load_mean=load_mean,
            load_variance=_load_variance(memory, load_mean, load_dispersion),
        )


def warm_up() -> None:
    """Compiles the kernels, at installation."""
    forecaster = Forecaster.load(None, "cpu")
    memory = ForecastMemory(forecaster, 1)
    rows, zero = np.zeros(1, np.int64), np.zeros(1)
    for start_ms in (0, 10_000):
        inputs = BucketInputs(start_ms, 10_000, zero + 1, *(zero,) * 6, zero + 1, *(zero,) * 4)
        forecaster.step([(memory, rows, inputs)])
        made = forecaster.predict([(memory, rows, start_ms + 60_000, rows - 1)])
        at_horizon(made[0], rows)
    nb_cdf(zero, zero + 1, zero + 1)  # as the calibration asks, once a truth is known


def _unpacked(answer: Array, bucket_ms: int) -> tuple[Array, Array, Array, Array]:
    """Mean and dispersion [n, 5] of demand, mean (a second) and dispersion [n, 2, 3] of loads."""
    mean, dispersion = answer[:, :HORIZONS], answer[:, HORIZONS:DEMAND_ANSWERS]
    loads = answer[:, DEMAND_ANSWERS:].reshape(-1, 2, LOAD_LEADS, KINDS)
    window_s = load_window_ms(bucket_ms) / 1000
    return mean.copy(), dispersion.copy(), loads[:, 0] / window_s, loads[:, 1].copy()


def _await_truth(
    memory: ForecastMemory,
    rows: Array,
    origin_ms: int,
    horizons: Array,
    mean: Array,
    dispersion: Array,
    fallback: Array,
) -> None:
    """Opens the model's own forecasts of uncut horizons that end with a bucket."""
    tracked = slice(0, HORIZONS_TRACKED)
    fits = np.array(HORIZONS_MS) % memory.bucket_ms == 0
    issued = (horizons[:, tracked] == np.array(HORIZONS_MS)) & fits & ~fallback[:, None]
    due_ms = origin_ms + horizons[:, tracked]
    memory.await_truth(rows, due_ms, mean[:, tracked], dispersion[:, tracked], issued)


def _widened(mean: Array, dispersion: Array, scores: Array) -> Array:
    """Dispersion whose spread is that of the calibrated 90 % interval, f64[n, 5]."""
    ratio = (scores[:, :, -1] - scores[:, :, 0]) / INTERVAL_90
    return dispersion_of(mean, (mean + mean**2 / dispersion) * ratio**2)


def _load_variance(memory: ForecastMemory, load_mean: Array, load_dispersion: Array) -> Array:
    """Variance of each SKU's loads f64[n, 2, 3], (events a second)^2."""
    window_s = load_window_ms(memory.bucket_ms) / 1000
    counts = load_mean * window_s
    return np.asarray((counts + counts**2 / load_dispersion) / window_s**2)


def _count(parts: Sequence[Part]) -> int:
    return sum(len(rows) for _, rows in parts)


def _spans(parts: Sequence[Part]) -> list[slice]:
    """Where the rows of each part lie in the batch of all."""
    ends = list(accumulate(len(rows) for _, rows in parts))
    return [slice(end - len(rows), end) for end, (_, rows) in zip(ends, parts, strict=True)]
