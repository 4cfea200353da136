"""Weights on disk: a safetensors file and, beside it, its model card (JSON).

The card holds what the file cannot say of itself: the version, the SHA-256 of the file, the sizes
and the names of the features it was trained on, data, seed and metrics.
"""

import hashlib
import json
from dataclasses import dataclass, field
from errno import EFBIG
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
WEIGHTS_BYTES_MAX: Final = 64 * 2**20
CARD_BYTES_MAX: Final = 2**20
TEXT_MAX: Final = 128
HIDDEN_MAX: Final = 1_024  # more than fits a SKU's row; so that a card alone allocates little


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
        data = _read(path, WEIGHTS_BYTES_MAX)
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
        tensors = load(data)  # views of `data`: a header alone makes nothing be allocated
        state = calibration.checked(tensors.pop(CALIBRATION).double().numpy())
        for name, tensor in tensors.items():
            if not torch.isfinite(tensor).all():
                raise ValueError(f"{name} is not finite")
        network = Network(NetworkConfig(hidden_size=card.hidden_size))
        network.load_state_dict(tensors)
    except (SafetensorError, KeyError, RuntimeError, TypeError, ValueError) as error:
        first = (str(error) or repr(error)).splitlines()[0]
        raise WeightsError(f"weights {path}: {first}; {remedy}") from None
    return network.eval(), state, card


def read_card(path: Path) -> ModelCard:
    """The card beside `path`. Raises WeightsError."""
    try:
        card = ModelCard(**json.loads(_read(card_of(path), CARD_BYTES_MAX)))
        _require_types(card)
        return card
    except OSError as error:
        raise WeightsError(
            f"weights {path}: their model card {card_of(path)} cannot be read: {error.strerror}; "
            "weights and card belong together, see FLASHCAST_WEIGHTS_FILE and flashcast train"
        ) from None
    except (ValueError, TypeError, RecursionError) as error:
        raise WeightsError(
            f"model card {card_of(path)}: {error}; take the one that came with the weights, or "
            "train some: flashcast train"
        ) from None


def _read(path: Path, bytes_max: int) -> bytes:
    """All of a file. Raises OSError, also when it has more bytes."""
    with path.open("rb") as file:
        data = file.read(bytes_max + 1)
    if len(data) > bytes_max:
        raise OSError(EFBIG, f"more than {bytes_max} bytes")
    return data


def _require_types(card: ModelCard) -> None:
    """A card is a file like any other. Raises ValueError."""
    texts = (card.version, card.sha256)
    if not all(type(text) is str and 1 <= len(text) <= TEXT_MAX for text in texts):
        raise ValueError(f"version and sha256 must be texts of at most {TEXT_MAX} characters")
    for names in (card.features, card.query, card.interval, card.components):
        if type(names) is not list or not all(type(name) is str for name in names):
            raise ValueError("features, query, interval and components must be lists of names")
    if type(card.hidden_size) is not int or not 1 <= card.hidden_size <= HIDDEN_MAX:
        raise ValueError(f"hidden_size must be a whole number of 1 to {HIDDEN_MAX}")
    if type(card.trained) is not dict or type(card.metrics) is not dict:
        raise ValueError("trained and metrics must be objects")
