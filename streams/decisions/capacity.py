"""How many servers a service needs when one asked for now would be ready.

Every partition publishes its share of the load per closed bucket. Their means and variances add up
(quantiles do not), a request cost per event kind turns events into requests, and the total's
quantiles become replicas: out to what load or forecast ask for, whichever is more; in only when
the observed load has been low for a while. A share that is missing makes the total stale, never
smaller.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from streams.decisions.demand import normal_quantile
from streams.records import CapacityForecast, CapacityLevels, CapacityShare
from streams.settings import Service

POLICY_VERSION: Final = "capacity-1"
KINDS: Final = 3  # click, cart, order
QUANTILES: Final = (0.5, 0.9, 0.95)


@dataclass(frozen=True, slots=True)
class CapacityPolicy:
    """How load becomes replicas; the same for every service."""

    stale_after_ms: int = 60_000  # a share whose bucket ended longer ago is stale
    stabilisation_ms: int = (
        300_000  # observed load must have been low for so long before scaling in
    )
    shock_deviation: float = 0.1  # of the whole load at once, as a share of it, 1 minute ahead

    def __post_init__(self) -> None:
        if self.stale_after_ms < 1 or self.stabilisation_ms < 0 or self.shock_deviation < 0:
            raise ValueError(f"times and deviations of a capacity policy are positive: {self}")


@dataclass(frozen=True, slots=True)
class Load:
    """Requests a second of one service at one time: mean and variance."""

    mean: float
    variance: float


@dataclass(slots=True)
class _Scale:
    """What one service was told, and the observed need that could take it back."""

    held: list[int]  # replicas by quantile
    observed: deque[tuple[int, int]] = field(default_factory=deque)  # (as_of_ms, replicas needed)


class ShareSum:
    """Latest shares of all partitions; one owner per application.

    Bounded: one share a partition, and one entry a bucket of the stabilisation window.
    """

    def __init__(self, partitions: int, policy: CapacityPolicy | None = None) -> None:
        self._partitions = partitions
        self._policy = policy or CapacityPolicy()
        self._latest: dict[int, CapacityShare] = {}
        self._scales: dict[str, _Scale] = {}

    def add(self, share: CapacityShare) -> bool:
        """Take in a share, over a repeated one; False when a newer one is known."""
        if not 0 <= share.partition < self._partitions:
            return False
        known = self._latest.get(share.partition)
        if known is not None and known.bucket_start_ms > share.bucket_start_ms:
            return False
        self._latest[share.partition] = share
        return True

    def restore(self, last: CapacityForecast) -> None:
        """Go on from the last published record, so that a new owner does not scale in at once."""
        levels = last.desired_replicas
        held = [int(levels.p50), int(levels.p90), int(levels.p95)]
        observed = deque([(last.as_of_ms, max(held))])
        self._scales[last.service] = _Scale(held, observed)

    def missing(self, now_ms: int) -> str | None:
        """Why there is no total now, or None when every partition's share is fresh."""
        absent = [p for p in range(self._partitions) if p not in self._latest]
        if absent:
            return f"no share of partitions {absent} yet"
        ends = {p: share.bucket_start_ms + share.bucket_ms for p, share in self._latest.items()}
        stale = [p for p, end in ends.items() if now_ms - end > self._policy.stale_after_ms]
        if stale:
            return f"shares of partitions {sorted(stale)} are stale"
        return None

    def forecast(self, service: Service, now_ms: int) -> CapacityForecast | None:
        """Load and replicas of `service` at `now_ms` + its warm-up; None when one is `missing`."""
        if self.missing(now_ms) is not None:
            return None
        shares = list(self._latest.values())
        costs = (service.requests_per_click, service.requests_per_cart, service.requests_per_order)
        observed = sum(_observed(share, costs) for share in shares)
        load = self._total(shares, costs, now_ms + 1_000 * service.warm_up_s)
        rps = [gamma_quantile(load, probability) for probability in QUANTILES]
        replicas, reason = self._scaled(service, observed, rps, now_ms)
        return CapacityForecast(
            service=service.name,
            as_of_ms=now_ms,
            valid_until_ms=now_ms + self._policy.stale_after_ms,
            horizon_s=service.warm_up_s,
            predicted_rps=CapacityLevels(*rps),
            desired_replicas=CapacityLevels(*map(float, replicas)),
            observed_rps=observed,
            reason=reason,
            model_version=shares[0].model_version,
            policy_version=POLICY_VERSION,
        )

    def _total(self, shares: list[CapacityShare], costs: Sequence[float], at_ms: int) -> Load:
        """The sum over partitions at `at_ms`, and a shock that would hit them all."""
        parts = [_ahead(share, costs, at_ms) for share in shares]
        mean = sum(part.mean for part in parts)
        shock = (self._policy.shock_deviation * mean) ** 2
        return Load(mean, sum(part.variance for part in parts) + shock)

    def _scaled(
        self, service: Service, observed: float, rps: list[float], now_ms: int
    ) -> tuple[list[int], str]:
        need = replicas_for(observed, service)
        wanted = [max(need, replicas_for(one, service)) for one in rps]
        scale = self._scales.get(service.name)
        if scale is None:
            self._scales[service.name] = _Scale(list(wanted), deque([(now_ms, need)]))
            return wanted, "first forecast of this service"
        scale.observed.append((now_ms, need))
        while scale.observed[0][0] < now_ms - self._policy.stabilisation_ms:
            scale.observed.popleft()
        recent = max(replicas for _, replicas in scale.observed)
        before = list(scale.held)
        scale.held = [
            one if one >= held else max(one, min(held, recent))
            for one, held in zip(wanted, before, strict=True)
        ]
        return list(scale.held), _reason(before, scale.held, wanted, need)


