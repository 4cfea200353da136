"""SKUs that leave give their rows back: clean, exactly, and a bounded number at a time."""

from typing import Any

import msgspec
import numpy as np
import pytest

from models.forecaster import Forecaster
from streams import topics
from streams.leaving import RELEASED_MAX
from streams.pipeline import Pipeline
from streams.records import CatalogEntry, CompetitorPrice, StockLevel
from streams.settings import Settings, load
from tests.streams.harness import NOW_MS, Core, Log, event

START_MS = NOW_MS - NOW_MS % 60_000
RETENTION_MS = 600_000
MINUTE_MS = 60_000


def settings(**changed: Any) -> Settings:
    return load(clock="event", partitions=1, sku_retention_ms=RETENTION_MS, **changed)


def begun(*skus: str, sale_end_ms: int = START_MS + MINUTE_MS) -> Log:
    """SKUs on sale for a minute, with stock, a competitor and some activity; `steady` goes on."""
    log = Log()
    for sku in skus:
        key = sku.encode()
        entry = CatalogEntry(
            sku, "t", "c", 1_000, 600, 500, 1_500, 600_000, START_MS - MINUTE_MS, sale_end_ms
        )
        log.add(topics.CATALOG, (key, msgspec.json.encode(entry)))
        level = StockLevel(sku, 5, 0, START_MS)
        log.add(topics.STOCK_LEVELS, (key, msgspec.json.encode(level)))
        price = CompetitorPrice(sku, "rival", 900, START_MS)
        log.add(topics.COMPETITOR_PRICES, (key, msgspec.json.encode(price)))
    number = 0
    for second in range(0, 60, 5):
        for sku in skus:
            number += 1
            at_ms = START_MS + second * 1_000
            log.add(topics.CLICKS, event(number, sku, at_ms))
            log.add(topics.CARTS, event(number, sku, at_ms, quantity=1))
            log.add(topics.ORDERS, event(number, sku, at_ms, quantity=1))
    return log


def go_on(log: Log, to_ms: int, sku: str = "steady") -> None:
    """One event of each topic at `to_ms`: what is before it is over."""
    for topic in topics.EVENT_TOPICS:
        number = 1_000_000 + len(log.records[topic])
        log.add(topic, event(number, sku, to_ms, quantity=int(topic != topics.CLICKS)))


def fed(core: Core, checkpoints: int = 1) -> None:
    for topic in topics.INPUT_TOPICS:
        core.feed(topic)
    core.run()
    for _ in range(checkpoints):
        core.checkpoint()


def everything(pipeline: Pipeline, row: int) -> dict[str, Any]:
    """All that any memory holds of a row."""
    rows = np.array([row])
    reference = pipeline.decider.reference
    held: dict[str, Any] = {**pipeline.windows.gather(rows), **pipeline.decider.gather(rows)}
    held |= {f"reference {name}": array[rows] for name, array in vars(reference).items()
             if isinstance(array, np.ndarray)}  # fmt: skip
    held |= pipeline.windows.history.of(rows)._asdict()
    held["dirty"] = pipeline.windows.dirty[rows]
    if pipeline.memory is not None:
        held |= pipeline.memory.gather(rows)
    return {name: array.tolist() for name, array in held.items()}


def test_a_row_given_back_holds_nothing_of_its_sku() -> None:
    core = Core(settings(), begun("a", "b"), Forecaster.load(None, "cpu"))
    fed(core)
    go_on(core.log, START_MS + 5 * MINUTE_MS)
    fed(core)
    pipeline = core.pipeline
    row, blank = pipeline.skus.row_of(b"a"), pipeline.skus.capacity - 1
    differing = [
        name
        for name, held in everything(pipeline, row).items()
        if held != everything(pipeline, blank)[name]
    ]
    assert len(differing) > 25, "the row holds a bit of everything"
    go_on(core.log, START_MS + MINUTE_MS + RETENTION_MS + 2 * MINUTE_MS)
    fed(core, checkpoints=2)
    assert pipeline.skus.row_of(b"a") == -1
    assert everything(pipeline, row) == everything(pipeline, blank)
    assert set(core.rows) == {b"steady"}, "gone from the changelog too"
    assert pipeline.counts["skus_released",] == 2


def test_what_comes_later_is_as_in_a_core_that_never_knew_the_sku() -> None:
    windows = []
    for before in (begun("old"), begun()):
        core = Core(settings(forecasting=False), before)
        go_on(core.log, START_MS + 20 * MINUTE_MS)
        fed(core, checkpoints=3)
        assert core.pipeline.skus.row_of(b"old") == -1
        later = START_MS + 21 * MINUTE_MS
        for topic in topics.EVENT_TOPICS:
            quantity = int(topic != topics.CLICKS)
            core.log.add(
                topic, *(event(700 + n, "new", later, quantity=quantity) for n in range(9))
            )
        go_on(core.log, later + MINUTE_MS)
        core.crash()
        fed(core)
        windows.append([one for one in core.decoded(topics.DEMAND_WINDOWS) if one["sku"] == "new"])
    assert windows[0] == windows[1] != []


