"""Weights that cannot be trusted are refused with the file, the reason and the remedy."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from models.calibration import nominal
from models.errors import WeightsError
from models.forecaster import Forecaster
from models.gru import Network, NetworkConfig
from models.weights_file import card_of, load_weights, save_weights


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    path = tmp_path / "some.safetensors"
    save_weights(path, Network(NetworkConfig()), nominal(), {"seed": 1}, {})
    return path


def test_saved_weights_load_as_they_were(saved: Path) -> None:
    torch.manual_seed(1)
    original = Network(NetworkConfig()).state_dict()
    network, levels, card = load_weights(saved)
    for name, value in network.state_dict().items():
        assert torch.equal(value, original[name])
    np.testing.assert_array_equal(levels, nominal())
    assert card.version == f"gru-{card.sha256[:8]}"


def test_the_shipped_weights_load() -> None:
    forecaster = Forecaster.load(None, "cpu")
    assert forecaster.version.startswith("gru-")
    assert forecaster.card is not None and forecaster.card.trained["seed"] is not None


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"nowhere\.safetensors: No such file.*flashcast train"):
        Forecaster.load(tmp_path / "nowhere.safetensors", "cpu")


def test_a_missing_card_is_named(saved: Path) -> None:
    card_of(saved).unlink()
    with pytest.raises(WeightsError, match=r"model card .*some\.json cannot be read: No such file"):
        load_weights(saved)


def test_truncated_weights_are_refused(saved: Path) -> None:
    saved.write_bytes(saved.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="truncated or altered"):
        load_weights(saved)


def test_one_changed_byte_is_refused(saved: Path) -> None:
    data = bytearray(saved.read_bytes())
    data[-7] ^= 1
    saved.write_bytes(data)
    with pytest.raises(WeightsError, match="truncated or altered"):
        load_weights(saved)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("features", ["one"], "made for other features"),
        ("query", [], "made for other query"),
        ("hidden_size", 32, "size mismatch|Error"),
    ],
)
def test_weights_of_another_network_are_refused(
    saved: Path, field: str, value: object, message: str
) -> None:
    card = json.loads(card_of(saved).read_text())
    card[field] = value
    card_of(saved).write_text(json.dumps(card))
    with pytest.raises(WeightsError, match=message):
        load_weights(saved)


def test_a_card_that_is_not_json_is_refused(saved: Path) -> None:
    card_of(saved).write_text("{")
    with pytest.raises(WeightsError, match="model card"):
        load_weights(saved)
