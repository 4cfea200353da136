"""The forecaster: one model call per closed bucket over all partitions, in chunks of rows.

    step      closed bucket -> levels, features -> one GRU cell step -> hidden state
    predict   origin -> what the head asks -> mean, dispersion, quantiles, load

A model that raises or answers NaN never stops the worker: its rows get the plain forecast, marked,
and `failures` counts them.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models import features
from models.calibration import QUANTILES
from models.fallback import COLD_DISPERSION, plain_loads, plain_mean
from models.features import BucketInputs
from models.gru import Cell, Network
from models.heads import KINDS
from models.memory import HORIZONS_TRACKED, ForecastMemory
from models.negative_binomial import dispersion_of, nb_quantile
from models.prediction import (
    HORIZONS_MS,
    LOAD_LEADS_MS,
    LOAD_WINDOW_MS,
    Prediction,
)
from models.weights_file import ModelCard, load_weights

Array = NDArray[Any]
StepBatch = tuple[ForecastMemory, Array, BucketInputs]
PredictBatch = tuple[ForecastMemory, Array, int, Array]

CHUNK_ROWS: Final = 4_096
COLD_STEPS: Final = 3  # active buckets before the model is asked


class Forecaster:
    """Weights on a device; the memory of SKUs lies in `ForecastMemory`."""

    def __init__(
        self, network: Network, calibration: Array, version: str, device: str = "cpu"
    ) -> None:
        self.device = torch.device(device)
        self.network = network.to(self.device).eval()
        self.cell = Cell(self.network)
        self.calibration = calibration
        self.version = version
        self.hidden_size = network.config.hidden_size
        self.card: ModelCard | None = None
        self.failures = 0  # rows whose model step or answer failed

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
        made = []
        for memory, rows, inputs in batches:
            memory.observe(rows, inputs)
            made.append((memory, rows, features.build(inputs, memory, rows)))
        for chunk in _chunks(made):
            self._step_chunk(chunk)

    def _step_chunk(self, chunk: list[tuple[ForecastMemory, Array, Array]]) -> None:
        try:
            with torch.inference_mode():
                inputs = torch.from_numpy(np.concatenate([part[2] for part in chunk]))
                hidden = self._hidden([(memory, rows) for memory, rows, _ in chunk])
                after = self.cell.step(inputs.to(self.device), hidden)
                bad = ~torch.isfinite(after).all(dim=1)
                failed = bad.cpu().numpy()
                if failed.any():
                    after = torch.where(bad.unsqueeze(1), torch.zeros_like(after), after)
        except RuntimeError:  # out of memory, a lost device: the hidden state stays as it was
            after, failed = None, np.ones(sum(len(rows) for _, rows, _ in chunk), np.bool_)
        at = 0
        for memory, rows, _ in chunk:
            end = at + len(rows)
            memory.failed[rows] = failed[at:end]
            if after is not None:
                index = torch.from_numpy(rows).to(self.device)
                memory.hidden.index_copy_(0, index, after[at:end])
            at = end
        self.failures += int(failed.sum())

    def _hidden(self, parts: Sequence[tuple[ForecastMemory, Array]]) -> Tensor:
        return torch.cat(
            [
                memory.hidden.index_select(0, torch.from_numpy(rows).to(self.device))
                for memory, rows in parts
            ]
        )

    def predict(self, batches: Sequence[PredictBatch]) -> list[Prediction]:
        """Forecasts for `rows` i8[n] of each memory at `origin_ms`, the end of a bucket.

        `time_left_ms` i8[n] until the sale ends, -1 unknown. Changes the rows' open forecasts.
        """
        return [self._predict_one(*batch) for batch in batches]

    def _predict_one(
        self, memory: ForecastMemory, rows: Array, origin_ms: int, time_left_ms: Array
    ) -> Prediction:
        rows = np.asarray(rows, np.int64)
        memory.judge(rows, origin_ms)
        query = features.at_origin(memory, rows, origin_ms)
        horizons = horizons_of(time_left_ms)
        mean, dispersion, load_mean, load_dispersion = self.ask(
            memory, rows, query, horizons, time_left_ms
        )
        finite = np.isfinite(mean).all(1) & np.isfinite(dispersion).all(1)
        finite &= np.isfinite(load_mean).all((1, 2)) & np.isfinite(load_dispersion).all((1, 2))
        self.failures += int((~finite).sum())
        cold = memory.steps[rows] < COLD_STEPS
        fallback = cold | memory.failed[rows] | ~finite
        plain = plain_mean(memory, rows, origin_ms, horizons)
        mean = np.where(fallback[:, None], plain, mean)
        dispersion = np.where(fallback[:, None], COLD_DISPERSION, dispersion)
        load_mean = np.where(
            fallback[:, None, None], plain_loads(query, memory.bucket_ms), load_mean
        )
        load_dispersion = np.where(fallback[:, None, None], COLD_DISPERSION, load_dispersion)
        full = horizons[:, :HORIZONS_TRACKED] == np.array(HORIZONS_MS)
        whole = np.array(HORIZONS_MS) % memory.bucket_ms == 0
        tracked = slice(0, HORIZONS_TRACKED)
        memory.await_truth(
            rows,
            origin_ms + horizons[:, tracked],
            mean[:, tracked],
            dispersion[:, tracked],
            full & whole & ~fallback[:, None],
        )
        calibrated, levels = memory.calibrator.at(mean, dispersion)
        dispersion = np.where(fallback[:, None], dispersion, calibrated)
        levels[fallback] = QUANTILES
        quantiles = nb_quantile(mean[:, :, None], dispersion[:, :, None], levels)
        quantiles = np.maximum.accumulate(quantiles, axis=1)
        window_s = load_window_ms(memory.bucket_ms) / 1000
        counts = load_mean * window_s
        return Prediction(
            horizons_ms=horizons,
            mean=mean,
            dispersion=widened(mean, dispersion, levels),
            quantiles=quantiles,
            end_known=np.asarray(time_left_ms) >= 0,
            fallback=fallback,
            cold=cold,
            load_mean=load_mean,
            load_variance=(counts + counts**2 / load_dispersion) / window_s**2,
        )

    def ask(
        self,
        memory: ForecastMemory,
        rows: Array,
        query: features.Query,
        horizons: Array,
        time_left_ms: Array,
    ) -> tuple[Array, Array, Array, Array]:
        """Mean and dispersion [n, 5] of demand, of loads [n, 2, 3] (a second), uncalibrated.

        NaN throughout where the model raises.
        """
        n, bucket_ms = len(rows), memory.bucket_ms
        left = np.asarray(time_left_ms, np.float64)
        stretch, length, load_stretch, load_length = stretches(
            horizons, left, memory.sale_ms[rows], bucket_ms
        )
        answers: list[Array] = []
        try:
            with torch.inference_mode():
                for at in range(0, max(n, 1), CHUNK_ROWS):
                    part = slice(at, at + CHUNK_ROWS)
                    tensors = [
                        torch.from_numpy(np.ascontiguousarray(a[part], np.float32)).to(self.device)
                        for a in (
                            query.query,
                            stretch,
                            query.components,
                            length,
                            load_stretch,
                            query.loads,
                            load_length,
                        )
                    ]
                    hidden = self._hidden([(memory, rows[part])])
                    asked, about, components, long, load_about, loads, load_long = tensors
                    demand = self.network.demand(hidden, asked, about, components, long)
                    load = self.network.load(hidden, asked, load_about, loads, load_long)
                    flat = [t.flatten(1) for t in (*demand, *load)]
                    answers.append(torch.cat(flat, dim=1).cpu().numpy())
        except RuntimeError:
            answers = [np.full((n, 2 * 5 + 2 * len(LOAD_LEADS_MS) * KINDS), np.nan)]
        both = np.concatenate(answers).astype(np.float64)
        mean, dispersion, load_mean, load_dispersion = np.split(both, [5, 10, 16], axis=1)
        shape = (n, len(LOAD_LEADS_MS), KINDS)
        window_s = load_window_ms(bucket_ms) / 1000
        return mean, dispersion, load_mean.reshape(shape) / window_s, load_dispersion.reshape(shape)


def horizons_of(time_left_ms: Array) -> Array:
    """i8[n, 5]: 1, 5, 15, 60 minutes cut to the sale's end, and its end (60 minutes if unknown)."""
    left = np.asarray(time_left_ms, np.int64)[:, None]
    fixed = np.broadcast_to(np.array(HORIZONS_MS, np.int64), (len(left), len(HORIZONS_MS)))
    fixed = np.where(left >= 0, np.minimum(fixed, left), fixed)
    return np.concatenate((fixed, np.where(left >= 0, left, HORIZONS_MS[-1])), axis=1)


