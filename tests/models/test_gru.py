"""One carried step per bucket is the same network as the whole window at once."""

import torch

from models.gru import Cell, Network, NetworkConfig


def _network(seed: int = 3) -> Network:
    print("seed", seed)
    torch.manual_seed(seed)
    network = Network(NetworkConfig()).eval()
    network.feature_mean = torch.randn(network.config.features)
    network.feature_scale = torch.rand(network.config.features) + 0.5
    return network


def test_stepwise_outputs_equal_whole_window_outputs() -> None:
    network = _network()
    window = torch.randn(33, 64, network.config.features)
    cell = Cell(network)
    hidden = torch.zeros(33, network.config.hidden_size)
    with torch.inference_mode():
        whole = network(window)
        for t in range(window.shape[1]):
            hidden = cell.step(window[:, t], hidden)
            torch.testing.assert_close(hidden, whole[:, t], rtol=0, atol=2e-6)


def test_a_window_goes_on_from_a_carried_state() -> None:
    network = _network()
    window = torch.randn(5, 40, network.config.features)
    with torch.inference_mode():
        whole = network(window)
        rest = network(window[:, 25:], whole[:, 24])
    torch.testing.assert_close(rest, whole[:, 25:], rtol=0, atol=2e-6)


def test_bf16_products_keep_a_float32_state_close_by() -> None:
    network = _network()
    window = torch.randn(16, 64, network.config.features)
    exact, rough = Cell(network), Cell(network, products=torch.bfloat16)
    a = b = torch.zeros(16, network.config.hidden_size)
    with torch.inference_mode():
        for t in range(64):
            a, b = exact.step(window[:, t], a), rough.step(window[:, t], b)
    assert b.dtype == torch.float32
    assert (a - b).abs().max() < 0.05
