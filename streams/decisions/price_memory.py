"""What price changes have taught about each SKU's demand, and which prices were set when, per row.

Demand is log-linear: units ~ exp(-b x - g w) with x = price / list - 1 and
w = price / competitor - 1 (0 where no competitor is known). `b` is the price sensitivity, the
(positive) elasticity at the list price, and `g` how much a lead over the competitor adds to it.
Traffic swings far more than that, so it is learned from orders per click:

    orders = clicks * exp(level - (1 - CLICK_SHARE) (b x + g w))

as `CLICK_SHARE` of the effect of a price, taken as given, is in the clicks already.

Buckets are summed while the price stays about the same until they hold `ORDERS_MIN` orders; then
log(orders / clicks) is one observation of the line above, with variance
NOISE / orders + SWING^2; the level itself drifts from one to the next. The likelihood is kept in
information form (a 3 x 3 matrix and a vector over level, b, g), so that it can be combined with any
prior: with that of the SKU's category, which `posterior` estimates from all of the partition's SKUs
of it (category_evidence.py). Gelman et al., Bayesian Data Analysis, 3rd ed., chapter 15
(hierarchical linear models); West and Harrison, Bayesian Forecasting and Dynamic Models, 2nd ed.,
chapter 4 (levels that drift).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streams.decisions.category_evidence import CategoryEvidence
from streams.decisions.guardrails import CHANGES_PER_HOUR_MAX, HOUR_MS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CLICK_SHARE: Final = 0.25
ORDERS_MIN: Final = 8  # in one observation: below, log(orders) is biased
NOISE: Final = 1.5  # variance of a count of orders, as a multiple of its mean
SWING: Final = 0.1  # how much the level strays within one observation, in logarithms
DRIFT: Final = 0.01  # standard deviation of a lasting change of the level between observations
SAME_PRICE: Final = 0.01  # a price that differs by less counts as the same
_MATRIX: Final = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))  # the six entries that are kept
_FIELDS: Final[dict[str, tuple[tuple[int, ...], type]]] = {
    "price_information": ((6,), np.float32),
    "price_score": ((3,), np.float32),
    "price_pending": ((4,), np.float32),  # orders, clicks, clicks * x, clicks * w
    "price_set_cents": ((), np.int64),  # the last price set by us; 0 none
    "price_changed_ms": ((CHANGES_PER_HOUR_MAX,), np.int64),  # newest first; 0 none
}


@dataclass(frozen=True, slots=True)
class PricePrior:
    """Before any sale: what `b` and `g` are for a category, and how far SKUs of one differ."""

    price_sensitivity: float = 1.4
    price_sensitivity_deviation: float = 0.5  # of a category's mean
    price_sensitivity_spread: float = 0.4  # of SKUs within a category
    competitor_sensitivity: float = 0.5
    competitor_sensitivity_deviation: float = 0.3
    competitor_sensitivity_spread: float = 0.2
    log_level: float = -3.0  # orders per click
    log_level_deviation: float = 3.0


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """Posterior of n SKUs, each array [n]."""

    price: Floats  # mean of b
    competitor: Floats  # mean of g
    price_deviation: Floats  # standard deviation of b


class PriceMemory:
    """Arrays by row [capacity]."""

    price_information: NDArray[np.float32]
    price_score: NDArray[np.float32]
    price_pending: NDArray[np.float32]
    price_set_cents: Ints
    price_changed_ms: Ints

    def __init__(self, capacity: int = 0, prior: PricePrior | None = None) -> None:
        self.prior = prior or PricePrior()
        spread = self.prior.price_sensitivity_spread, self.prior.competitor_sensitivity_spread
        self._within: Floats = np.diag(np.array(spread, np.float64) ** -2.0)
        for name, (shape, dtype) in _FIELDS.items():
            setattr(self, name, np.zeros((capacity, *shape), dtype))
        self._evidence = CategoryEvidence(capacity)

    def grow(self, capacity: int) -> None:
        """Room for `capacity` rows; what is known stays."""
        for name, (shape, dtype) in _FIELDS.items():
            old = getattr(self, name)
            if len(old) < capacity:
                new: NDArray[Any] = np.zeros((capacity, *shape), dtype)
                new[: len(old)] = old
                setattr(self, name, new)
        self._evidence.grow(capacity)

    def reset(self, rows: Ints) -> None:
        """Forget what these rows carried: another SKU moves in."""
        for name in _FIELDS:
            getattr(self, name)[rows] = 0
        self._evidence.touch(rows)

    def gather(self, rows: Ints) -> dict[str, NDArray[np.generic]]:
        """State of `rows` [n] for the snapshot: arrays [n, ...]."""
        return {name: getattr(self, name)[rows] for name in _FIELDS}

    def scatter(self, rows: Ints, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Put back what `gather` gave."""
        for name in _FIELDS:
            getattr(self, name)[rows] = state[name]
        self._evidence.touch(rows)

    def update(
        self,
        rows: Ints,
        orders: Ints,
        clicks: Floats,
        price_cents: Ints,
        list_price_cents: Ints,
        competitor_price_cents: Ints,
    ) -> None:
        """One closed bucket of distinct rows [n]: what orders came from how many clicks.

        Rows without a price, list price or clicks teach nothing. Clicks on an empty shelf must not
        count: cut them to the share of the bucket in stock.
        """
        told = (price_cents > 0) & (list_price_cents > 0) & (clicks > 0)
        if not told.any():
            return
        rows, orders, clicks = rows[told], orders[told], clicks[told]
        price = price_cents[told].astype(np.float64)
        x = price / list_price_cents[told] - 1.0
        competitor = competitor_price_cents[told]
        w = np.where(competitor > 0, price / np.maximum(competitor, 1) - 1.0, 0.0)

        pending = self.price_pending[rows].astype(np.float64)
        seen = np.maximum(pending[:, 1], 1e-9)
        before_x, before_w = pending[:, 2] / seen, pending[:, 3] / seen
        moved = (np.abs(x - before_x) > SAME_PRICE) | (np.abs(w - before_w) > SAME_PRICE)
        enough = pending[:, 0] >= ORDERS_MIN
        done = (pending[:, 1] > 0) & (moved | enough)
        learn = np.flatnonzero(done & enough)  # too few orders at the old price are dropped
        self._learn(rows[learn], pending[learn])
        pending[done] = 0.0
        pending += np.stack([orders, clicks, clicks * x, clicks * w], axis=1)
        self.price_pending[rows] = pending

    def _learn(self, rows: Ints, pending: Floats) -> None:
        """Take in one observation [n, 4] of each row."""
        orders, clicks = pending[:, 0], pending[:, 1]
        response = np.log((orders + 0.5) / clicks)  # the half takes out most of the bias
        weight = 1.0 / (NOISE / orders + SWING**2)
        effect = -(1.0 - CLICK_SHARE) * pending[:, 2:] / clicks[:, None]
        design = np.concatenate([np.ones((len(rows), 1)), effect], axis=1)
        products = np.stack([design[:, i] * design[:, j] for i, j in _MATRIX], axis=1)
        information = self.price_information[rows].astype(np.float64)
        score = self.price_score[rows].astype(np.float64)
        # the level has drifted: information on it fades, that on b and g stays
        level = information[:, :3]
        faded = DRIFT**2 / (1.0 + DRIFT**2 * level[:, 0])
        score -= (faded * score[:, 0])[:, None] * level
        information -= faded[:, None] * np.stack(
            [level[:, i] * level[:, j] for i, j in _MATRIX], axis=1
        )
        self.price_information[rows] = information + weight[:, None] * products
        self.price_score[rows] = score + (weight * response)[:, None] * design
        self._evidence.touch(rows)

    def posterior(self, rows: Ints, category: NDArray[np.integer]) -> Sensitivity:
        """Sensitivities of `rows` [n], each drawn to the mean of its category, which is learned
        from all rows of it. `category` [capacity] is that of every row: an index from 0, or -1 for
        one that tells of none; `rows` have one.
        """
        self._count(category)
        covariance, score = self._given_mean(rows)
        asked, place = np.unique(category[rows], return_inverse=True)
        means = self._means(asked)[place]
        mean = np.einsum("nij,nj->ni", covariance, score + means @ self._within)
        return Sensitivity(
            price=np.maximum(mean[:, 0], 0.2),
            competitor=np.maximum(mean[:, 1], 0.0),
            price_deviation=np.sqrt(covariance[:, 0, 0]),
        )

    def _count(self, category: NDArray[np.integer]) -> None:
        """Bring the evidence on each category's mean up to date."""
        rows = self._evidence.changed(category)
        covariance, score = self._given_mean(rows)
        pull = self._within @ covariance  # [n, 2, 2]
        precision = self._within - pull @ self._within
        weighted = np.einsum("nij,nj->ni", pull, score)
        figures = [precision[:, 0, 0], precision[:, 0, 1], precision[:, 1, 1], *weighted.T]
        self._evidence.count(rows, category[rows], np.stack(figures, axis=1))

    def _means(self, categories: NDArray[np.integer]) -> Floats:
        """(b, g) of these categories [n, 2]."""
        prior = self.prior
        centre = np.array([prior.price_sensitivity, prior.competitor_sensitivity])
        deviation = np.array(
            [prior.price_sensitivity_deviation, prior.competitor_sensitivity_deviation]
        )
        between = np.diag(deviation**-2.0)
        sums = self._evidence.of(categories)
        precision = sums[:, [0, 1, 1, 2]].reshape(-1, 2, 2) + between
        weighted = sums[:, 3:] + between @ centre
        means: Floats = np.linalg.solve(precision, weighted[:, :, None])[:, :, 0]
        return means

    def _given_mean(self, rows: Ints) -> tuple[Floats, Floats]:
        """Covariance [n, 2, 2] of (b, g) where the mean of the category is known, and what each
        SKU's own orders add to the score [n, 2].
        """
        information, score = self._marginal(rows)
        return np.asarray(np.linalg.inv(information + self._within), np.float64), score

    def _marginal(self, rows: Ints) -> tuple[Floats, Floats]:
        """Information [n, 2, 2] and score [n, 2] of (b, g) alone: the level is integrated out."""
        full = self.price_information[rows].astype(np.float64)
        score = self.price_score[rows].astype(np.float64)
        precision = self.prior.log_level_deviation**-2.0
        level = full[:, 0] + precision
        cross = full[:, 1:3]
        inner = np.stack([full[:, 3], full[:, 4], full[:, 4], full[:, 5]], axis=1)
        information = inner.reshape(-1, 2, 2)
        information = information - cross[:, :, None] * cross[:, None, :] / level[:, None, None]
        level_score = (score[:, 0] + precision * self.prior.log_level) / level
        return information, score[:, 1:3] - cross * level_score[:, None]

    def record_change(self, rows: Ints, price_cents: Ints, now_ms: int) -> None:
        """New prices [n] of distinct rows, set at `now_ms`."""
        self.price_set_cents[rows] = price_cents
        self.price_changed_ms[rows, 1:] = self.price_changed_ms[rows, :-1]
        self.price_changed_ms[rows, 0] = now_ms

    def changes_last_hour(self, rows: Ints, now_ms: int) -> Ints:
        """How often [n] a price was changed within the last hour."""
        recent = self.price_changed_ms[rows] > max(now_ms - HOUR_MS, 0)
        count: Ints = recent.sum(axis=1, dtype=np.int64)
        return count

    def since_change_ms(self, rows: Ints, now_ms: int) -> Ints:
        """Time [n] since the last change, at least 0; -1 where there was none."""
        last = self.price_changed_ms[rows, 0]
        return np.where(last > 0, np.maximum(now_ms - last, 0), -1)

    def current_price_cents(
        self, rows: Ints, shown_cents: Ints, shown_at_ms: Ints, list_price_cents: Ints
    ) -> Ints:
        """The price [n] in force: the last one set, or the one shoppers were shown since (which the
        shop may have set against our advice), or the list price.

        `shown_cents` is the mean price of a bucket that began at `shown_at_ms`; 0 for none.
        """
        ours = self.price_set_cents[rows]
        newer = (shown_cents > 0) & (shown_at_ms > self.price_changed_ms[rows, 0])
        known = np.where(newer, shown_cents, ours)
        return np.where(known > 0, known, list_price_cents)
