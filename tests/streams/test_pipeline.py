"""The core of one partition, from fetches to checkpoints and back."""

import random
from collections import Counter
from typing import Any

import msgspec
import pytest

from models.forecaster import Forecaster
from streams import topics
from streams.batcher import Batcher
from streams.errors import Reason
from streams.records import CatalogEntry, StockLevel
from streams.settings import Settings, load
from tests.streams.harness import NOW_MS, Core, Log, event

START_MS = NOW_MS - NOW_MS % 60_000
SETTINGS = load(clock="event", partitions=1)
HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def forecaster() -> Forecaster:
    return Forecaster.load(None, "cpu")


def a_sale(seed: int, events: int = 4_000, skus: int = 12, span_ms: int = HOUR_MS) -> Log:
    """A seeded log of all six topics, with a few duplicates and late events."""
    print(f"seed {seed}")
    random_ = random.Random(seed)
    log = Log()
    for number in range(skus):
        sku = f"S{number}"
        entry = CatalogEntry(
            sku, "t", "c", 1_000, 600, 500, 1_500, 600_000, START_MS, START_MS + 2 * HOUR_MS
        )
        level = StockLevel(sku, 40, 0, START_MS)
        log.add(topics.CATALOG, (sku.encode(), msgspec.json.encode(entry)))
        log.add(topics.STOCK_LEVELS, (sku.encode(), msgspec.json.encode(level)))
    times = sorted(random_.randrange(span_ms) for _ in range(events))
    for number, offset_ms in enumerate(times):
        at_ms = START_MS + offset_ms
        if random_.random() < 0.01:
            at_ms -= 60_000  # late
        kind = random_.choices(range(3), (80, 15, 5))[0]
        sku = f"S{min(int(random_.expovariate(0.4)), skus - 1)}"
        record = event(number, sku, at_ms, quantity=random_.randrange(1, 4) if kind else 0)
        log.add(topics.EVENT_TOPICS[kind], record)
        if random_.random() < 0.02:
            log.add(topics.EVENT_TOPICS[kind], record)
    return log


def feed_all(core: Core) -> None:
    for topic in (*topics.REFERENCE_TOPICS, *topics.EVENT_TOPICS):
        core.feed(topic)


def windows_of(core: Core) -> dict[tuple[str, int], tuple[int, ...]]:
    found: dict[tuple[str, int], tuple[int, ...]] = {}
    for window in core.decoded(topics.DEMAND_WINDOWS):
        place = window["sku"], window["bucket_start_ms"]
        assert place not in found, f"{place} was emitted twice"
        fields = ("clicks", "carts", "orders", "units", "revenue_cents")
        found[place] = tuple(window[field] for field in fields)
    return found


def recomputed(log: Log, settings: Settings) -> dict[tuple[str, int], tuple[int, ...]]:
    """The windows by hand: duplicates and late events left out, in the order of each log."""
    sums: dict[tuple[str, int], list[int]] = {}
    for kind, topic in enumerate(topics.EVENT_TOPICS):
        seen, greatest_ms = set(), 0
        for _, value in log.records[topic]:
            one: dict[str, Any] = msgspec.json.decode(value or b"")
            known, at_ms = one["event_id"] in seen, one["event_time_ms"]
            late = at_ms < greatest_ms - settings.allowed_lateness_ms
            seen.add(one["event_id"])
            greatest_ms = max(greatest_ms, at_ms)
            if known or late:
                continue
            place = one["sku"], at_ms - at_ms % settings.bucket_ms
            cell = sums.setdefault(place, [0] * 5)
            cell[kind] += 1
            if kind == 2:
                cell[3] += one["quantity"]
                cell[4] += one["quantity"] * one["price_cents"]
    return {place: tuple(cell) for place, cell in sums.items()}


def test_windows_are_exact_and_all_close_once_the_topics_fall_silent() -> None:
    log = a_sale(seed=1)
    core = Core(SETTINGS, log)
    feed_all(core)
    core.run()
    core.silence(upto_ms=120_000)
    core.checkpoint()
    assert windows_of(core) == recomputed(log, SETTINGS)


@pytest.mark.parametrize("seed", range(4))
def test_a_crash_at_any_checkpoint_changes_no_window_and_repeats_none(seed: int) -> None:
    log = a_sale(seed)
    random_ = random.Random(seed)
    core = Core(SETTINGS, log)
    for topic in topics.REFERENCE_TOPICS:
        core.feed(topic)
    while any(core.fed[topic] < len(log.records[topic]) for topic in topics.EVENT_TOPICS):
        core.feed(random_.choice(topics.EVENT_TOPICS), random_.randrange(1, 400))
        core.run()
        if random_.random() < 0.3:
            core.checkpoint()
        if random_.random() < 0.15:
            core.crash()
    core.silence(upto_ms=120_000)
    core.checkpoint()
    assert windows_of(core) == recomputed(log, SETTINGS)


