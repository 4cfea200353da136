"""What one event costs in the core: decode, judge, count, close, encode, snapshot. No broker.

    python benchmarks/pipeline.py --events 1000000 --skus 10000

One partition, three topics, zipf-like popularity. Prints events a second of one core, with and
without forecasts and decisions, and checks the counts.
"""

import argparse
import json
import time
from collections.abc import Iterable

import numpy as np

from models.forecaster import Forecaster
from streams import topics
from streams.batcher import Batcher
from streams.checkpoint import Restored, RestoreStats
from streams.codec.decode import Fetch
from streams.codec.write import RecordBatch, encode_records
from streams.pipeline import Pipeline
from streams.settings import load

START_MS = 1_795_000_000_000
EVENTS_PER_S = 400  # of event time: a quarter of a shop's 1,600


def workload(events: int, skus: int, seed: int) -> dict[str, list[Fetch]]:
    """Fetches by topic, of SKUs drawn by their popularity."""
    random = np.random.default_rng(seed)
    sku = random.choice(skus, events, p=zipf(skus))
    batches = event_batches(sku, spread_ms(events, START_MS, EVENTS_PER_S), random)
    return {topic: fetches(topic, several, START_MS + 10**9) for topic, several in batches.items()}


def spread_ms(events: int, start_ms: int, events_per_s: int) -> np.ndarray:
    """Event times int64 [events] from `start_ms` on, evenly."""
    return start_ms + np.arange(events) * 1_000 // events_per_s


def event_batches(
    sku: np.ndarray, at_ms: np.ndarray, random: np.random.Generator
) -> dict[str, list[RecordBatch]]:
    """Events of SKUs number `sku` int64 [n] at `at_ms` int64 [n] or up to two seconds later: clicks
    80 %, carts 15 %, orders 5 %, by topic.
    """
    n = len(sku)
    kind = random.choice(3, n, p=(0.8, 0.15, 0.05))
    kind[-3:] = np.arange(3)[-n:]  # a topic without any would hold up the buckets of all
    at_ms = at_ms + random.integers(0, 2_000, n)
    price = random.integers(100, 50_000, n)
    series = int(random.integers(2**32))  # no id comes twice
    made: dict[str, list[RecordBatch]] = {}
    for number, topic in enumerate(topics.EVENT_TOPICS):
        records = []
        for row in np.flatnonzero(kind == number).tolist():
            name = sku_name(sku[row])
            value = (
                f'{{"event_id":"{series:08x}{row:08d}","sku":"{name}",'
                f'"user_id":"u{row % 99_999:05d}","event_time_ms":{at_ms[row]},'
                f'"price_cents":{price[row]},"quantity":1}}'
            )
            records.append((name.encode(), value.encode(), []))
        made[topic] = encode_records(records)
    return made


def fetches(
    topic: str, batches: Iterable[RecordBatch], timestamp_ms: int, offset: int = 0
) -> list[Fetch]:
    """One a batch, as a broker would answer, the first record at `offset`."""
    made = []
    for batch in batches:
        end = offset + batch.count
        made.append(Fetch(topic, 0, offset, end, batch.whole(offset, timestamp_ms)))
        offset = end
    return made


def sku_name(number: int) -> str:
    """Of a SKU in every workload here."""
    return f"SKU{number:07d}"


def zipf(skus: int) -> np.ndarray:
    """How popular each is, float64 [skus], of sum 1."""
    weight = 1 / np.arange(1, skus + 1)
    return weight / weight.sum()


def run(fetches: dict[str, list[Fetch]], forecaster: Forecaster | None) -> tuple[float, int, int]:
    """(seconds, events applied, windows emitted)."""
    settings = load(partitions=1, clock="event")
    nothing = Restored(None, [], np.zeros((0, 0), np.uint8), [], [], RestoreStats())
    pipeline = Pipeline(settings, 0, 1, forecaster, nothing, (1, 2))
    batcher = Batcher(forecaster)
    waiting = {topic: iter(several) for topic, several in fetches.items()}
    began = time.perf_counter()
    busy = True
    while busy:
        busy = False
        for topic, several in waiting.items():
            if pipeline.queued_bytes(topic) < 2**20 and (fetch := next(several, None)):
                pipeline.offer(fetch)
                busy = True
        while pipeline.work(0, START_MS):
            busy = True
        busy = batcher.tick([pipeline], START_MS) or busy
        if pipeline.outputs_bytes > 2**20:
            pipeline.take()
            pipeline.committed(0)
    pipeline.take()
    seconds = time.perf_counter() - began
    return seconds, int(pipeline.windows.counts.sum()), pipeline.counts["windows",]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--skus", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    fetches = workload(options.events, options.skus, options.seed)
    run({topic: several[:1] for topic, several in fetches.items()}, None)  # warm
    results = {}
    for name, forecaster in (("windows", None), ("decisions", Forecaster.load(None, "cpu"))):
        seconds, judged, windows = run(fetches, forecaster)
        assert judged == options.events, f"{judged} of {options.events} events were judged"
        results[name] = {"events_per_s": round(judged / seconds), "windows": windows}
        if not options.json:
            print(f"{name:<10} {judged / seconds:>12,.0f} events/s   {windows:,} windows")
    if options.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
