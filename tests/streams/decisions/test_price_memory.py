"""What price changes teach: sensitivity found again, categories pooled, state kept."""

import numpy as np
import pytest

from streams.decisions.price_memory import CLICK_SHARE, PriceMemory, PricePrior

SEED = 3
HOUR_MS = 3_600_000
PRICES = (10_000, 9_000, 11_000, 8_500, 10_500, 12_000)


def told(
    memory: PriceMemory, sensitivity: np.ndarray, rivals: float, buckets: int = 120
) -> np.ndarray:
    """Feed `buckets` per price of orders that follow the model exactly; returns the rows."""
    random = np.random.default_rng(SEED)
    n = len(sensitivity)
    rows, whole = np.arange(n), np.ones(n, np.int64)
    for turn, cents in enumerate(PRICES * 2):
        competitor = 10_000 if turn < len(PRICES) else 8_000
        effect = sensitivity * (cents / 10_000 - 1) + rivals * (cents / competitor - 1)
        clicks = random.poisson(40.0 * np.exp(-CLICK_SHARE * effect), (buckets, n))
        orders = random.poisson(clicks * 0.08 * np.exp(-(1 - CLICK_SHARE) * effect))
        for bucket in range(buckets):
            memory.update(
                rows, orders[bucket], clicks[bucket].astype(np.float64), cents * whole,
                10_000 * whole, competitor * whole,
            )  # fmt: skip
    return rows


def test_without_sales_every_sku_has_the_prior() -> None:
    memory = PriceMemory(3)
    sensitivity = memory.posterior(np.arange(3), np.array([0, 0, 1]))
    assert sensitivity.price.tolist() == pytest.approx([1.4] * 3)
    assert sensitivity.competitor.tolist() == pytest.approx([0.5] * 3)
    assert sensitivity.price_deviation.tolist() == pytest.approx([0.4] * 3)


def test_sensitivities_are_found_again_from_orders_and_clicks() -> None:
    true = np.array([0.6, 1.0, 1.4, 1.8, 2.2])
    memory = PriceMemory(5)
    rows = told(memory, true, rivals=0.4)
    sensitivity = memory.posterior(rows, np.zeros(5, np.int64))
    off = np.abs(sensitivity.price - true)
    assert (off < 2.5 * sensitivity.price_deviation).all(), f"seed {SEED}"
    assert (np.diff(sensitivity.price) > 0).all()
    assert off.mean() < 0.7 * np.abs(true - 1.4).mean()
    assert (sensitivity.price_deviation < 0.3).all()


def test_a_sku_without_sales_learns_from_its_category() -> None:
    true = np.full(12, 2.7)
    memory = PriceMemory(14)
    told(memory, true, rivals=0.5)
    category = np.array([0] * 13 + [1])
    sensitivity = memory.posterior(np.arange(14), category)
    assert sensitivity.price[12] > 2.0  # same category, no sale of its own
    assert sensitivity.price[13] == pytest.approx(1.4)  # another one


def test_a_category_is_learned_from_skus_that_are_not_asked_for() -> None:
    memory = PriceMemory(14)
    told(memory, np.full(12, 2.7), rivals=0.5)
    category = np.array([0] * 13 + [1])
    whole = memory.posterior(np.arange(14), category)
    alone = memory.posterior(np.array([12]), category)
    assert alone.price[0] == whole.price[12] > 2.0
    category[:12] = -1  # the shop withdraws those from the catalog
    assert memory.posterior(np.array([12]), category).price[0] == pytest.approx(1.4)
    category[:12] = 1
    assert memory.posterior(np.array([13]), category).price[0] == whole.price[12]


def test_what_a_category_is_told_leaves_no_trace_of_its_order() -> None:
    """A worker that restores rows adds them up in another order than the one that learned them."""
    random = np.random.default_rng(SEED)
    skus = 60
    true = 1.4 + 0.4 * random.standard_normal(skus)
    memory, category = PriceMemory(skus), random.integers(0, 4, skus)
    for _ in range(5):
        told(memory, true, rivals=0.5, buckets=3)
        memory.posterior(random.choice(skus, 9, replace=False), category)
    other, moved = PriceMemory(skus), random.permutation(skus)
    for some in np.array_split(random.permutation(skus), 7):
        other.scatter(moved[some], memory.gather(some))
        theirs = np.full(skus, -1)
        theirs[moved[some]] = 3 - category[some]  # the shop moves them later
        other.posterior(moved[some], theirs)
    theirs[moved] = 9 - category  # other numbers for the same categories
    ours = memory.posterior(np.arange(skus), category)
    restored = other.posterior(moved, theirs)
    for name in ("price", "competitor", "price_deviation"):
        assert getattr(ours, name).tolist() == getattr(restored, name).tolist(), f"seed {SEED}"


