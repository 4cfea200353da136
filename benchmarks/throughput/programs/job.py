"""What a program is told, and how records of the job look. Every program imports this, in its own
virtual environment, so it imports nothing but the standard library.
"""

import json
import os
import time
from collections.abc import Iterable, Sequence
from typing import Any

BOOTSTRAP = os.environ["BENCH_BOOTSTRAP"]
PREFIX = os.environ["BENCH_PREFIX"]
TOPICS = tuple(PREFIX + name for name in ("clicks", "carts", "orders"))
OUTPUT = os.environ["BENCH_OUTPUT"]
GROUP = os.environ["BENCH_GROUP"]
STATE = os.environ["BENCH_STATE"]  # a folder of this run's own
EVENTS = int(os.environ["BENCH_EVENTS"])
PARTITIONS = 4
BUCKET_MS = 10_000

# librdkafka: large fetches, a deep local queue
CONSUMER = {
    "bootstrap.servers": BOOTSTRAP,
    "group.id": GROUP,
    "auto.offset.reset": "earliest",
    "enable.auto.commit": True,
    "fetch.min.bytes": 100_000,
    "fetch.wait.max.ms": 100,
    "fetch.message.max.bytes": 4 << 20,
    "fetch.max.bytes": 64 << 20,
    "queued.min.messages": 200_000,
    "fetch.queue.backoff.ms": 20,
    "check.crcs": False,
}
PRODUCER = {
    "bootstrap.servers": BOOTSTRAP,
    "partitioner": "murmur2_random",
    "linger.ms": 20,
    "batch.size": 900_000,
    "queue.buffering.max.messages": 1_000_000,
}


def mean_cents(price_sum: int, events: int) -> int:
    """Rounded half up."""
    return (2 * price_sum + events) // (2 * events)


def window(sku: str, start_ms: int, sums: Sequence[int]) -> dict[str, Any]:
    """The record of a closed bucket; `sums`: clicks, carts, orders, units, revenue and the sum of
    prices in cents.
    """
    clicks, carts, orders, units, revenue, price_sum = sums
    return {
        "sku": sku,
        "bucket_start_ms": start_ms,
        "bucket_ms": BUCKET_MS,
        "clicks": clicks,
        "carts": carts,
        "orders": orders,
        "units": units,
        "revenue_cents": revenue,
        "price_cents": mean_cents(price_sum, clicks + carts + orders),
    }


def by_place(messages: Iterable[Any]) -> dict[tuple[str, int], list[bytes]]:
    """Values of librdkafka's messages by topic and partition, in order."""
    places: dict[tuple[str, int], list[bytes]] = {}
    for message in messages:
        place = message.topic(), message.partition()
        values = places.get(place)
        if values is None:
            values = places[place] = []
        values.append(message.value())
    return places


class Ceiling:
    """Times a loop that writes nothing, from a quarter of the events on; says so and how much it
    saw on its last line.
    """

    def __init__(self) -> None:
        self._begin: tuple[float, int] | None = None

    def seen(self, events: int, checksum: int) -> bool:
        """True once all were."""
        if self._begin is None and events >= EVENTS / 4:
            self._begin = time.time(), events
        if events < EVENTS:
            return False
        begin_s, before = self._begin
        told = {"begin_s": begin_s, "end_s": time.time(), "events": events - before}
        print(json.dumps({**told, "seen": events, "checksum": checksum}), flush=True)
        return True
