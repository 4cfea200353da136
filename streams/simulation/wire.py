"""Simulated events as records of the event topics."""

import msgspec

from streams.placement import KeyedRecord
from streams.simulation.funnel import CART, CLICK, Events
from streams.simulation.shop import Shop
from streams.topics import EVENT_TOPICS


def event_records(events: Events, shop: Shop) -> dict[str, list[KeyedRecord]]:
    """Records (key, value) by logical topic, in order of event time; ids are unique by seed."""
    names, seed = shop.assortment.names, shop.seed
    keys = [name.encode() for name in names]
    quoted = [msgspec.json.encode(name).decode() for name in names]
    topics: list[list[KeyedRecord]] = [[], [], []]
    rows = zip(
        events.kind.tolist(),
        events.sku.tolist(),
        events.event_time_ms.tolist(),
        events.price_cents.tolist(),
        events.quantity.tolist(),
        events.shopper.tolist(),
        events.serial.tolist(),
        strict=True,
    )
    for kind, sku, at_ms, price, quantity, shopper, serial in rows:
        text = (
            f'{{"event_id":"{seed:x}-{serial:x}","sku":{quoted[sku]},"user_id":"u{shopper:x}",'
            f'"event_time_ms":{at_ms},"price_cents":{price}'
        )
        if kind == CLICK:
            text += "}"
        elif kind == CART:
            text += f',"quantity":{quantity}}}'
        else:
            text += f',"quantity":{quantity},"order_id":"{seed:x}-o{serial:x}"}}'
        topics[kind].append((keys[sku], text.encode()))
    return dict(zip(EVENT_TOPICS, topics, strict=True))