@pytest.mark.parametrize("crash", [False, True])
def test_a_sku_that_comes_back_counts_anew_and_its_repeats_are_still_known(crash: bool) -> None:
    core = Core(settings(forecasting=False), begun("a"))
    go_on(core.log, START_MS + 20 * MINUTE_MS)
    fed(core, checkpoints=2)
    assert core.pipeline.skus.row_of(b"a") == -1
    if crash:
        core.crash()
        assert core.pipeline.skus.row_of(b"a") == -1, "neither its row nor its history is back"
    applied = core.pipeline.windows.counts[0, 1]
    again = START_MS + 20 * MINUTE_MS
    core.log.add(
        topics.CLICKS,
        event(1, "a", again),  # an id of its former life
        event(500, "a", again),
        event(501, "a", START_MS),  # of its former life, too: late
    )
    go_on(core.log, START_MS + 21 * MINUTE_MS)
    fed(core)
    assert core.pipeline.windows.counts[0].tolist() == [0, applied + 2, 1, 0, 1]
    last = [one for one in core.decoded(topics.DEMAND_WINDOWS) if one["sku"] == "a"][-1]
    assert (last["bucket_start_ms"], last["clicks"]) == (again, 1)
    assert b"a" in core.rows


def test_a_crash_before_the_next_checkpoint_brings_the_sku_back() -> None:
    core = Core(settings(forecasting=False), begun("a"))
    go_on(core.log, START_MS + 20 * MINUTE_MS)
    fed(core)
    assert core.forgotten == [b"a"]
    core.crash()
    assert core.pipeline.skus.row_of(b"a") >= 0
    fed(core, checkpoints=2)
    assert core.pipeline.skus.row_of(b"a") == -1


def test_a_restart_gives_no_row_to_a_sale_that_is_long_over() -> None:
    core = Core(settings(forecasting=False), begun("a"))
    go_on(core.log, START_MS + 20 * MINUTE_MS)
    fed(core, checkpoints=2)
    core.crash()
    assert core.pipeline.skus.row_of(b"a") == -1
    assert core.decoded(topics.DEAD_LETTERS) == [], "and it is no dead letter"


def test_a_withdrawn_sku_leaves_at_once_but_not_before_its_buckets_are_closed() -> None:
    end_ms = START_MS + 60 * MINUTE_MS
    core = Core(settings(forecasting=False), begun("a", "b", sale_end_ms=end_ms))
    core.log.add(topics.CATALOG, (b"a", None))
    fed(core, checkpoints=2)
    assert core.pipeline.skus.row_of(b"a") >= 0
    go_on(core.log, START_MS + 2 * MINUTE_MS)
    fed(core, checkpoints=2)
    assert core.pipeline.skus.row_of(b"a") == -1
    assert core.pipeline.skus.row_of(b"b") >= 0
    expected = [one for one in core.decoded(topics.DEMAND_WINDOWS) if one["sku"] == "a"]
    assert sum(one["clicks"] for one in expected) == 12


def test_a_sku_of_which_only_the_stock_is_known_stays_for_the_retention() -> None:
    core = Core(settings(forecasting=False), begun())
    level = StockLevel("early", 5, 0, START_MS - 10 * RETENTION_MS)  # counted long ago
    go_on(core.log, START_MS)
    fed(core)
    core.log.add(topics.STOCK_LEVELS, (b"early", msgspec.json.encode(level)))
    go_on(core.log, START_MS + MINUTE_MS)
    fed(core, checkpoints=2)
    assert core.pipeline.skus.row_of(b"early") >= 0
    go_on(core.log, START_MS + 2 * MINUTE_MS + RETENTION_MS)
    fed(core, checkpoints=2)
    assert core.pipeline.skus.row_of(b"early") == -1


def test_a_bounded_number_leaves_at_each_checkpoint() -> None:
    core = Core(settings(forecasting=False), begun())
    many = 2 * RELEASED_MAX + 100
    core.log.add(topics.CLICKS, *(event(n, f"s{n}", START_MS) for n in range(many)))
    go_on(core.log, START_MS)
    go_on(core.log, START_MS + 20 * MINUTE_MS)
    fed(core)
    left = [len(core.pipeline.skus)]
    while len(core.pipeline.skus) > 1:
        core.checkpoint()
        left.append(len(core.pipeline.skus))
    assert left == [many + 1 - RELEASED_MAX, many + 1 - 2 * RELEASED_MAX, 1]


def test_the_room_of_those_that_left_is_given_to_others() -> None:
    core = Core(settings(forecasting=False, skus_max=100), begun())
    for wave in range(5):
        at_ms = START_MS + wave * 20 * MINUTE_MS
        flood = (event(wave * 100 + n, f"w{wave}-{n}", at_ms) for n in range(100))
        core.log.add(topics.CLICKS, *flood)
        go_on(core.log, at_ms, f"w{wave}-0")
        go_on(core.log, at_ms + 19 * MINUTE_MS, f"w{wave}-0")
        fed(core, checkpoints=3)
    assert len(core.pipeline.skus) <= 26
    assert core.pipeline.skus.capacity == 1_024
    counts = core.pipeline.counts
    assert counts["dead_letter", topics.CLICKS, "sku_limit"] == 5 * 75 + 4, (
        "one a wave stays longer"
    )
