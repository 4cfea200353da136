"""Capacity: totals, quantiles, staleness, and scaling out and in."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
from scipy import stats

from streams.decisions.capacity import (
    CapacityPolicy,
    Load,
    ShareSum,
    gamma_quantile,
    replicas_for,
)
from streams.records import CapacityForecast, CapacityShare
from streams.settings import Service

T0 = 1_700_000_000_000
BUCKET_MS = 10_000
CALM = CapacityPolicy(shock_deviation=0.0)
SERVICE = Service(
    name="shop", requests_per_click=1.0, requests_per_cart=2.0, requests_per_order=5.0,
    rps_per_replica=50.0, warm_up_s=60, replicas_min=2, replicas_max=40,
)  # fmt: skip


@dataclass
class Partition:
    """Makes the shares of one partition: clicks only, 1 request each."""

    number: int = 0

    def share(
        self, at: int, observed_rps: float, ahead_rps: float, variance: float = 0.0
    ) -> CapacityShare:
        return CapacityShare(
            partition=self.number,
            bucket_start_ms=T0 + at * BUCKET_MS,
            bucket_ms=BUCKET_MS,
            observed=[round(observed_rps * BUCKET_MS / 1_000), 0, 0],
            horizons_ms=[60_000, 300_000],
            mean_per_s=[[ahead_rps, 0.0, 0.0], [ahead_rps, 0.0, 0.0]],
            variance_per_s2=[[variance, 0.0, 0.0], [variance, 0.0, 0.0]],
            model_version="m1",
        )


def forecast(shares: ShareSum, at: int) -> CapacityForecast:
    made = shares.forecast(SERVICE, T0 + (at + 1) * BUCKET_MS)
    assert made is not None, shares.missing(T0 + (at + 1) * BUCKET_MS)
    return made


def test_means_and_variances_add_up_and_quantiles_follow_the_total() -> None:
    shares = ShareSum(4, CALM)
    for number in range(4):
        assert shares.add(Partition(number).share(0, 100.0, 200.0, variance=400.0))
    made = forecast(shares, 0)
    assert made.observed_rps == 400.0
    deviation = math.sqrt(4 * 400.0)
    assert made.predicted_rps.p50 == pytest.approx(800.0, rel=1e-3)
    assert made.predicted_rps.p95 == pytest.approx(800.0 + 1.645 * deviation, rel=2e-3)
    apart = 4 * (200.0 + 1.645 * 20.0)
    assert made.predicted_rps.p95 < apart - 50  # what summing quantiles would ask for
    assert made.desired_replicas.p50 == 16.0
    assert made.desired_replicas.p95 == 18.0


def test_requests_cost_what_the_service_says() -> None:
    shares = ShareSum(1, CALM)
    shares.add(
        CapacityShare(
            0, T0, BUCKET_MS, [100, 50, 10], [60_000], [[20.0, 5.0, 1.0]], [[0.0, 0.0, 0.0]], "m"
        )
    )
    made = forecast(shares, 0)
    assert made.observed_rps == (100 + 2 * 50 + 5 * 10) / 10
    assert made.predicted_rps.p50 == pytest.approx(20 + 2 * 5 + 5 * 1)


def test_a_repeated_share_overwrites_and_an_older_one_is_ignored() -> None:
    shares = ShareSum(1, CALM)
    assert shares.add(Partition().share(5, 100.0, 100.0))
    assert shares.add(Partition().share(5, 100.0, 100.0))
    assert not shares.add(Partition().share(4, 900.0, 900.0))
    assert forecast(shares, 5).observed_rps == 100.0


def test_a_missing_share_goes_stale_and_never_to_zero() -> None:
    shares = ShareSum(2, CALM)
    shares.add(Partition(0).share(0, 100.0, 100.0))
    assert shares.forecast(SERVICE, T0 + BUCKET_MS) is None
    assert shares.missing(T0 + BUCKET_MS) == "no share of partitions [1] yet"
    shares.add(Partition(1).share(0, 100.0, 100.0))
    for at in range(1, 7):
        shares.add(Partition(0).share(at, 100.0, 100.0))
        assert forecast(shares, at).observed_rps == 200.0  # the last share of 1 still counts
    shares.add(Partition(0).share(7, 100.0, 100.0))
    assert shares.forecast(SERVICE, T0 + 8 * BUCKET_MS) is None
    assert shares.missing(T0 + 8 * BUCKET_MS) == "shares of partitions [1] are stale"


def test_a_share_of_a_partition_that_does_not_exist_is_refused() -> None:
    assert not ShareSum(2).add(Partition(2).share(0, 1.0, 1.0))


def test_it_scales_out_ahead_of_the_load() -> None:
    shares = ShareSum(1, CALM)
    shares.add(Partition().share(0, 100.0, 1_000.0))
    made = forecast(shares, 0)
    assert made.desired_replicas.p50 == 20.0
    assert made.reason == "first forecast of this service"
    shares.add(Partition().share(1, 100.0, 1_500.0))
    assert forecast(shares, 1).reason == "the forecast asks for more"


def test_a_forecast_that_misses_a_peak_does_not_hold_it_back() -> None:
    shares = ShareSum(1, CALM)
    shares.add(Partition().share(0, 100.0, 100.0))
    forecast(shares, 0)
    shares.add(Partition().share(1, 1_000.0, 100.0))
    made = forecast(shares, 1)
    assert made.desired_replicas.p50 == 20.0
    assert made.reason == "the observed load asks for more"


def test_it_scales_in_only_after_the_observed_load_has_stayed_low() -> None:
    shares = ShareSum(1, CALM)
    replicas = []
    for at in range(45):
        observed = 1_000.0 if at < 5 else 200.0
        shares.add(Partition().share(at, observed, 50.0))  # the forecast says low all along
        replicas.append(forecast(shares, at).desired_replicas.p90)
    assert replicas[:5] == [20.0] * 5
    assert set(replicas[5:34]) == {20.0}  # five minutes of stabilisation
    assert replicas[36:] == [4.0] * 9


def test_a_forecast_never_scales_in_below_the_observed_load() -> None:
    shares = ShareSum(1, CALM)
    for at in range(60):
        shares.add(Partition().share(at, 1_000.0, 0.0))
        assert forecast(shares, at).desired_replicas.p50 == 20.0


def test_replicas_stay_between_minimum_and_maximum() -> None:
    assert replicas_for(0.0, SERVICE) == 2
    assert replicas_for(1e9, SERVICE) == 40
    assert replicas_for(150.0, SERVICE) == 3
    assert replicas_for(150.1, SERVICE) == 4


def test_the_load_at_the_end_of_the_warm_up_is_read_between_the_horizons() -> None:
    shares = ShareSum(1, CALM)
    share = CapacityShare(
        0, T0, BUCKET_MS, [1_000, 0, 0], [60_000, 300_000],
        [[200.0, 0.0, 0.0], [440.0, 0.0, 0.0]], [[0.0] * 3] * 2, "m",
    )  # fmt: skip
    shares.add(share)

    def median(warm_up_s: int) -> float:
        service = SERVICE.model_copy(update={"warm_up_s": warm_up_s, "name": f"s{warm_up_s}"})
        made = shares.forecast(service, T0 + BUCKET_MS)
        assert made is not None
        return made.predicted_rps.p50

    assert median(60) == pytest.approx(200.0, rel=1e-3)
    assert median(180) == pytest.approx(320.0, rel=1e-3)
    assert median(300) == pytest.approx(440.0, rel=1e-3)
    assert median(900) == pytest.approx(440.0, rel=1e-3)
    assert 100.0 < median(30) < 200.0


def test_a_share_without_forecast_counts_as_observed() -> None:
    """A partition whose model is off still says what it sees."""
    shares = ShareSum(1, CALM)
    shares.add(CapacityShare(0, T0, BUCKET_MS, [1_000, 0, 0], [], [], [], "none"))
    made = forecast(shares, 0)
    assert made.observed_rps == 100.0
    assert made.predicted_rps.p50 == pytest.approx(100.0, rel=0.01)


def test_a_common_shock_widens_the_total() -> None:
    shares, calm = ShareSum(1), ShareSum(1, CALM)
    for one in (shares, calm):
        one.add(Partition().share(0, 1_000.0, 1_000.0, variance=1_000.0))
    assert forecast(shares, 0).predicted_rps.p95 > forecast(calm, 0).predicted_rps.p95 + 50


def test_a_new_owner_goes_on_from_the_last_record() -> None:
    first = ShareSum(1, CALM)
    first.add(Partition().share(0, 1_000.0, 100.0))
    last = forecast(first, 0)
    second = ShareSum(1, CALM)
    second.restore(last)
    second.add(Partition().share(1, 100.0, 100.0))
    assert forecast(second, 1).desired_replicas == last.desired_replicas


@pytest.mark.parametrize("deviation_share", [0.05, 0.2, 0.5])
def test_the_gamma_quantile_is_close_to_the_exact_one(deviation_share: float) -> None:
    load = Load(1_000.0, (1_000.0 * deviation_share) ** 2)
    shape = deviation_share**-2
    for level in (0.5, 0.9, 0.95):
        wanted = stats.gamma.ppf(level, shape, scale=1_000.0 / shape)
        assert gamma_quantile(load, level) == pytest.approx(wanted, rel=2e-3)
    assert gamma_quantile(Load(0.0, 0.0), 0.9) == 0.0
    assert np.isfinite(gamma_quantile(Load(1e-9, 5.0), 0.95))
