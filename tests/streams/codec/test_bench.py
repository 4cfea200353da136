"""The bench of the kernels runs, and finds its answers right."""

from benchmarks.kernel import measure


def test_every_figure_is_measured() -> None:
    figures = measure(2_000)
    assert len(figures) == 4
    assert all(figure > 0 for figure in figures.values())
