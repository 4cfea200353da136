"""Demand: quantiles and expected sales against scipy."""

import math

import numpy as np
import pytest
from scipy import stats

from streams.decisions import demand

SEED = 11


def test_quantiles_equal_those_of_scipy_for_negative_binomial_and_poisson_demand() -> None:
    random = np.random.default_rng(SEED)
    means = np.exp(random.uniform(-4.0, 7.0, 2_000))
    dispersions = np.exp(random.uniform(-2.0, 5.0, 2_000))
    levels = random.choice([0.01, 0.1, 0.5, 0.9, 0.985, 0.999], 2_000)
    wanted = stats.nbinom.ppf(levels, dispersions, dispersions / (dispersions + means))
    assert (demand.quantiles(means, dispersions, levels) == wanted).all(), f"seed {SEED}"
    endless = np.full(2_000, np.inf)
    assert (demand.quantiles(means, endless, levels) == stats.poisson.ppf(levels, means)).all()


def test_demand_beyond_exact_summing_is_within_a_thousandth_of_scipy() -> None:
    for mean, dispersion in ((1e5, 5.0), (1e6, 50.0), (3e4, 2.0)):
        for level in (0.1, 0.5, 0.95):
            wanted = stats.nbinom.ppf(level, dispersion, dispersion / (dispersion + mean))
            assert demand.quantile(mean, dispersion, level) == pytest.approx(wanted, rel=4e-3)


def test_no_demand_has_no_quantile_but_zero() -> None:
    assert demand.quantile(0.0, 5.0, 0.99) == 0
    assert demand.quantile(3.0, 5.0, 0.0) == 0


def test_the_normal_quantile_is_exact_to_twelve_digits() -> None:
    for level in (1e-12, 1e-3, 0.02, 0.3, 0.5, 0.7, 0.999):
        assert demand.normal_quantile(level) == pytest.approx(stats.norm.ppf(level), rel=1e-12)
    assert demand.normal_quantile(0.0) == -math.inf
    assert demand.normal_quantile(1.0) == math.inf


def test_expected_sales_of_normal_demand_equal_those_integrated() -> None:
    mean, deviation, stock = 50.0, 8.0, 46.0
    x = np.linspace(mean - 10 * deviation, mean + 10 * deviation, 200_001)
    density = stats.norm.pdf(x, mean, deviation)
    wanted = float((np.minimum(x, stock) * density).sum() * (x[1] - x[0]))
    assert demand.expected_sales(mean, deviation, stock) == pytest.approx(wanted, rel=1e-6)
    assert demand.expected_sales(mean, deviation, 0.0) == 0.0
    assert demand.expected_sales(mean, 0.0, 7.0) == 7.0
