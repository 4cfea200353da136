"""What one event costs in the core: decode, judge, count, close, encode, snapshot. No broker.

    python benchmarks/pipeline.py --events 1000000 --skus 10000

One partition, three topics, zipf-like popularity. Prints events a second of one core, with and
without forecasts and decisions, and checks the counts.
"""

import argparse
import json
import time

import numpy as np

from models.forecaster import Forecaster
from streams import topics
from streams.batcher import Batcher
from streams.checkpoint import Restored, RestoreStats
from streams.codec.decode import Fetch
from streams.codec.write import encode_records
from streams.pipeline import Pipeline
from streams.settings import load

START_MS = 1_795_000_000_000
EVENTS_PER_S = 400  # of event time: a quarter of a shop's 1,600
FETCH_RECORDS = 8_000


def workload(events: int, skus: int, seed: int) -> dict[str, list[Fetch]]:
    """Fetches by topic: clicks 80 %, carts 15 %, orders 5 %."""
    random = np.random.default_rng(seed)
    kind = random.choice(3, events, p=(0.8, 0.15, 0.05))
    sku = random.choice(skus, events, p=_zipf(skus))
    at_ms = START_MS + np.arange(events) * 1_000 // EVENTS_PER_S + random.integers(0, 2_000, events)
    price = random.integers(100, 50_000, events)
    made: dict[str, list[Fetch]] = {}
    for number, topic in enumerate(topics.EVENT_TOPICS):
        chosen = np.flatnonzero(kind == number)
        fetches = []
        for first in range(0, len(chosen), FETCH_RECORDS):
            records = []
            for row in chosen[first : first + FETCH_RECORDS].tolist():
                name = f"SKU{sku[row]:06d}"
                value = (
                    f'{{"event_id":"e{row:08d}","sku":"{name}","user_id":"u{row % 99_999:05d}",'
                    f'"event_time_ms":{at_ms[row]},"price_cents":{price[row]},"quantity":1}}'
                )
                records.append((name.encode(), value.encode(), []))
            data, offset = b"", first
            for batch in encode_records(records):
                data += batch.whole(offset, START_MS + 10**9)
                offset += batch.count
            fetches.append(Fetch(topic, 0, first, offset, data))
        made[topic] = fetches
    return made


def _zipf(skus: int) -> np.ndarray:
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
