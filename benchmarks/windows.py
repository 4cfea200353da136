"""Nanoseconds per event of SKU row, duplicate check, apply and close. Checks its own answers.

python -m benchmarks.windows [--events 1000000] [--skus 10000]
"""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from models.jit import COMPILED
from streams.codec.columns import CAPACITY, Columns
from streams.dedupe import Duplicates
from streams.sku_table import SkuTable
from streams.windows import Verdict, Windows, WindowsConfig

T0_MS = 1_700_000_000_000
CONFIG = WindowsConfig(
    bucket_ms=10_000,
    allowed_lateness_ms=5_000,
    future_tolerance_ms=5_000,
    dedupe_horizon_records=1_000_000,
    idle_timeout_ms=5_000,
)


@dataclass
class Figures:
    """Nanoseconds per event (close: per window) of the median slice and of the fastest."""

    nanoseconds: dict[str, tuple[float, float]]
    windows: int
    events_closed: int


def slices(events: int, skus: int, seed: int) -> Iterator[tuple[Columns, np.ndarray]]:
    """Clicks over `skus` SKUs (zipf), 5,000 a second of event time, as the decoder leaves them."""
    rng = np.random.default_rng(seed)
    names = [b"SKU-%06d" % number for number in range(skus)]
    blob = np.frombuffer(b"".join(names), np.uint8)
    hashes = rng.integers(0, 2**64, skus, np.uint64)
    for first in range(0, events, CAPACITY):
        columns = Columns.of()
        n = columns.n = min(CAPACITY, events - first)
        picked = rng.zipf(1.1, n) % skus
        numbers = np.arange(first, first + n)
        columns.offset[:n] = numbers
        columns.event_time_ms[:n] = T0_MS + numbers // 5
        columns.timestamp_ms[:n] = T0_MS + numbers // 5
        columns.price_cents[:n] = 9_999
        columns.quantity[:n] = 1
        columns.sku_at[:n] = picked * len(names[0])
        columns.sku_length[:n] = len(names[0])
        columns.sku_hash[:n] = hashes[picked]
        columns.event_hash_low[:n] = rng.integers(0, 2**64, n, np.uint64)
        columns.event_hash_high[:n] = rng.integers(0, 2**64, n, np.uint64)
        columns.ok[:n] = True
        yield columns, blob


def measure(events: int, skus: int, seed: int = 1) -> Figures:
    """One pass over `events`, the same for all three topics, with each part timed."""
    table = SkuTable(0, 1, "none", (1, 2))
    windows = Windows(CONFIG, table)
    duplicates = Duplicates(CONFIG.dedupe_horizon_records)
    spent: dict[str, list[float]] = {"rows": [], "duplicates": [], "apply": [], "close": []}
    closed_windows = closed_events = 0

    def timed(part: str, run: Callable[[], int]) -> None:
        begin = time.perf_counter_ns()
        count = run()
        if count:
            spent[part].append((time.perf_counter_ns() - begin) / count)

    def close() -> int:
        nonlocal closed_windows, closed_events
        closed = windows.close()
        if closed is None:
            return 0
        closed_windows += len(closed.rows)
        closed_events += int(closed.clicks.sum() + closed.carts.sum() + closed.orders.sum())
        return len(closed.rows)

    def rows(columns: Columns, blob: np.ndarray) -> int:
        table.rows(blob, columns)
        return columns.n

    def enter(columns: Columns) -> int:
        n = columns.n
        duplicates.remember(
            columns.offset[:n], columns.event_hash_low[:n], columns.event_hash_high[:n]
        )
        return n

    def apply(kind: int, columns: Columns) -> int:
        begin = begins[kind]
        begins[kind] = windows.apply(kind, columns, begin)
        assert (columns.verdict[begin : begins[kind]] == Verdict.APPLIED).all(), "all are new"
        return begins[kind] - begin

    for columns, blob in slices(events, skus, seed):
        timed("rows", lambda c=columns, b=blob: rows(c, b))
        timed("duplicates", lambda c=columns: enter(c))
        begins = [0, 0, 0]
        while min(begins) < columns.n:
            for kind in range(3):
                timed("apply", lambda k=kind, c=columns: apply(k, c))
            while windows.next_bucket_ms() is not None:
                timed("close", close)
    assert int(windows.counts[:, Verdict.APPLIED].sum()) == 3 * events
    return Figures(
        {part: (float(np.median(each)), min(each)) for part, each in spent.items()},
        closed_windows,
        closed_events,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--skus", type=int, default=10_000)
    options = parser.parse_args()
    measure(200_000, 100)  # compiles
    figures = measure(options.events, options.skus)
    print(f"{options.events:,} events a topic, {options.skus:,} SKUs, compiled: {COMPILED}")
    print("ns per event              median  fastest slice")
    for part, (median, fastest) in figures.nanoseconds.items():
        print(f"{part:24} {median:7.1f}  {fastest:7.1f}")
    print(f"{figures.windows:,} windows closed, with {figures.events_closed:,} events")


if __name__ == "__main__":
    main()