def test_forecasts_and_decisions_after_a_crash_are_those_without_it(
    forecaster: Forecaster,
) -> None:
    log = a_sale(seed=9, events=6_000)
    whole, broken = Core(SETTINGS, log, forecaster), Core(SETTINGS, log, forecaster)
    feed_all(whole)
    whole.run()
    whole.checkpoint()
    feed_references(broken)
    for _ in range(6):
        for topic in topics.EVENT_TOPICS:
            broken.feed(topic, len(log.records[topic]) // 6 + 1)
        broken.run()
        broken.checkpoint()
        broken.crash()
    feed_all(broken)
    broken.run()
    broken.checkpoint()
    for topic in (topics.DEMAND_FORECASTS, topics.RESTOCK_EVENTS, topics.PRICE_ADJUSTMENTS):
        assert whole.decoded(topic), f"nothing on {topic}: the test shows nothing"
        assert broken.decoded(topic) == whole.decoded(topic)


def feed_references(core: Core) -> None:
    for topic in topics.REFERENCE_TOPICS:
        core.feed(topic)
    core.run()


def test_a_malformed_record_is_a_dead_letter_and_its_neighbours_count() -> None:
    log = Log()
    bad = [
        (b"A", b"{"),
        (b"A", b'{"event_id":"x","sku":"A","user_id":"u"}'),
        (b"B", event(7, "A", START_MS)[1]),
        (None, event(8, "A", START_MS)[1]),
        event(9, "A", START_MS // 1_000),
        event(10, "A", START_MS, price_cents=-5),
        (b"A", None),
    ]
    for number, record in enumerate(bad):
        log.add(topics.CLICKS, event(100 + number, "A", START_MS + number), record)
    log.add(topics.CARTS, event(1, "A", START_MS, quantity=1))
    log.add(topics.ORDERS, event(2, "A", START_MS, quantity=1))
    core = Core(SETTINGS, log)
    feed_all(core)
    core.run()
    core.silence(upto_ms=120_000)
    core.checkpoint()
    assert sum(window[0] for window in windows_of(core).values()) == len(bad)
    reasons = Counter(letter["reason"] for letter in core.decoded(topics.DEAD_LETTERS))
    assert reasons == {
        Reason.NOT_JSON: 1,
        Reason.MISSING_FIELD: 1,
        Reason.KEY_MISMATCH: 1,
        Reason.KEY_MISSING: 1,
        Reason.EVENT_TIME_UNIT: 1,
        Reason.OUT_OF_RANGE: 1,
        Reason.VALUE_MISSING: 1,
    }
    assert [letter["offset"] for letter in core.decoded(topics.DEAD_LETTERS)] == [
        *range(1, 2 * len(bad), 2)
    ]


def test_a_bad_catalog_entry_is_reported_once_however_often_the_topic_is_read_again() -> None:
    log = Log()
    log.add(topics.CATALOG, (b"A", b'{"sku":"A"}'))
    core = Core(SETTINGS, log)
    feed_all(core)
    core.run()
    core.checkpoint()
    core.crash()
    core.run()
    core.checkpoint()
    assert [letter["topic"] for letter in core.decoded(topics.DEAD_LETTERS)] == [topics.CATALOG]


def test_decisions_out_of_date_are_counted_and_not_emitted(forecaster: Forecaster) -> None:
    log = a_sale(seed=3)
    core = Core(load(clock="wall", partitions=1), log, forecaster)
    feed_all(core)
    core.run(now_ms=START_MS + 86_400_000)
    core.checkpoint()
    assert core.decoded(topics.DEMAND_WINDOWS)
    assert not core.decoded(topics.DEMAND_FORECASTS)
    assert core.pipeline.decider.counts["expired_forecast"] > 0


def test_an_origin_at_which_all_is_out_of_date_belongs_to_a_checkpoint(
    forecaster: Forecaster,
) -> None:
    core = Core(load(clock="wall", partitions=1), a_sale(seed=3), forecaster)
    feed_all(core)
    late_ms = START_MS + 86_400_000
    while core.pipeline.work(0, late_ms):
        pass
    counts, expired = core.pipeline.decider.counts, 0
    while core.batcher.tick([core.pipeline], late_ms):
        assert core.pipeline.pending
        core.checkpoint()
        if counts["expired_forecast"] > expired:
            expired = counts["expired_forecast"]
            assert core.marker.core["decider"]["counts"]["expired_forecast"] == expired
    assert expired


def test_the_core_stops_when_outputs_are_not_taken_and_goes_on_when_they_are() -> None:
    log = a_sale(seed=5, events=40_000, skus=1_000)
    core = Core(load(partitions=1, outputs_bytes_max=2**20), log)
    feed_all(core)
    core.run()
    assert core.pipeline.outputs_bytes >= 2**20
    position = core.pipeline.offsets()
    assert position[topics.CLICKS] < len(log.records[topics.CLICKS])
    while core.pipeline.pending:
        core.checkpoint()
        core.run()
    assert core.pipeline.offsets()[topics.CLICKS] == len(log.records[topics.CLICKS])


def test_a_worker_may_go_on_without_forecasts_and_with_them_again(forecaster: Forecaster) -> None:
    log = a_sale(seed=6)
    core = Core(SETTINGS, log, forecaster)
    feed_references(core)
    for with_forecasts in (True, False, True):
        for topic in topics.EVENT_TOPICS:
            core.feed(topic, len(log.records[topic]) // 3 + 1)
        core.run()
        core.checkpoint()
        core.forecaster = forecaster if not with_forecasts else None
        core.batcher = Batcher(core.forecaster)
        core.crash()
    feed_all(core)
    core.silence(upto_ms=120_000)
    core.checkpoint()
    assert windows_of(core) == recomputed(log, SETTINGS)
    assert core.decoded(topics.DEMAND_FORECASTS)
