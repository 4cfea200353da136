"""Training: crops of tracks through the GRU, heads asked at the samples along them.

Reads top to bottom: configuration, batches, loss, loop. Deterministic for a seed on one machine.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.gru import HIDDEN_SIZE, Network, NetworkConfig
from models.heads import negative_log_likelihood
from models.training_set import TrainingSet

Array = NDArray[Any]

COLUMNS_ON_TENSORS: Final = (
    "query", "components", "loads", "stretch", "length", "load_stretch", "load_length",
    "units", "censored", "asked", "kinds", "kinds_asked",
)  # fmt: skip


@dataclass(frozen=True)
class TrainConfig:
    """How long and how hard."""

    seed: int
    steps: int = 3_000
    crops: int = 48  # tracks a batch
    crop_steps: int = 192
    burn_in: int = 24  # steps without loss at the begin of a crop that is not a track's begin
    samples: int = 3_072  # a batch at most
    learning_rate: float = 4e-3
    weight_decay: float = 1e-4
    load_weight: float = 0.3
    hidden_size: int = HIDDEN_SIZE


@dataclass(frozen=True)
class Progress:
    """After a step; `loss` is a running mean."""

    step: int
    steps: int
    loss: float
    seconds: float


@dataclass
class Crop:
    """Steps [begin, end) of one track; samples count from `from_step` on."""

    of: int  # index of the training set
    begin: int
    end: int
    from_step: int


def train(
    sets: Sequence[TrainingSet],
    config: TrainConfig,
    progress: Callable[[Progress], None] = lambda _: None,
) -> tuple[Network, dict[str, Any]]:
    """The trained network, and what the model card says of how it came about."""
    random = np.random.default_rng(config.seed)
    torch.manual_seed(config.seed)
    network = Network(NetworkConfig(hidden_size=config.hidden_size))
    _standardise(network, sets)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.learning_rate, total_steps=config.steps, pct_start=0.1
    )
    began = time.perf_counter()
    running = math.nan
    network.train()
    for step in range(config.steps):
        crops = _draw(sets, config, random)
        loss = _loss(network, sets, crops, config, random)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        value = loss.item()
        running = value if math.isnan(running) else 0.98 * running + 0.02 * value
        progress(Progress(step + 1, config.steps, running, time.perf_counter() - began))
    trained = {
        **asdict(config),
        "series": [one.name for one in sets],
        "track_steps": int(sum(len(one.features) for one in sets)),
        "samples_available": int(sum(one.samples for one in sets)),
        "final_loss": round(running, 4),
        "seconds": round(time.perf_counter() - began, 1),
        "torch": torch.__version__,
    }
    return network.eval(), trained


def _standardise(network: Network, sets: Sequence[TrainingSet]) -> None:
    """Centres and scales inputs; every set counts alike."""

    def moments(parts: list[Array]) -> tuple[Tensor, Tensor]:
        flat = [part.reshape(-1, part.shape[-1]).astype(np.float64) for part in parts]
        mean = np.mean([part.mean(0) for part in flat], axis=0)
        square = np.mean([((part - mean) ** 2).mean(0) for part in flat], axis=0)
        scale = np.where(square > 1e-8, np.sqrt(square), 1.0)
        return torch.from_numpy(mean).float(), torch.from_numpy(scale).float()

    network.feature_mean, network.feature_scale = moments([one.features for one in sets])
    query = moments([one.columns["query"] for one in sets])
    for trunk, stretch in (
        (network.demand.trunk, "stretch"),
        (network.load.trunk, "load_stretch"),
    ):
        trunk.query_mean, trunk.query_scale = query[0].clone(), query[1].clone()
        interval = moments([one.columns[stretch] for one in sets])
        trunk.interval_mean, trunk.interval_scale = interval


def _draw(
    sets: Sequence[TrainingSet], config: TrainConfig, random: np.random.Generator
) -> list[Crop]:
    """Sets by the root of their size, tracks by their length."""
    sizes = np.sqrt([len(one.features) for one in sets])
    chosen = random.choice(len(sets), config.crops, p=sizes / sizes.sum())
    crops = []
    for of in chosen.tolist():
        track_begin = sets[of].track_begin
        step = int(random.integers(track_begin[-1]))
        track = int(np.searchsorted(track_begin, step, side="right")) - 1
        first, last = int(track_begin[track]), int(track_begin[track + 1])
        begin = max(first, min(step - config.crop_steps // 2, last - config.crop_steps))
        end = min(last, begin + config.crop_steps)
        crops.append(Crop(of, begin, end, begin + (config.burn_in if begin > first else 0)))
    return crops


def _loss(
    network: Network,
    sets: Sequence[TrainingSet],
    crops: list[Crop],
    config: TrainConfig,
    random: np.random.Generator,
) -> Tensor:
    longest = max(crop.end - crop.begin for crop in crops)
    padded = np.zeros((len(crops), longest, sets[0].features.shape[1]), np.float32)
    at_crop, at_step, picked = [], [], []
    for i, crop in enumerate(crops):
        one = sets[crop.of]
        padded[i, : crop.end - crop.begin] = one.features[crop.begin : crop.end]
        low, high = np.searchsorted(one.sample_step, [crop.from_step, crop.end])
        samples = np.arange(low, high)
        most = max(config.samples // len(crops), 1)
        if len(samples) > most:
            samples = np.sort(random.choice(samples, most, replace=False))
        at_crop.append(np.full(len(samples), i))
        at_step.append(one.sample_step[samples] - crop.begin)
        picked.append((crop.of, samples))
    states = network(torch.from_numpy(padded))
    hidden = states[np.concatenate(at_crop), np.concatenate(at_step)]
    asked = {
        name: torch.from_numpy(
            np.concatenate([sets[of].columns[name][samples] for of, samples in picked])
        )
        for name in COLUMNS_ON_TENSORS
    }
    return _likelihood(network, hidden, asked, config.load_weight)


def _likelihood(
    network: Network, hidden: Tensor, asked: dict[str, Tensor], load_weight: float
) -> Tensor:
    mean, dispersion = network.demand(
        hidden, asked["query"], asked["stretch"], asked["components"], asked["length"]
    )
    demand = negative_log_likelihood(asked["units"], mean, dispersion, asked["censored"])
    of_demand = (demand * asked["asked"]).sum() / asked["asked"].sum().clamp(min=1)
    load_mean, load_dispersion = network.load(
        hidden, asked["query"], asked["load_stretch"], asked["loads"], asked["load_length"]
    )
    never = torch.zeros_like(load_mean, dtype=torch.bool)
    load = negative_log_likelihood(asked["kinds"], load_mean, load_dispersion, never)
    counted = asked["kinds_asked"].expand_as(load)
    return of_demand + load_weight * (load * counted).sum() / counted.sum().clamp(min=1)
