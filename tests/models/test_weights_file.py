"""Weights that cannot be trusted are refused with the file, the reason and the remedy."""

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from models import weights_file
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


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("hidden_size", 10**12, "hidden_size must be"),
        ("hidden_size", -1, "hidden_size must be"),
        ("hidden_size", "64", "hidden_size must be"),
        ("sha256", 5, "version and sha256 must be"),
        ("version", "v" * 10_000, "version and sha256 must be"),
        ("features", 7, "must be lists of names"),
        ("metrics", [], "must be objects"),
    ],
)
def test_a_hostile_card_is_refused_before_anything_is_allocated(
    saved: Path, field: str, value: object, message: str
) -> None:
    card = json.loads(card_of(saved).read_text())
    card_of(saved).write_text(json.dumps(card | {field: value}))
    with pytest.raises(WeightsError, match=message):
        load_weights(saved)


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", '{"hidden_size":' + "9" * 5_000 + "}", "5"])
def test_a_card_that_no_parser_should_be_given_is_refused(saved: Path, text: str) -> None:
    card_of(saved).write_text(text)
    with pytest.raises(WeightsError, match="model card"):
        load_weights(saved)


def with_tensors(path: Path, data: bytes) -> Path:
    """Other contents, under a card that knows their digest."""
    path.write_bytes(data)
    card = json.loads(card_of(path).read_text())
    card_of(path).write_text(json.dumps(card | {"sha256": hashlib.sha256(data).hexdigest()}))
    return path


@pytest.mark.parametrize(
    "header",
    [
        b'{"a":{"dtype":"F32","shape":[9999999999,9999999999],"data_offsets":[0,4]}}',
        b'{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}',
        b"[" * 1_000,
        b"{}",
    ],
)
def test_a_header_that_claims_terabytes_makes_nothing_be_allocated(
    saved: Path, header: bytes
) -> None:
    data = len(header).to_bytes(8, "little") + header + bytes(4)
    with pytest.raises(WeightsError, match="flashcast train"):
        load_weights(with_tensors(saved, data))
    with pytest.raises(WeightsError):
        load_weights(with_tensors(saved, (2**62).to_bytes(8, "little") + header))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_refused(saved: Path, value: float) -> None:
    tensors = safetensors.torch.load(saved.read_bytes())
    name = next(name for name in tensors if name.startswith("gru"))
    tensors[name][0] = value
    with pytest.raises(WeightsError, match="is not finite"):
        load_weights(with_tensors(saved, safetensors.torch.save(tensors)))


def test_pickled_weights_are_never_opened(saved: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (saved.with_suffix(".sprung"),))  # type: ignore[return-value]

    buffer = io.BytesIO()
    torch.save({"a": Trap()}, buffer)
    with pytest.raises(WeightsError):
        load_weights(with_tensors(saved, buffer.getvalue()))
    assert not saved.with_suffix(".sprung").exists()


def test_a_file_without_end_is_not_read_to_its_end(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights_file, "WEIGHTS_BYTES_MAX", 1_000)
    with pytest.raises(WeightsError, match="more than 1000 bytes"):
        load_weights(saved)