def test_the_posterior_is_that_of_a_plain_gaussian_regression() -> None:
    """Against normal equations over (level, b, g) with the same prior, one SKU and category."""
    memory = PriceMemory(1)
    rows = told(memory, np.array([2.4]), rivals=0.3, buckets=40)
    prior = PricePrior()
    a, b, c, d, e, f = memory.price_information[0].astype(float)
    matrix = np.array([[a, b, c], [b, d, e], [c, e, f]])
    # one SKU alone: spread within the category and doubt about its mean add up
    variances = np.array([
        prior.log_level_deviation**2,
        prior.price_sensitivity_spread**2 + prior.price_sensitivity_deviation**2,
        prior.competitor_sensitivity_spread**2 + prior.competitor_sensitivity_deviation**2,
    ])  # fmt: skip
    centre = np.array([
        prior.log_level, prior.price_sensitivity, prior.competitor_sensitivity
    ])  # fmt: skip
    precision = np.diag(1.0 / variances)
    score = memory.price_score[0].astype(float)
    wanted = np.linalg.solve(matrix + precision, score + precision @ centre)
    sensitivity = memory.posterior(rows, np.zeros(1, np.int64))
    assert sensitivity.price[0] == pytest.approx(wanted[1], rel=1e-4)
    assert sensitivity.competitor[0] == pytest.approx(wanted[2], rel=1e-4)


def test_buckets_without_price_list_price_or_clicks_teach_nothing() -> None:
    memory, rows = PriceMemory(3), np.arange(3)
    orders = np.array([50, 50, 50])
    for _ in range(3):
        memory.update(
            rows, orders, np.array([100.0, 100.0, 0.0]), np.array([0, 9_000, 9_000]),
            np.array([10_000, 0, 10_000]), np.zeros(3, np.int64),
        )  # fmt: skip
    assert not memory.price_pending.any()
    assert not memory.price_information.any()


def test_sensitivity_never_turns_demand_upside_down() -> None:
    """A SKU that sells more at higher prices keeps a small positive sensitivity."""
    memory = PriceMemory(1)
    rows = told(memory, np.array([-4.0]), rivals=-2.0)
    sensitivity = memory.posterior(rows, np.zeros(1, np.int64))
    assert sensitivity.price[0] == pytest.approx(0.2)
    assert sensitivity.competitor[0] >= 0.0


def test_price_changes_are_counted_over_a_sliding_hour() -> None:
    memory, rows = PriceMemory(2), np.array([1])
    for now_ms in (10 * HOUR_MS, 10 * HOUR_MS + 1, 11 * HOUR_MS):
        memory.record_change(rows, np.array([9_900]), now_ms)
    assert memory.changes_last_hour(np.array([0, 1]), 11 * HOUR_MS).tolist() == [0, 2]
    assert memory.changes_last_hour(rows, 12 * HOUR_MS).tolist() == [0]
    assert memory.since_change_ms(np.array([0, 1]), 11 * HOUR_MS + 5).tolist() == [-1, 5]


def test_the_price_in_force_is_what_shoppers_were_shown_last() -> None:
    memory, rows = PriceMemory(1), np.array([0])

    def current(shown: int, at_ms: int) -> int:
        listed = np.array([10_000])
        cents = memory.current_price_cents(rows, np.array([shown]), np.array([at_ms]), listed)
        return int(cents[0])

    assert current(0, 0) == 10_000
    assert current(9_700, 5) == 9_700
    memory.record_change(rows, np.array([9_000]), 1_000)
    assert current(9_700, 5) == 9_000  # shown before our change
    assert current(9_500, 2_000) == 9_500  # the shop went its own way


def test_rows_survive_a_snapshot_growth_and_reset() -> None:
    memory = PriceMemory(2)
    told(memory, np.array([1.2, 2.8]), rivals=0.5, buckets=20)
    memory.record_change(np.array([0, 1]), np.array([9_000, 9_100]), 77)
    other = PriceMemory(0)
    other.grow(6)
    other.scatter(np.array([5, 3]), memory.gather(np.array([0, 1])))
    ours = memory.posterior(np.array([0, 1]), np.zeros(2, np.int64))
    theirs = other.posterior(np.array([5, 3]), np.array([-1, -1, -1, 0, -1, 0]))
    assert ours.price.tolist() == theirs.price.tolist()
    other.reset(np.array([5]))
    assert not any(array.any() for array in other.gather(np.array([5])).values())
    assert other.since_change_ms(np.array([5, 3]), 100).tolist() == [-1, 23]


def test_no_rows_is_no_error() -> None:
    memory, nothing = PriceMemory(2), np.zeros(0, np.int64)
    memory.update(nothing, nothing, np.zeros(0), nothing, nothing, nothing)
    assert len(memory.posterior(nothing, np.zeros(2, np.int64)).price) == 0
