"""Which SKUs get a row, what becomes of the others' events, and that nothing else changes by it."""

import random
from collections import Counter
from typing import Any

import msgspec
import pytest

from streams import topics
from streams.codec.plain import Record
from streams.errors import NOT_ADMITTED
from streams.placement import Placement
from streams.recompute import PartitionRules, Recomputed
from streams.records import CatalogEntry, StockLevel
from streams.settings import Settings, load
from tests.streams.harness import NOW_MS, Core, Log, event

START_MS = NOW_MS - NOW_MS % 60_000
TIMESTAMP_MS = NOW_MS + 86_400_000
ROWS_MAX = 100  # of which 25 for SKUs without a catalog entry


def settings(**changed: Any) -> Settings:
    return load(
        clock="event", partitions=1, forecasting=False, **({"skus_max": ROWS_MAX} | changed)
    )


def entry(sku: str) -> tuple[bytes, bytes]:
    end_ms = START_MS + 7_200_000
    value = CatalogEntry(sku, "t", "c", 1_000, 600, 500, 1_500, 600_000, START_MS, end_ms)
    return sku.encode(), msgspec.json.encode(value)


def begun() -> Log:
    """A log whose carts and orders have begun, so that clicks are judged as they come."""
    log = Log()
    log.add(topics.CATALOG, entry("known"))
    log.add(topics.CARTS, event(0, "known", START_MS, quantity=1))
    log.add(topics.ORDERS, event(0, "known", START_MS, quantity=1))
    return log


def refusals(core: Core) -> list[tuple[str, int, str]]:
    return [
        (one["topic"], one["offset"], one["reason"]) for one in core.decoded(topics.DEAD_LETTERS)
    ]


def fed(core: Core) -> None:
    """Everything, processed and made durable."""
    for topic in topics.INPUT_TOPICS:
        core.feed(topic)
    core.run()
    core.checkpoint()


def test_where_the_catalog_admits_only_its_own_skus_count() -> None:
    log = begun()
    log.add(topics.CLICKS, event(0, "known", START_MS), event(1, "unknown", START_MS))
    core = Core(settings(admission="catalog"), log)
    fed(core)
    assert refusals(core) == [("clicks", 1, "sku_unknown")]
    assert len(core.pipeline.skus) == 1
    assert core.pipeline.counts["dead_letter", topics.CLICKS, "sku_unknown"] == 1


def test_what_the_shop_says_of_a_sku_before_its_catalog_entry_is_not_lost() -> None:
    log = begun()
    level = StockLevel("early", 7, 0, START_MS)
    log.add(topics.STOCK_LEVELS, (b"early", msgspec.json.encode(level)))
    log.add(topics.CLICKS, event(0, "early", START_MS))
    core = Core(settings(admission="catalog"), log)
    fed(core)
    assert refusals(core) == [("clicks", 0, "sku_unknown")], "a stock level alone admits nobody"
    log.add(topics.CATALOG, entry("early"))
    log.add(topics.CLICKS, event(1, "early", START_MS))
    fed(core)
    assert len(refusals(core)) == 1
    reference = core.pipeline.decider.reference
    assert reference.on_hand[core.pipeline.skus.row_of(b"early")] == 7


def test_a_sku_that_was_withdrawn_counts_on_while_it_has_a_row() -> None:
    log = begun()
    log.add(topics.CATALOG, entry("a"), entry("b"))
    log.add(topics.CLICKS, event(0, "a", START_MS))
    core = Core(settings(admission="catalog"), log)
    fed(core)
    log.add(topics.CATALOG, (b"a", None), (b"b", None))
    log.add(topics.CLICKS, event(1, "a", START_MS), event(2, "b", START_MS))
    core.crash()
    fed(core)
    assert refusals(core) == [("clicks", 2, "sku_unknown")], "b never counted"


def test_a_flood_of_skus_leaves_the_rest_of_the_room_to_the_catalog() -> None:
    log = begun()
    log.add(topics.CLICKS, *(event(n, f"flood{n}", START_MS) for n in range(5_000)))
    core = Core(settings(), log)
    fed(core)
    assert [reason for _, _, reason in refusals(core)] == ["sku_limit"] * 4_975
    assert len(core.pipeline.skus) == 1 + 25
    log.add(topics.CATALOG, *(entry(f"own{n}") for n in range(80)))
    log.add(topics.CLICKS, *(event(5_000 + n, f"own{n}", START_MS) for n in range(80)))
    fed(core)
    assert len(core.pipeline.skus) == ROWS_MAX
    assert refusals(core)[4_975:] == [
        *(("catalog", 1 + n, "sku_limit") for n in range(74, 80)),
        *(("clicks", 5_000 + n, "sku_limit") for n in range(74, 80)),
    ]


def test_stock_levels_without_a_catalog_entry_take_no_more_room_than_events() -> None:
    log = begun()
    for number in range(40):
        level = StockLevel(f"s{number}", 7, 0, START_MS)
        log.add(topics.STOCK_LEVELS, (level.sku.encode(), msgspec.json.encode(level)))
    log.add(topics.STOCK_LEVELS, (b"never-heard-of", None))
    core = Core(settings(), log)
    fed(core)
    assert len(core.pipeline.skus) == 1 + 25
    assert refusals(core) == [("stock-levels", n, "sku_limit") for n in range(25, 40)]


