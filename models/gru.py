"""The network: a GRU whose hidden state is carried, and heads that are asked at an origin.

In training the GRU runs over whole tracks (torch's own), in serving one cell step per closed
bucket from the stored state (`Cell`); a test proves that both give the same outputs.
"""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from models.features import FEATURES, HORIZONS, KINDS, LOAD_LEADS, asked_columns
from models.heads import DemandHead, LoadHead

HIDDEN_SIZE = 48
DEMAND_ANSWERS: Final = 2 * HORIZONS
ANSWERS: Final = DEMAND_ANSWERS + 2 * LOAD_LEADS * KINDS


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes that a weights file must agree with."""

    hidden_size: int = HIDDEN_SIZE
    features: int = len(FEATURES)


class Network(nn.Module):
    """All that is learned."""

    feature_mean: Tensor
    feature_scale: Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("feature_mean", torch.zeros(config.features))
        self.register_buffer("feature_scale", torch.ones(config.features))
        self.gru = nn.GRU(config.features, config.hidden_size, batch_first=True)
        self.demand = DemandHead(config.hidden_size)
        self.load = LoadHead(config.hidden_size)

    def normalised(self, features: Tensor) -> Tensor:
        """Features centred, scaled, and bounded."""
        return ((features - self.feature_mean) / self.feature_scale).clamp(-6, 6)

    def forward(self, features: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Hidden states f32[n, t, H] after each of t steps of features [n, t, F]."""
        start = None if hidden is None else hidden.unsqueeze(0)
        states, _ = self.gru(self.normalised(features), start)
        return torch.as_tensor(states)

    def answers(self, asked: Tensor, hidden: Tensor) -> Tensor:
        """f32[n, ANSWERS] to asked f32[n, ASKED] of hidden f32[n, H]: demand's mean and dispersion
        by horizon, then load's by lead and kind.
        """
        query, components, loads, stretch, length, load_stretch, load_length = asked_columns(asked)
        demand = self.demand(hidden, query, stretch, components, length)
        load = self.load(hidden, query, load_stretch, loads, load_length)
        return torch.cat([answer.flatten(1) for answer in (*demand, *load)], dim=1)


class Cell:
    """One step of the same GRU for n rows (Cho et al. 2014, with torch's placing of the reset).

    `products` is the type of the matrix products; the state stays float32.
    """

    def __init__(self, network: Network, products: torch.dtype = torch.float32) -> None:
        gru = {name: value.detach() for name, value in network.gru.named_parameters()}
        self.network = network
        self.products = products
        self.input_weight = gru["weight_ih_l0"].to(products).t().contiguous()
        self.hidden_weight = gru["weight_hh_l0"].to(products).t().contiguous()
        self.input_bias = gru["bias_ih_l0"].float()
        self.hidden_bias = gru["bias_hh_l0"].float()

    def step(self, features: Tensor, hidden: Tensor) -> Tensor:
        """The next hidden state f32[n, H] from features f32[n, F] and hidden f32[n, H]."""
        size = hidden.shape[1]
        inputs = self.network.normalised(features).to(self.products)
        from_input = (inputs @ self.input_weight).float().add_(self.input_bias)
        from_hidden = (hidden.to(self.products) @ self.hidden_weight).float().add_(self.hidden_bias)
        gates = (from_input[:, : 2 * size] + from_hidden[:, : 2 * size]).sigmoid_()
        reset, update = gates[:, :size], gates[:, size:]
        candidate = (from_input[:, 2 * size :] + reset * from_hidden[:, 2 * size :]).tanh_()
        return torch.lerp(candidate, hidden, update)

    def checked_step(self, features: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """The next hidden state, 0 where it would not be finite, and where that was b1[n]."""
        after = self.step(features, hidden)
        bad = ~torch.isfinite(after).all(dim=1)
        return after.masked_fill(bad.unsqueeze(1), 0.0), bad