def load_window_ms(bucket_ms: int) -> int:
    """Stretch over which a load is a mean."""
    return max(LOAD_WINDOW_MS, bucket_ms)


def stretches(
    horizons: Array, time_left_ms: Array, sale_ms: Array, bucket_ms: int
) -> tuple[Array, Array, Array, Array]:
    """Description and length in buckets of the stretches between horizons, and of the loads'."""
    end = horizons.astype(np.float64)
    begin = np.concatenate((np.zeros((len(end), 1)), end[:, :-1]), axis=1)
    load_end = np.broadcast_to(np.array(LOAD_LEADS_MS, np.float64), (len(end), len(LOAD_LEADS_MS)))
    load_begin = np.maximum(load_end - load_window_ms(bucket_ms), 0)
    load_end = load_begin + load_window_ms(bucket_ms)
    about = (time_left_ms, sale_ms.astype(np.float64), bucket_ms)
    return (
        features.intervals(begin, end, *about),
        (end - begin) / bucket_ms,
        features.intervals(load_begin, load_end, *about),
        (load_end - load_begin) / bucket_ms,
    )


def widened(mean: Array, dispersion: Array, levels: Array) -> Array:
    """Dispersion whose spread is that of the calibrated 90 % interval, f64[n, 5]."""
    score = torch.special.ndtri(torch.from_numpy(levels[:, :, [0, -1]])).numpy()
    ratio = (score[:, :, 1] - score[:, :, 0]) / (2 * 1.6448536269514722)
    variance = (mean + mean**2 / dispersion) * ratio**2
    return dispersion_of(mean, variance)


def _chunks(
    made: list[tuple[ForecastMemory, Array, Array]],
) -> Iterator[list[tuple[ForecastMemory, Array, Array]]]:
    """Packs the parts into chunks of at most CHUNK_ROWS rows, in order."""
    chunk: list[tuple[ForecastMemory, Array, Array]] = []
    room = CHUNK_ROWS
    for memory, rows, x in made:
        at = 0
        while at < len(rows):
            end = min(at + room, len(rows))
            chunk.append((memory, np.asarray(rows[at:end], np.int64), x[at:end]))
            room -= end - at
            at = end
            if room == 0:
                yield chunk
                chunk, room = [], CHUNK_ROWS
    if chunk:
        yield chunk
