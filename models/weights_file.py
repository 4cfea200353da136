"""Weights on disk: a safetensors file and, beside it, its model card (JSON).

The card holds what the file cannot say of itself: the version, the SHA-256 of the file, the sizes
and the names of the features it was trained on, data, seed and metrics.
"""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save

from models import calibration
from models.errors import WeightsError
from models.features import COMPONENTS, FEATURES, INTERVAL, QUERY
from models.gru import Network, NetworkConfig

SHIPPED: Final = Path(__file__).parent / "weights" / "flashcast-gru.safetensors"
CALIBRATION: Final = "calibration.state"


@dataclass
class ModelCard:
    """Who a weights file is."""

    version: str
    sha256: str
    hidden_size: int
    features: list[str]
    query: list[str]
    interval: list[str]
    components: list[str]
    trained: dict[str, Any] = field(default_factory=dict)  # data, seed, steps, seconds
    metrics: dict[str, Any] = field(default_factory=dict)


def card_of(path: Path) -> Path:
    """Where the card of a weights file lies."""
    return path.with_suffix(".json")


def save_weights(
    path: Path,
    network: Network,
    calibration_state: NDArray[Any],
    trained: dict[str, Any],
    metrics: dict[str, Any],
    name: str = "gru",
) -> ModelCard:
    """Writes weights and card; the version is `name` and the start of the file's hash."""
    tensors = {
        key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()
    }
    tensors[CALIBRATION] = torch.from_numpy(np.ascontiguousarray(calibration_state, np.float64))
    data = save(tensors)
    digest = hashlib.sha256(data).hexdigest()
    card = ModelCard(
        version=f"{name}-{digest[:8]}",
        sha256=digest,
        hidden_size=network.config.hidden_size,
        features=list(FEATURES),
        query=list(QUERY),
        interval=list(INTERVAL),
        components=list(COMPONENTS),
        trained=trained,
        metrics=metrics,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    card_of(path).write_text(json.dumps(card.__dict__, indent=1) + "\n")
    return card


def load_weights(path: Path | None) -> tuple[Network, NDArray[Any], ModelCard]:
    """Network, calibration state and card of `path`, or of the weights that ship.

    Raises WeightsError: missing, truncated, altered, or made for another network.
    """
    path = SHIPPED if path is None else path
    remedy = "name another file in FLASHCAST_WEIGHTS_FILE, or train one: flashcast train"
    try:
        data = path.read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        raise WeightsError(f"weights {path}: {reason}; {remedy}") from None
    card = read_card(path)
    digest = hashlib.sha256(data).hexdigest()
    if digest != card.sha256:
        raise WeightsError(
            f"weights {path}: truncated or altered ({len(data)} bytes, SHA-256 {digest[:12]}..., "
            f"its card says {card.sha256[:12]}...); {remedy}"
        )
    names = {"features": FEATURES, "query": QUERY, "interval": INTERVAL, "components": COMPONENTS}
    for name, ours in names.items():
        if tuple(getattr(card, name)) != tuple(ours):
            raise WeightsError(
                f"weights {path}: made for other {name} than this version's; {remedy}"
            )
    try:
        tensors = load(data)
        state = tensors.pop(CALIBRATION).numpy()
        network = Network(NetworkConfig(hidden_size=card.hidden_size))
        network.load_state_dict(tensors)
    except (SafetensorError, KeyError, RuntimeError) as error:
        first = str(error).splitlines()[0]
        raise WeightsError(f"weights {path}: {first}; {remedy}") from None
    if state.shape != calibration.SHAPE:
        raise WeightsError(
            f"weights {path}: calibration of shape {state.shape}, "
            f"expected {calibration.SHAPE}; {remedy}"
        )
    return network.eval(), state, card


def read_card(path: Path) -> ModelCard:
    """The card beside `path`. Raises WeightsError."""
    try:
        return ModelCard(**json.loads(card_of(path).read_text()))
    except OSError as error:
        raise WeightsError(
            f"weights {path}: their model card {card_of(path)} cannot be read: {error.strerror}; "
            "weights and card belong together, see FLASHCAST_WEIGHTS_FILE and flashcast train"
        ) from None
    except (ValueError, TypeError) as error:
        raise WeightsError(f"model card {card_of(path)}: {error}") from None
