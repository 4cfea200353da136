"""However the rows are cut, padded or compiled, the network's steps and answers are the same."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from models.cell_kernel import tanh
from models.chunks import Part, chunks
from models.cuda_runner import CudaRunner
from models.features import ASKED, asked_columns, blank
from models.gru import ANSWERS, Network, NetworkConfig
from models.host_runner import HostRunner

SEED = 8
CPU = torch.device("cpu")
Runner = HostRunner | CudaRunner
RUNNERS: dict[str, Callable[[Network], Runner]] = {
    "one chunk": HostRunner,
    "many chunks": lambda network: HostRunner(network, chunk_rows=7),
    "padded": lambda network: CudaRunner(network, CPU, sizes=(4, 16)),
}


def _network() -> Network:
    print("seed", SEED)
    torch.manual_seed(SEED)
    network = Network(NetworkConfig()).eval()
    network.feature_mean = torch.randn(network.config.features)
    for head in (network.demand, network.load):
        torch.nn.init.normal_(head.out.weight, std=0.3)
    return network


def _parts(counts: tuple[int, ...] = (11, 0, 1, 23)) -> list[Part]:
    random = np.random.default_rng(SEED)
    return [(torch.rand(40, 48) - 0.5, random.permutation(40)[:n]) for n in counts]


def _gathered(parts: list[Part]) -> torch.Tensor:
    return torch.cat([hidden[torch.from_numpy(rows)] for hidden, rows in parts])


def _given(runner: Runner, name: str, rows: int, columns: int) -> np.ndarray:
    given = runner.room(name, rows, columns)
    given[:] = np.random.default_rng(SEED).normal(0, 2, given.shape)
    return given


@pytest.mark.parametrize("kind", RUNNERS)
def test_every_runner_steps_as_the_network_does(kind: str) -> None:
    network, parts = _network(), _parts()
    runner = RUNNERS[kind](network)
    features = _given(runner, "features", 35, network.config.features)
    untouched = [hidden.clone() for hidden, _ in parts]
    with torch.inference_mode():
        wanted = network(torch.from_numpy(features.copy()).unsqueeze(1), _gathered(parts))[:, 0]
        failed = runner.step(parts, features)
    torch.testing.assert_close(_gathered(parts), wanted, rtol=0, atol=2e-6)
    assert not failed.any()
    for (hidden, rows), before in zip(parts, untouched, strict=True):
        others = np.setdiff1d(np.arange(40), rows)
        assert torch.equal(hidden[torch.from_numpy(others)], before[torch.from_numpy(others)])


@pytest.mark.parametrize("kind", RUNNERS)
def test_every_runner_answers_as_the_network_does(kind: str) -> None:
    network, parts = _network(), _parts()
    runner = RUNNERS[kind](network)
    asked = _given(runner, "asked", 35, ASKED)
    np.abs(asked, out=asked)
    with torch.inference_mode():
        wanted = network.answers(torch.from_numpy(asked.copy()), _gathered(parts))
        found = runner.answers(parts, asked)
    assert found.shape == (35, ANSWERS)
    np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-5)


@pytest.mark.parametrize("kind", RUNNERS)
@pytest.mark.parametrize("where", ["features", "hidden"])
def test_what_is_not_finite_fails_its_row_alone(kind: str, where: str) -> None:
    network, parts = _network(), _parts()
    runner = RUNNERS[kind](network)
    features = _given(runner, "features", 35, network.config.features)
    hidden, rows = parts[3]
    if where == "features":
        features[12 + 5, 3] = np.nan
    else:
        hidden[int(rows[5])] = np.inf
    with torch.inference_mode():
        failed = runner.step(parts, features)
    assert np.flatnonzero(failed).tolist() == [12 + 5]
    assert not hidden[int(rows[5])].any() and torch.isfinite(_gathered(parts)).all()


def test_a_room_that_is_used_again_brings_nothing_of_the_batch_before() -> None:
    network = _network()
    runner = CudaRunner(network, CPU, sizes=(4, 16))
    for count in (16, 3, 16, 30):
        parts = _parts((count,))
        features = _given(runner, "features", count, network.config.features)
        with torch.inference_mode():
            wanted = network(torch.from_numpy(features.copy()).unsqueeze(1), _gathered(parts))
            runner.step(parts, features)
        torch.testing.assert_close(_gathered(parts), wanted[:, 0], rtol=0, atol=2e-6)


def test_chunks_hold_every_row_once_in_order() -> None:
    parts = _parts()
    found = list(chunks(parts, 10))
    assert [chunk.rows for chunk in found] == [10, 10, 10, 5]
    rows = np.concatenate([rows for chunk in found for _, rows, _ in chunk.pieces])
    np.testing.assert_array_equal(rows, np.concatenate([rows for _, rows in parts]))
    assert [(c.span.start, c.span.stop) for c in found] == [(0, 10), (10, 20), (20, 30), (30, 35)]
    for chunk in found:
        places = np.concatenate([np.arange(chunk.rows)[at] for _, _, at in chunk.pieces])
        np.testing.assert_array_equal(places, np.arange(chunk.rows))


def test_tanh_is_that_of_the_library() -> None:
    x = np.concatenate((np.linspace(-12, 12, 4_001), [1e30, -1e30])).astype(np.float32)
    found = np.array([tanh(one) for one in x])
    np.testing.assert_allclose(found, np.tanh(x.astype(np.float64)), rtol=0, atol=4e-7)
    assert np.isnan(tanh(np.float32(np.nan)))


def test_what_is_asked_lies_in_one_array() -> None:
    flat = np.zeros((3, ASKED), np.float32)
    asked = blank(3, flat)
    for column in asked[1:]:
        column[...] = 1
    assert (flat == 1).all()
    tensors = asked_columns(torch.from_numpy(flat))
    assert [t.shape for t in tensors] == [column.shape for column in asked[1:]]
