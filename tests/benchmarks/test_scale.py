"""The bench of scale in small: it checks its own counts, and says something of every size."""

import numpy as np

from benchmarks.scale import (
    CHANGED,
    EVENTS_EACH,
    PARTITIONS,
    TICKS,
    drawn,
    measure,
    table,
    tick_cost,
    worker,
)


def test_every_size_and_shop_has_its_figures() -> None:
    sizes = (200, 400)
    result = measure(sizes, 4_000, 1)
    for mode in ("windows", "decisions"):
        for shop in ("whole", "hot"):
            assert list(result[mode][shop]) == list(sizes)
            assert all(one["ns_per_event"] > 0 for one in result[mode][shop].values())
        assert result[mode]["changelog_row_bytes"] > 0
    assert len(list(table(result))) == 1 + 2 * (len(sizes) + 1)


def test_a_tick_is_of_the_changed_alone_and_loses_none() -> None:
    random = np.random.default_rng(7)
    one = worker(500, False, None, random)
    assert sum(len(pipeline.skus) for pipeline in one.pipelines) == 500
    before = one.counted()
    tick_cost(one, random)
    settled = one.skus  # an event each, before the ticks
    assert one.counted() - before == settled + TICKS * CHANGED * EVENTS_EACH
    assert [int(pipeline.windows.dirty.sum()) for pipeline in one.pipelines] == [0] * PARTITIONS


def test_the_hot_shop_sells_what_is_hot() -> None:
    random = np.random.default_rng(7)
    assert (
        drawn("hot", 100_000, 500, random).max() < 1_000 < drawn("whole", 10**5, 500, random).max()
    )