@pytest.mark.parametrize("crash", [False, True])
def test_the_repeat_of_a_refused_event_is_a_duplicate_after_its_sku_was_catalogued(
    crash: bool,
) -> None:
    log = begun()
    log.add(topics.CLICKS, event(0, "a", START_MS))
    core = Core(settings(admission="catalog"), log)
    fed(core)
    log.add(topics.CATALOG, entry("a"))
    log.add(topics.CLICKS, event(0, "a", START_MS), event(1, "a", START_MS))
    if crash:
        core.crash()
    fed(core)
    assert refusals(core) == [("clicks", 0, "sku_unknown")]
    assert core.pipeline.windows.counts[0].tolist() == [1, 1, 1, 0, 0]


def test_a_refused_event_moves_the_clock_and_a_late_one_is_late_whoever_sells_it() -> None:
    log = begun()
    log.add(topics.CATALOG, entry("a"))
    log.add(
        topics.CLICKS,
        event(0, "unknown", START_MS + 60_000),
        event(1, "a", START_MS),
        event(2, "unknown", START_MS),
    )
    core = Core(settings(admission="catalog"), log)
    fed(core)
    assert refusals(core) == [("clicks", 0, "sku_unknown")]
    assert [one["offset"] for one in core.decoded(topics.LATE_EVENTS)] == [1, 2]


def a_flood(seed: int, events: int = 3_000) -> Log:
    """Events of known SKUs among those of hundreds that nobody knows, some catalogued on the way;
    with duplicates and late ones.
    """
    print(f"seed {seed}")
    chance = random.Random(seed)
    log = Log()
    for number in range(events):
        at_ms = START_MS + number * 400 - (60_000 if chance.random() < 0.02 else 0)
        sku = f"S{int(400 * chance.random() ** 2)}"
        topic = chance.choice(topics.EVENT_TOPICS)
        quantity = 0 if topic == topics.CLICKS else chance.randrange(1, 4)
        identity = number - chance.randrange(40) if chance.random() < 0.02 else number
        log.add(topic, event(identity, sku, at_ms, quantity=quantity))
        if chance.random() < 0.02:
            log.add(topics.CATALOG, entry(f"S{chance.randrange(400)}"))
        if chance.random() < 0.005:
            log.add(topics.CATALOG, (f"S{chance.randrange(400)}".encode(), None))
    return log


def recomputed(core: Core) -> Recomputed:
    """From the log and the dead letters of SKUs that were not admitted, as `reconcile` does."""
    found = Recomputed()
    given: dict[str, dict[int, str]] = {topic: {} for topic in topics.EVENT_TOPICS}
    for topic, offset, reason in refusals(core):
        if reason in NOT_ADMITTED and topic in given:
            given[topic][offset] = reason
    for kind, topic in enumerate(topics.EVENT_TOPICS):
        rules = PartitionRules(core.settings, kind, 0, Placement("murmur2", 1), [], given[topic])
        for offset, (key, value) in enumerate(core.log.records[topic]):
            rules.add(Record(offset, TIMESTAMP_MS, key, value, []), found)
    return found


@pytest.mark.parametrize("retention_ms", [60_000, 86_400_000])
@pytest.mark.parametrize("admission", ["all", "catalog"])
@pytest.mark.parametrize("seed", range(4))
def test_windows_are_those_of_the_log_and_the_dead_letters_whatever_crashes(
    seed: int, admission: str, retention_ms: int
) -> None:
    chance = random.Random(seed)
    log = a_flood(seed)
    core = Core(settings(admission=admission, sku_retention_ms=retention_ms), log)
    while any(core.fed[topic] < len(log.records[topic]) for topic in topics.INPUT_TOPICS):
        core.feed(chance.choice(topics.INPUT_TOPICS), chance.randrange(1, 200))
        core.run()
        if chance.random() < 0.4:
            core.checkpoint()
        elif chance.random() < 0.1:
            core.crash()
    core.run()
    core.checkpoint()
    closed_ms = core.pipeline.windows.closed_through_ms
    found = recomputed(core)
    expected = {
        (cell.sku, cell.bucket_start_ms): tuple(found.figures(cell))
        for cell in found.windows
        if cell.bucket_start_ms < closed_ms
    }
    emitted = Counter(
        (one["sku"], one["bucket_start_ms"]) for one in core.decoded(topics.DEMAND_WINDOWS)
    )
    assert set(emitted.values()) == {1}
    assert expected == {
        (one["sku"], one["bucket_start_ms"]): (
            one["clicks"], one["carts"], one["orders"], one["units"], one["revenue_cents"],
            one["price_cents"],
        )
        for one in core.decoded(topics.DEMAND_WINDOWS)
    }  # fmt: skip
    dead = {(place.topic, place.offset, refusal.reason) for place, refusal in found.dead.items()}
    told = [one for one in refusals(core) if one[0] in topics.EVENT_TOPICS]
    assert sorted(told) == sorted(dead), "each refusal once, and each is believed"
    assert len(dead) > 100
    if admission == "all" and retention_ms == 60_000:
        assert core.pipeline.counts["skus_released",] > 20