def _reason(before: list[int], now: list[int], wanted: list[int], need: int) -> str:
    """In words, after the p90 level, the one that autoscalers are told to read."""
    if now[1] > before[1]:
        return (
            "the forecast asks for more" if wanted[1] > need else "the observed load asks for more"
        )
    if now[1] < before[1]:
        return "the observed load has stayed low"
    if wanted[1] < now[1]:
        return "holding until the observed load has stayed low"
    return "no change"


def replicas_for(rps: float, service: Service) -> int:
    """Replicas that serve `rps` within the service's objective, between its bounds."""
    needed = math.ceil(rps / service.rps_per_replica - 1e-9)
    return min(max(needed, service.replicas_min), service.replicas_max)


def gamma_quantile(load: Load, probability: float) -> float:
    """Quantile of a gamma load of this mean and variance (Wilson and Hilferty, 1931), from 0."""
    if load.mean <= 0.0:
        return 0.0
    share = load.variance / load.mean**2 / 9.0
    root = 1.0 - share + normal_quantile(probability) * math.sqrt(share)
    return float(load.mean * max(root, 0.0) ** 3)


def _observed(share: CapacityShare, costs: Sequence[float]) -> float:
    """Requests a second that this share's own bucket brought."""
    requests = sum(cost * count for cost, count in zip(costs, share.observed, strict=True))
    return 1_000.0 * requests / share.bucket_ms


def _ahead(share: CapacityShare, costs: Sequence[float], at_ms: int) -> Load:
    """The share's load at `at_ms`, linear between its horizons.

    At its origin it is what was observed; beyond the last horizon the mean stays and the variance
    grows in proportion to the time ahead.
    """
    origin_ms = share.bucket_start_ms + share.bucket_ms
    ahead_ms = max(at_ms - origin_ms, 0)
    rate = 1_000.0 / share.bucket_ms
    before_ms = 0
    before = Load(
        rate * sum(c * n for c, n in zip(costs, share.observed, strict=True)),
        rate * rate * sum(c * c * n for c, n in zip(costs, share.observed, strict=True)),
    )
    for horizon_ms, means, variances in zip(
        share.horizons_ms, share.mean_per_s, share.variance_per_s2, strict=True
    ):
        after = Load(
            sum(c * m for c, m in zip(costs, means, strict=True)),
            sum(c * c * v for c, v in zip(costs, variances, strict=True)),
        )
        if ahead_ms <= horizon_ms:
            part = (ahead_ms - before_ms) / (horizon_ms - before_ms)
            return Load(
                before.mean + part * (after.mean - before.mean),
                before.variance + part * (after.variance - before.variance),
            )
        before_ms, before = horizon_ms, after
    growth = ahead_ms / before_ms if before_ms else 1.0
    return Load(before.mean, before.variance * growth)
