"""What the hidden state is asked: demand per cumulative horizon, and load by kind of event.

Demand over stretch i of length L_i buckets is L_i times a mixture of plain rate forecasts
(discounted levels, clicks x conversion, TSB, category) times exp(correction): it starts as good as
the plain forecasts and learns when to trust which. Increments are positive, so cumulative means
rise with the horizon. The likelihood is negative binomial, censored where the shelf was empty.
"""

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from models.features import COMPONENTS, INTERVAL, KINDS, LOAD_SCALES, QUERY

CORRECTION_MAX: Final = 3.0
LOG_DISPERSION_MIN: Final = -3.9  # r = 0.02
LOG_DISPERSION_MAX: Final = 6.9  # r = 1,000
EXACT_SALES_MAX: Final = 48  # above it the censored tail is approximated
SURPRISE_USUAL: Final = 10.0  # nats above the log of the mean
TRUNK = 48
BRANCH = 32


class Trunk(nn.Module):
    """[n, BRANCH] per stretch from hidden state, query and the stretch's description."""

    query_mean: Tensor
    query_scale: Tensor
    interval_mean: Tensor
    interval_scale: Tensor

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.register_buffer("query_mean", torch.zeros(len(QUERY)))
        self.register_buffer("query_scale", torch.ones(len(QUERY)))
        self.register_buffer("interval_mean", torch.zeros(len(INTERVAL)))
        self.register_buffer("interval_scale", torch.ones(len(INTERVAL)))
        self.shared = nn.Linear(hidden_size + len(QUERY), TRUNK)
        self.stretch = nn.Linear(len(INTERVAL), TRUNK)
        self.branch = nn.Linear(TRUNK, BRANCH)

    def forward(self, hidden: Tensor, query: Tensor, interval: Tensor) -> Tensor:
        """hidden [n, H], query [n, Q], interval [n, i, I] -> [n, i, BRANCH]."""
        query = ((query - self.query_mean) / self.query_scale).clamp(-6, 6)
        interval = ((interval - self.interval_mean) / self.interval_scale).clamp(-6, 6)
        shared = self.shared(torch.cat((hidden, query), dim=1))
        return silu(self.branch(silu(shared.unsqueeze(1) + self.stretch(interval))))


class DemandHead(nn.Module):
    """Mean and dispersion of cumulative demand at each horizon."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.trunk = Trunk(hidden_size)
        self.out = nn.Linear(BRANCH, len(COMPONENTS) + 2)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(
        self, hidden: Tensor, query: Tensor, interval: Tensor, components: Tensor, length: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mean and dispersion [n, i] of demand from the origin to the end of each stretch.

        components [n, K] units per bucket; length [n, i] of each stretch in buckets.
        """
        out = self.out(self.trunk(hidden, query, interval))
        kinds = components.shape[1]
        weights = out[:, :, :kinds].softmax(dim=2)
        rate = (weights * components.unsqueeze(1)).sum(2)
        correction = CORRECTION_MAX * torch.tanh(out[:, :, kinds] / CORRECTION_MAX)
        mean = (length * rate * correction.exp()).cumsum(1)
        return mean, _dispersion(out[:, :, kinds + 1])


class LoadHead(nn.Module):
    """Mean and dispersion of event counts by kind in single stretches ahead."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.trunk = Trunk(hidden_size)
        self.out = nn.Linear(BRANCH, KINDS * (LOAD_SCALES + 2))
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(
        self, hidden: Tensor, query: Tensor, interval: Tensor, loads: Tensor, length: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mean and dispersion [n, i, kinds] of counts; loads [n, kinds, 3] events per bucket."""
        out = self.out(self.trunk(hidden, query, interval))
        out = out.unflatten(2, (KINDS, LOAD_SCALES + 2))
        weights = out[..., :LOAD_SCALES].softmax(dim=3)
        rate = (weights * loads.unsqueeze(1)).sum(3)
        correction = CORRECTION_MAX * torch.tanh(out[..., LOAD_SCALES] / CORRECTION_MAX)
        return length.unsqueeze(2) * rate * correction.exp(), _dispersion(out[..., -1])


def _dispersion(raw: Tensor) -> Tensor:
    """r, about 3 before anything is learned."""
    return (raw + 1.0).clamp(LOG_DISPERSION_MIN, LOG_DISPERSION_MAX).exp()


def log_probability(count: Tensor, mean: Tensor, dispersion: Tensor) -> Tensor:
    """log P(X = count) of the negative binomial with variance mean + mean^2 / dispersion."""
    mean = mean.clamp(min=1e-8)
    return (
        torch.lgamma(count + dispersion)
        - torch.lgamma(dispersion)
        - torch.lgamma(count + 1)
        + dispersion * torch.log(dispersion / (dispersion + mean))
        + count * torch.log(mean / (dispersion + mean))
    )


def log_tail(count: Tensor, mean: Tensor, dispersion: Tensor) -> Tensor:
    """log P(X >= count), 1-d tensors: exact sums up to 48 units, beyond by Wilson and Hilferty's
    cube-root normal for the gamma of equal mean and variance.
    """
    few = count <= EXACT_SALES_MAX
    below = torch.arange(EXACT_SALES_MAX, dtype=mean.dtype, device=mean.device)
    each = log_probability(below, mean.unsqueeze(1), dispersion.unsqueeze(1))
    each = each.masked_fill(below >= count.unsqueeze(1), -torch.inf)
    head = each.logsumexp(1).exp().clamp(max=1 - 1e-6)
    exact = torch.where(count > 0, torch.log1p(-head), torch.zeros_like(head))
    mean = mean.clamp(min=1e-6)
    alpha = mean / (1 + mean / dispersion)  # mean^2 / variance
    ratio = ((count - 0.5).clamp(min=0.5) / mean) ** (1 / 3)
    score = (ratio - (1 - 1 / (9 * alpha))) * 3 * alpha.sqrt()
    return torch.where(few, exact, torch.special.log_ndtr(-score.clamp(max=12)))


def negative_log_likelihood(
    sold: Tensor, mean: Tensor, dispersion: Tensor, censored: Tensor
) -> Tensor:
    """Per element: -log P(X = sold), or -log P(X >= sold) where the shelf was empty at times.

    What is far beyond the surprise of its size (a bulk order) counts by its logarithm, so that one
    order of tens of thousands does not rule what is learned of all others.
    """
    loss = -log_probability(sold, mean, dispersion)
    at = censored.nonzero(as_tuple=True)
    if at[0].numel():
        tail = -log_tail(sold[at], mean[at], dispersion[at])
        loss = loss.index_put(at, tail)
    usual = torch.log1p(mean.detach()) + SURPRISE_USUAL
    excess = (loss - usual).clamp(min=0)
    return loss - excess + torch.log1p(excess)
