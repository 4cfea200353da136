import numpy as np

from streams.simulation.noise import Draw, normal_quantile, poisson_quantile, uniform


def test_a_draw_depends_on_its_own_counters_alone() -> None:
    few = uniform(3, Draw.QUANTITY, 7, np.arange(5))
    many = uniform(3, Draw.QUANTITY, 7, np.arange(500))
    assert np.array_equal(few, many[:5])
    assert not np.any(few == uniform(3, Draw.EVENT_TIME, 7, np.arange(5)))
    assert not np.any(few == uniform(4, Draw.QUANTITY, 7, np.arange(5)))


def test_uniforms_are_uniform_and_never_0_or_1() -> None:
    drawn = uniform(11, Draw.TRAFFIC, np.arange(100_000))
    assert drawn.min() > 0.0 and drawn.max() < 1.0
    assert abs(drawn.mean() - 0.5) < 0.005
    assert abs(np.corrcoef(drawn[1:], drawn[:-1])[0, 1]) < 0.01


def test_the_normal_quantile_matches_known_values() -> None:
    known = {0.5: 0.0, 0.975: 1.959963984540054, 0.001: -3.090232306167813, 0.9: 1.2815515655446004}
    found = normal_quantile(np.asarray(list(known)))
    assert np.allclose(found, list(known.values()), atol=1e-8)


def test_poisson_counts_have_the_right_mean_and_variance_on_both_sides_of_the_approximation() -> (
    None
):
    drawn = uniform(5, Draw.CLICK_COUNT, np.arange(100_000))
    for mean in (0.02, 3.0, 11.9, 12.1, 150.0):
        counts = poisson_quantile(drawn, np.full(len(drawn), mean))
        assert abs(counts.mean() - mean) < 0.02 * mean + 0.002
        assert abs(counts.var() - mean) < 0.04 * mean + 0.002


def test_a_higher_mean_gives_no_fewer_counts_for_the_same_draw() -> None:
    drawn = uniform(6, Draw.CLICK_COUNT, np.arange(20_000))
    before = poisson_quantile(drawn, np.full(len(drawn), 0.0))
    assert before.max() == 0
    for mean in (0.5, 2.0, 8.0, 11.0, 13.0, 40.0):
        counts = poisson_quantile(drawn, np.full(len(drawn), mean))
        assert np.all(counts >= before)
        before = counts
