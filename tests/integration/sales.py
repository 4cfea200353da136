"""A seeded sale on the input topics, with everything that real ones have: duplicates, stragglers,
records that break the contract.
"""

import random
from collections.abc import Iterator
from itertools import islice

import msgspec

from streams.publish import Publisher
from streams.records import CatalogEntry, StockLevel
from streams.settings import Settings
from streams.topics import CARTS, CLICKS, EVENT_TOPICS, ORDERS

SKUS = 50
START_MS = 1_700_000_000_000
SALE_MS = 3_600_000

Keyed = tuple[bytes | None, bytes | None]


def sku(number: int) -> str:
    return f"SKU-{number:05d}"


def events(seed: int, count: int, span_ms: int = SALE_MS) -> Iterator[tuple[str, Keyed]]:
    """(topic, record) of `count` events in nearly the order of event time."""
    print(f"seed {seed}")
    chance = random.Random(seed)
    sent: dict[str, list[Keyed]] = {topic: [] for topic in EVENT_TOPICS}
    for number in range(count):
        topic = chance.choices((CLICKS, CARTS, ORDERS), (70, 20, 10))[0]
        at_ms = START_MS + span_ms * number // count - chance.randrange(3_000)
        if chance.random() < 0.01:
            at_ms -= 120_000  # long past
        if sent[topic] and chance.random() < 0.01:
            yield topic, chance.choice(sent[topic][-200:])
            continue
        name = sku(min(chance.randrange(SKUS), chance.randrange(SKUS)))
        body: dict[str, object] = {
            "event_id": f"{topic}-{number}",
            "sku": name,
            "user_id": f"u{chance.randrange(1_000)}",
            "event_time_ms": at_ms,
            "price_cents": chance.randrange(100, 10_000),
        }
        if topic != CLICKS:
            body["quantity"] = chance.randrange(1, 4)
        if chance.random() < 0.005:
            body["price_cents"] = "free"
        record = (name.encode(), msgspec.json.encode(body))
        sent[topic].append(record)
        yield topic, record


def references() -> Iterator[CatalogEntry | StockLevel]:
    """The assortment, on sale throughout."""
    for number in range(SKUS):
        yield CatalogEntry(
            sku=sku(number),
            title=f"Thing {number}",
            category=f"c{number % 5}",
            list_price_cents=10_000,
            unit_cost_cents=4_000,
            price_floor_cents=5_000,
            price_ceiling_cents=15_000,
            lead_time_ms=600_000,
            sale_start_ms=START_MS,
            sale_end_ms=START_MS + SALE_MS,
        )
        yield StockLevel(sku=sku(number), on_hand=20, on_order=0, as_of_ms=START_MS)


async def publish_sale(
    settings: Settings,
    seed: int,
    count: int,
    span_ms: int = SALE_MS,
    *,
    begin: int = 0,
    end: int | None = None,
) -> None:
    """The assortment, and then the events; `begin` and `end` choose a stretch of those."""
    async with Publisher(settings) as publisher:
        if begin == 0:
            await publisher.publish_reference(references())
        batches: dict[str, list[Keyed]] = {topic: [] for topic in EVENT_TOPICS}
        stretch = islice(events(seed, count, span_ms), begin, end)
        for number, (topic, record) in enumerate(stretch):
            batches[topic].append(record)
            if number % 2_000 == 1_999:
                for name, records in batches.items():
                    await publisher.publish(name, records)
                    records.clear()
        for name, records in batches.items():
            await publisher.publish(name, records)
        await publisher.flush()
