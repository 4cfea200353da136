"""Does an event cost the same with a million SKUs? `python -m benchmarks.scale`, no broker.

A worker's four partitions (the limit of SKUs is one partition's) with 1 thousand to 1 million SKUs,
zipf-like popularity, all of them known: in the catalog, and seen once. In every size:

- CPU of an event: decoded, judged, counted, buckets closed and encoded, rows packed for
  checkpoints; windows only, and with forecasts and decisions. Two shops: one with the same events a
  second whatever its size, whose events spread over ever more SKUs, so that there are more windows
  and rows for each event; and one whose events keep to a hot thousand, as a flash sale's do, which
  shows what the size itself costs.
- Memory of a SKU: resident growth from the sizes; bytes of its row in the changelog.
- A tick in which 100 SKUs changed, by ten events each: decoded, bucket closed, checkpoint taken.
  Each is a minute behind the last one, so that with decisions it has six ends of a bucket.

Rounds are interleaved over the sizes; medians and extremes. Every round's counts are checked.
Writes benchmarks/results/scale.json; `--quick`: small, one round, nothing written.
"""

import argparse
import gc
import json
import os
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from benchmarks.pipeline import EVENTS_PER_S, event_batches, fetches, sku_name, spread_ms, zipf
from models.forecaster import Forecaster
from streams.batcher import Batcher
from streams.checkpoint import Restored, RestoreStats
from streams.codec.decode import Fetch
from streams.pipeline import Pipeline
from streams.settings import Settings, load
from streams.windows import Verdict

RESULTS = Path(__file__).with_name("results") / "scale.json"
PARTITIONS: Final = 4
SIZES: Final = (1_000, 10_000, 100_000, 1_000_000)
HOT: Final = 1_000
CHANGED: Final = 100
EVENTS_EACH: Final = 10  # so that each partition hears of all three topics
TICKS: Final = 30
TAKE_BYTES: Final = 2**20
START_MS: Final = 1_795_000_020_000  # a whole minute
MINUTE_MS: Final = 60_000  # between forecasts; runs begin with one, so that they have equally many
LATER_MS: Final = 60 * MINUTE_MS
SALE_END_MS: Final = START_MS + 100 * LATER_MS
KNOWN_AT_ONCE: Final = 20_000
SEED: Final = 7

Row = dict[str, Any]
Numbers = np.ndarray


