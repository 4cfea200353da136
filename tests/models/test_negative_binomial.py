"""Quantiles and probabilities from the table against sums of probabilities."""

import math

import numpy as np

from models.negative_binomial import nb_cdf, nb_quantile


def _quantile(mean: float, dispersion: float, q: float) -> int:
    """By summing the mass function from 0."""
    p = dispersion / (dispersion + mean)
    mass = math.exp(dispersion * math.log(p))
    total, k = mass, 0
    while total < q:
        mass *= (k + dispersion) / (k + 1) * (1 - p)
        total += mass
        k += 1
    return k


def test_quantiles_err_by_at_most_two_units_or_three_percent() -> None:
    random = np.random.default_rng(11)
    n = 1_500
    mean = np.exp(random.uniform(math.log(0.01), math.log(2_000), n))
    dispersion = np.exp(random.uniform(math.log(0.02), math.log(999), n))
    q = random.choice([0.05, 0.1, 0.5, 0.9, 0.95, 0.99], n)
    exact = np.array([_quantile(*one) for one in zip(mean, dispersion, q, strict=True)])
    error = np.abs(nb_quantile(mean, dispersion, q) - exact)
    relative = np.where(dispersion < 0.1, 0.1, 0.03)
    assert (error <= np.maximum(2, relative * exact)).all()
    few = exact < 20
    assert error[few].max() <= 1
    assert (error[few] == 0).mean() > 0.97


def test_quantiles_rise_with_q_and_with_the_mean() -> None:
    mean = np.geomspace(0.01, 1e5, 200)[:, None]
    q = np.linspace(0.01, 0.99, 50)[None, :]
    quantiles = nb_quantile(mean, np.array(2.0), q)
    assert (np.diff(quantiles, axis=0) >= 0).all()
    assert (np.diff(quantiles, axis=1) >= 0).all()


def test_no_demand_has_only_zero_quantiles() -> None:
    assert nb_quantile(np.zeros(3), np.ones(3), 0.99).tolist() == [0, 0, 0]


def test_a_large_dispersion_is_poisson() -> None:
    # Poisson(5): P(X <= 4) = .4405, P(X <= 8) = .9319, P(X <= 9) = .9682
    mean = np.full(3, 5.0)
    assert nb_quantile(mean, np.full(3, 1e6), np.array([0.44, 0.93, 0.95])).tolist() == [4, 8, 9]


def test_the_distribution_function_matches_sums_of_probabilities() -> None:
    random = np.random.default_rng(12)
    mean = np.exp(random.uniform(math.log(0.05), math.log(300), 300))
    dispersion = np.exp(random.uniform(math.log(0.1), math.log(900), 300))
    k = random.poisson(mean)
    exact = []
    for m, r, count in zip(mean, dispersion, k, strict=True):
        p = r / (r + m)
        mass = math.exp(r * math.log(p))
        total = mass
        for i in range(count):
            mass *= (i + r) / (i + 1) * (1 - p)
            total += mass
        exact.append(total)
    assert np.abs(nb_cdf(k, mean, dispersion) - exact).max() < 0.01
