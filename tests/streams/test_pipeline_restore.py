"""What a restart must find as it was, beyond windows and decisions (test_pipeline.py)."""

import msgspec
import numpy as np

from streams import topics
from streams.codec.decode import Fetch
from streams.codec.write import encode_records
from streams.records import StockLevel
from streams.settings import load
from tests.streams.harness import NOW_MS, Core, Log, event

SETTINGS = load(clock="event", partitions=1)
START_MS = NOW_MS - NOW_MS % 60_000


def add_to_all(core: Core, number: int, sku: str, at_ms: int, quantity: int) -> None:
    """A click, a cart and an order, fed and processed."""
    for kind, topic in enumerate(topics.EVENT_TOPICS):
        record = event(number + kind, sku, at_ms, quantity=quantity if kind else 0)
        core.log.add(topic, record)
        core.feed(topic)
    core.run()


def on_hand(core: Core, sku: str) -> int:
    rows = np.array([core.pipeline.skus.row_of(sku.encode())])
    decider = core.pipeline.decider
    return int(decider.ledger.on_hand(rows, decider.reference)[0])


def test_a_count_of_the_stock_outlives_the_history_ring_of_a_sku_that_sells_no_more() -> None:
    core = Core(SETTINGS, Log())
    add_to_all(core, 0, "A", START_MS, quantity=30)
    add_to_all(core, 10, "B", START_MS + 100_000, quantity=1)
    core.checkpoint()
    level = StockLevel("A", on_hand=10, on_order=0, as_of_ms=START_MS + 110_000)
    core.log.add(topics.STOCK_LEVELS, (b"A", msgspec.json.encode(level)))
    core.feed(topics.STOCK_LEVELS)
    add_to_all(core, 20, "B", START_MS + 1_000_000, quantity=1)
    core.checkpoint()
    assert on_hand(core, "A") == 10, "what was sold before the count is in the count"
    core.crash()
    assert on_hand(core, "A") == 10


def test_a_count_that_changes_no_sum_makes_no_row_to_write() -> None:
    core = Core(SETTINGS, Log())
    level = StockLevel("A", on_hand=10, on_order=0, as_of_ms=START_MS)
    core.log.add(topics.STOCK_LEVELS, (b"A", msgspec.json.encode(level)))
    core.feed(topics.STOCK_LEVELS)
    core.run()
    assert core.checkpoint().names == []


def test_the_first_checkpoint_stands_at_the_earliest_records_of_every_topic() -> None:
    core = Core(SETTINGS, Log())
    starts = {topic: 1_000 * (kind + 1) for kind, topic in enumerate(topics.EVENT_TOPICS)}
    core.pipeline.begin_at(starts)
    assert starts.items() <= core.pipeline.take().marker.offsets.items()
    (batch,) = encode_records([(*event(1, "A", START_MS), [])])
    data = batch.whole(1_000, NOW_MS)
    core.pipeline.offer(Fetch(topics.CLICKS, 0, 1_000, 1_001, data))
    core.run()
    assert core.pipeline.offsets()[topics.CLICKS] == 1_000, "it waits for the other topics"
    assert core.pipeline.windows.max_event_time_ms(0) == START_MS