@dataclass
class Worker:
    """Four partitions; SKU number s belongs to partition s % 4. `next_ms` is free event time."""

    pipelines: list[Pipeline]
    batcher: Batcher
    skus: int
    next_ms: int = START_MS
    decided_at_ms: int = START_MS  # the wall clock, which says whether a decision is out of date

    def take_in(self, sku: Numbers, random: np.random.Generator) -> list[dict[str, list[Fetch]]]:
        """Events of these SKUs as fetches of each partition, behind all that it had."""
        made = []
        at_ms = spread_ms(len(sku), self.next_ms, EVENTS_PER_S * PARTITIONS)
        timestamp_ms = int(at_ms[-1]) + 2_000
        for number, pipeline in enumerate(self.pipelines):
            mine = sku % PARTITIONS == number
            by_topic = event_batches(sku[mine], at_ms[mine], random)
            offsets = pipeline.offsets()
            made.append(
                {
                    topic: fetches(topic, batches, timestamp_ms, offsets[topic])
                    for topic, batches in by_topic.items()
                }
            )
        self.next_ms = (timestamp_ms // MINUTE_MS + 1) * MINUTE_MS
        return made

    def run(self, work: list[dict[str, list[Fetch]]]) -> float:
        """Processes it all, with checkpoints; CPU seconds."""
        began = time.process_time()
        for pipeline, several in zip(self.pipelines, work, strict=True):
            for fetch in interleaved(several):
                pipeline.offer(fetch)
                self._turn(pipeline)
        for pipeline in self.pipelines:
            taken(pipeline)
        return time.process_time() - began

    def _turn(self, pipeline: Pipeline) -> None:
        now_ms = self.decided_at_ms
        while pipeline.work(0, now_ms) or self.batcher.tick([pipeline], now_ms):
            if pipeline.outputs_bytes > TAKE_BYTES:
                taken(pipeline)

    def settle(self, random: np.random.Generator) -> None:
        """Closes and decides on whatever the work before has left."""
        self.run(self.take_in(np.arange(min(self.skus, HOT)), random))

    def counted(self) -> int:
        """Events that were applied, of all partitions."""
        counts = sum(pipeline.windows.counts for pipeline in self.pipelines)
        return int(np.asarray(counts)[:, Verdict.APPLIED].sum())

    def closed(self) -> int:
        """Windows emitted."""
        return sum(pipeline.counts["windows",] for pipeline in self.pipelines)

    def forecast(self) -> int:
        """Forecasts emitted; each SKU's decisions are made with them."""
        return sum(pipeline.decider.counts["forecast"] for pipeline in self.pipelines)


def interleaved(several: dict[str, list[Fetch]]) -> Iterator[Fetch]:
    """Fetches of all topics, evenly by their share of what is there."""
    places = [
        ((at + 1) / len(of_topic), fetch)
        for of_topic in several.values()
        for at, fetch in enumerate(of_topic)
    ]
    yield from (fetch for _, fetch in sorted(places, key=lambda one: one[0]))


def taken(pipeline: Pipeline) -> None:
    """A checkpoint, committed at once."""
    pipeline.take()
    pipeline.committed(0)


def worker(skus: int, decides: bool, weights: Forecaster | None, random: Any) -> Worker:
    """Every SKU in the catalog, in stock, and seen once, in no order; all buckets closed."""
    settings = load(partitions=PARTITIONS, partitioner="none", forecasting=decides)
    forecaster = weights if decides else None
    made = Worker(
        [_pipeline(settings, number, forecaster) for number in range(PARTITIONS)],
        Batcher(forecaster),
        skus,
    )
    known = random.permutation(skus)
    for number, pipeline in enumerate(made.pipelines):
        _tell(pipeline, known[known % PARTITIONS == number])
    made.decided_at_ms = SALE_END_MS  # all is out of date: nothing is decided yet
    for begin in range(0, skus, KNOWN_AT_ONCE):
        made.run(made.take_in(known[begin : begin + KNOWN_AT_ONCE], random))
    made.next_ms += LATER_MS
    made.settle(random)
    made.decided_at_ms = START_MS
    return made


def _pipeline(settings: Settings, number: int, forecaster: Forecaster | None) -> Pipeline:
    nothing = Restored(None, [], np.zeros((0, 0), np.uint8), [], [], RestoreStats())
    return Pipeline(settings, number, PARTITIONS, forecaster, nothing, (1, 2))


def _tell(pipeline: Pipeline, skus: Numbers) -> None:
    """What catalog and stock levels would say."""
    rows = pipeline.skus.insert_all([sku_name(number).encode() for number in skus.tolist()])
    pipeline.decider.grow(pipeline.skus.capacity)
    reference = pipeline.decider.reference
    reference.categories |= {f"c{number}": number for number in range(1, 21)}
    reference.has_catalog[rows] = reference.has_stock[rows] = True
    reference.category[rows] = 1 + skus % 20
    reference.list_price_cents[rows], reference.unit_cost_cents[rows] = 10_000, 4_000
    reference.price_floor_cents[rows], reference.price_ceiling_cents[rows] = 5_000, 15_000
    reference.lead_time_ms[rows], reference.on_hand[rows] = 600_000, 1_000
    reference.sale_start_ms[rows], reference.sale_end_ms[rows] = START_MS, SALE_END_MS
    reference.stock_as_of_ms[rows] = reference.informed_ms[rows] = START_MS


def drawn(shop: str, skus: int, events: int, random: np.random.Generator) -> Numbers:
    """SKU numbers int64 [events]: of the whole shop, or of its hot ones."""
    several = min(skus, HOT) if shop == "hot" else skus
    return random.choice(several, events, p=zipf(several))


def event_cost(one: Worker, shop: str, events: int, random: np.random.Generator) -> Row:
    """CPU nanoseconds of an event, and the windows and forecasts that came of each."""
    one.settle(random)
    work = one.take_in(drawn(shop, one.skus, events, random), random)
    counted, closed, forecast = one.counted(), one.closed(), one.forecast()
    gc.collect()
    seconds = one.run(work)
    applied = one.counted() - counted
    assert applied == events, f"{applied} of {events} events were applied"
    return {
        "ns_per_event": seconds / events * 1e9,
        "windows_per_event": (one.closed() - closed) / events,
        "forecasts_per_event": (one.forecast() - forecast) / events,
    }


def tick_cost(one: Worker, random: np.random.Generator) -> float:
    """CPU microseconds of a tick in which `CHANGED` SKUs had events: from the fetch to the
    checkpoint taken, over all partitions. The bucket that it closes is that of the tick before.
    """
    one.settle(random)
    spent = []
    sku = random.choice(min(one.skus, HOT), CHANGED, replace=False)
    for _ in range(TICKS):
        work = one.take_in(np.repeat(sku, EVENTS_EACH), random)
        counted = one.counted()
        spent.append(1e6 * one.run(work))
        assert one.counted() == counted + CHANGED * EVENTS_EACH
    return statistics.median(spent)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def row_bytes(one: Worker) -> int:
    """A packed row of the changelog, without its key."""
    one.pipelines[0].windows.dirty[0] = True
    return one.pipelines[0].take().rows.shape[1]


def measure(sizes: tuple[int, ...], events: int, rounds: int) -> Row:
    """Everything."""
    torch.set_num_threads(1)  # as in a worker: a second one waits busily, which counts
    weights = Forecaster.load(None, "cpu")
    random = np.random.default_rng(SEED)
    result: Row = {"load": round(os.getloadavg()[0], 2), "events": events, "sizes": list(sizes)}
    worker(HOT, True, weights, random)  # loads what is compiled
    for mode, decides in (("windows", False), ("decisions", True)):
        workers, memory = {}, {}
        for skus in sizes:
            before = resident_bytes()
            workers[skus] = worker(skus, decides, weights, random)
            memory[skus] = resident_bytes() - before
        some = events // 2 if decides else events
        result[mode] = costs(workers, some, rounds, random)
        grown = memory[sizes[-1]] - memory[sizes[0]]
        result[mode]["resident_bytes_per_sku"] = round(grown / (sizes[-1] - sizes[0]))
        result[mode]["changelog_row_bytes"] = row_bytes(workers[sizes[0]])
    return result


def costs(workers: dict[int, Worker], events: int, rounds: int, random: np.random.Generator) -> Row:
    """By size: medians over the rounds, with extremes. A first round warms up."""
    found: dict[tuple[str, int], list[Row]] = {}
    ticks: dict[int, list[float]] = {skus: [] for skus in workers}
    for number in range(rounds + 1):
        for skus, one in workers.items():
            for shop in ("whole", "hot"):
                row = event_cost(one, shop, events if number else events // 4, random)
                found.setdefault((shop, skus), []).append(row)
            ticks[skus].append(tick_cost(one, random))
    result: Row = {"whole": {}, "hot": {}, "tick_us": {}}
    for (shop, skus), rows in found.items():
        cost = [one["ns_per_event"] for one in rows[1:]]
        result[shop][skus] = {
            "ns_per_event": round(statistics.median(cost)),
            "ns_min": round(min(cost)),
            "ns_max": round(max(cost)),
            "windows_per_event": round(rows[-1]["windows_per_event"], 3),
            "forecasts_per_event": round(rows[-1]["forecasts_per_event"], 4),
        }
    for skus, spent in ticks.items():
        result["tick_us"][skus] = round(statistics.median(spent[1:]))
    return result


def table(result: Row) -> Iterator[str]:
    yield f"CPU of an event in ns (extremes), windows for each event; load {result['load']}"
    for mode in ("windows", "decisions"):
        figures = result[mode]
        for skus in result["sizes"]:
            whole, hot = figures["whole"][skus], figures["hot"][skus]
            yield (
                f"{mode:10s} {skus:9,d} SKUs  "
                + "   ".join(
                    f"{name} {one['ns_per_event']:7,d} ({one['ns_min']:,} to {one['ns_max']:,}) "
                    f"{one['windows_per_event']:.2f}"
                    for name, one in (("whole shop", whole), ("hot thousand", hot))
                )
                + f"   tick of {CHANGED} {figures['tick_us'][skus]:,d} us"
            )
        yield (
            f"{mode:10s} {figures['resident_bytes_per_sku']:,d} bytes resident a SKU, "
            f"{figures['changelog_row_bytes']:,d} in the changelog"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=384_000, help="a round (384000)")
    parser.add_argument("--rounds", type=int, default=3, help="measured, behind one (3)")
    parser.add_argument("--skus", type=int, default=SIZES[-1], help="the largest size (1000000)")
    parser.add_argument("--quick", action="store_true", help="a look, nothing written")
    chosen = parser.parse_args()
    sizes = tuple(size for size in SIZES if size <= chosen.skus)
    asked = ((200, 2_000), 8_000, 1) if chosen.quick else (sizes, chosen.events, chosen.rounds)
    result = measure(*asked)
    print("\n".join(table(result)))
    if not chosen.quick:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
