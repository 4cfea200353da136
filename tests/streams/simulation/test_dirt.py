from collections import Counter

import msgspec
import pytest

from streams.codec.plain import Record
from streams.placement import Placement
from streams.recompute import Outcome, PartitionRules, Recomputed
from streams.settings import Settings, load
from streams.simulation.dirt import Dirt, DirtRates
from streams.simulation.shop import Shop
from streams.simulation.wire import event_records
from streams.topics import EVENT_TOPICS
from tests.streams.simulation.sale import END_MS, SEED, small_sale

PARTITIONS = 3
NOW_MS = END_MS + 60_000
ALL = DirtRates(*[0.01] * 11)


def spoilt_sale(settings: Settings, rates: DirtRates) -> tuple[dict, dict, Dirt, int]:
    """(what became of the records by topic and outcome or reason, windows, dirt, good records)."""
    placement = Placement(settings.partitioner, PARTITIONS)
    shop, dirt = Shop(small_sale(minutes=10), SEED), Dirt(rates, SEED, settings)
    rules = {
        (kind, partition): PartitionRules(settings, kind, partition, placement, [])
        for kind in range(3)
        for partition in range(PARTITIONS)
    }
    recomputed = [Recomputed() for _ in range(PARTITIONS)]
    offsets: Counter[tuple[int, int]] = Counter()
    found: Counter[tuple[str, str]] = Counter()
    good = 0
    while not shop.over:
        for kind, topic in enumerate(EVENT_TOPICS):
            records = event_records(shop.advance(shop.now_ms + 60_000).events, shop)[topic]
            good += len(records)
            for partition, part in dirt.spoil(topic, placement, records, NOW_MS).items():
                for key, value in part:
                    offset = offsets[kind, partition]
                    offsets[kind, partition] += 1
                    record = Record(offset, NOW_MS, key, value, [])
                    outcome = rules[kind, partition].add(record, recomputed[partition])
                    if outcome is not Outcome.ACCEPTED:
                        refused = {**recomputed[partition].dead, **recomputed[partition].late}
                        place = (topic, partition, offset)
                        name = refused[place].reason if place in refused else str(outcome)
                        found[topic, name] += 1
    windows = {cell: sums for one in recomputed for cell, sums in one.windows.items()}
    return found, windows, dirt, good


def test_what_was_injected_is_known_one_by_one() -> None:
    found, _, dirt, good = spoilt_sale(load(), ALL)
    assert good > 3_000
    assert found == dirt.injected
    assert len({outcome for _, outcome in found}) >= 9


def test_spoilt_records_change_no_window() -> None:
    _, windows, _, _ = spoilt_sale(load(), ALL)
    _, clean, _, _ = spoilt_sale(load(), DirtRates())
    assert windows == clean


def test_one_partition_has_no_wrong_ones() -> None:
    settings = load()
    placement = Placement("murmur2", 1)
    dirt = Dirt(DirtRates(wrong_partition=1.0), SEED, settings)
    shop = Shop(small_sale(minutes=5), SEED)
    records = event_records(shop.advance(END_MS).events, shop)["clicks"]
    assert dirt.spoil("clicks", placement, records, NOW_MS) == {0: records}
    assert not dirt.injected


def test_a_rate_is_a_share() -> None:
    with pytest.raises(ValueError, match="late"):
        DirtRates(late=1.5)
    assert not DirtRates().any and DirtRates(future=0.1).any


def test_event_records_decode_and_carry_their_event() -> None:
    shop = Shop(small_sale(minutes=5), SEED)
    events = shop.advance(END_MS).events
    records = event_records(events, shop)
    ids = [msgspec.json.decode(value)["event_id"] for part in records.values() for _, value in part]
    assert len(ids) == len(set(ids)) == len(events)
    key, value = records["orders"][0]
    fields = msgspec.json.decode(value)
    first = int((events.kind == 2).argmax())
    assert key == fields["sku"].encode() == shop.assortment.names[events.sku[first]].encode()
    assert fields["quantity"] == events.quantity[first]
    assert fields["event_time_ms"] == events.event_time_ms[first]
