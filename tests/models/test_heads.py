"""The heads' promises and the likelihood's formulas."""

import math

import torch

from models.features import COMPONENTS, INTERVAL, QUERY
from models.heads import DemandHead, log_probability, log_tail, negative_log_likelihood

SEED = 5


def _asked(n: int) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(SEED)
    return (
        torch.randn(n, 48),
        torch.randn(n, len(QUERY)),
        torch.randn(n, 5, len(INTERVAL)),
        torch.rand(n, len(COMPONENTS)) * 4,
        torch.rand(n, 5) * 100,
    )


def test_cumulative_means_rise_with_the_horizon() -> None:
    head = DemandHead(48)
    torch.nn.init.normal_(head.out.weight)
    mean, dispersion = head(*_asked(500))
    assert (mean.diff(dim=1) >= 0).all()
    assert (dispersion >= 0.1 - 1e-6).all()


def test_an_untrained_head_is_the_mean_of_the_plain_forecasts() -> None:
    hidden, query, interval, components, length = _asked(20)
    mean, _ = DemandHead(48)(hidden, query, interval, components, length)
    plain = components.mean(1, keepdim=True) * length.cumsum(1)
    torch.testing.assert_close(mean, plain)


def test_probabilities_sum_to_one_and_have_the_stated_mean_and_variance() -> None:
    count = torch.arange(4_000, dtype=torch.float64)
    mean, r = torch.tensor(7.0, dtype=torch.float64), torch.tensor(1.3, dtype=torch.float64)
    mass = log_probability(count, mean, r).exp()
    assert math.isclose(mass.sum().item(), 1, abs_tol=1e-9)
    first = (mass * count).sum().item()
    second = (mass * count**2).sum().item()
    assert math.isclose(first, 7.0, rel_tol=1e-9)
    assert math.isclose(second - first**2, 7 + 49 / 1.3, rel_tol=1e-9)


def test_the_censored_tail_is_the_sum_of_probabilities_above() -> None:
    for mean, r in ((0.4, 0.5), (6.0, 2.0), (30.0, 8.0)):
        count = torch.arange(0, 45, dtype=torch.float64)
        m, d = torch.full_like(count, mean), torch.full_like(count, r)
        grid = torch.arange(6_000, dtype=torch.float64)
        mass = log_probability(grid, m[:1], d[:1]).exp()
        exact = torch.stack([mass[int(k) :].sum() for k in count])
        kept = exact > 1e-4
        torch.testing.assert_close(
            log_tail(count, m, d).exp()[kept], exact[kept], rtol=1e-4, atol=0
        )


def test_the_approximate_tail_is_close_above_48_units() -> None:
    for mean, r, count in ((80.0, 6.0, 90), (120.0, 2.0, 60), (400.0, 20.0, 500)):
        grid = torch.arange(20_000, dtype=torch.float64)
        m, d = torch.tensor([mean]).double(), torch.tensor([r]).double()
        exact = log_probability(grid, m, d).exp()[count:].sum().item()
        approximate = log_tail(torch.tensor([float(count)]).double(), m, d).exp().item()
        assert abs(approximate - exact) < 0.01


def test_an_empty_shelf_makes_sales_a_lower_bound() -> None:
    sold = torch.tensor([5.0, 5.0])
    mean = torch.tensor([50.0, 50.0], requires_grad=True)
    r = torch.tensor([10.0, 10.0])
    loss = negative_log_likelihood(sold, mean, r, torch.tensor([False, True]))
    loss.sum().backward()
    assert mean.grad is not None
    assert loss[0] > 1 and loss[1] < 0.01  # five sold of fifty: odd when full, natural when empty
    assert mean.grad[0] > 0.01 and abs(mean.grad[1]) < 1e-3  # and no pull downwards
