"""What a program is told, and how records of the job look. Every program imports this, in its own
virtual environment, so it imports nothing but the standard library.
"""

import json
import os
import time

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
