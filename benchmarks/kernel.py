"""What the kernels cost: nanoseconds of processor time per event or row, answers checked.

    python -m benchmarks.kernel [--events N]

The log is the same every time: 124-byte orders of 10,000 SKUs in batches of 150 kB, decoded in
slices from memory. Compiling and the first pass are kept out; the median of five passes counts.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np

from streams.codec import kernel
from streams.codec.batches import read_batches
from streams.codec.columns import NameArrays
from streams.codec.decode import START, Decoder, Position
from streams.codec.write import encode_records
from streams.codec.write_columns import encode_rows, encode_windows

SEED = 20261127
ORDER = 2
NOW_MS = 1_795_292_000_000
SKUS = 10_000
ROW_BYTES = 408
PASSES = 5


def orders(events: int) -> tuple[bytes, int]:
    """The log, and the sum of its prices."""
    rng = np.random.default_rng(SEED)
    skus = rng.integers(0, SKUS, events).tolist()
    prices = rng.integers(0, 50_000, events).tolist()
    records = (
        (
            b"SKU%06d" % sku,
            b'{"event_id":"e%08d","sku":"SKU%06d","user_id":"u%05d","event_time_ms":%d,'
            b'"price_cents":%d,"quantity":1}' % (index, sku, index % 99_991, NOW_MS + index, price),
            (),
        )
        for index, (sku, price) in enumerate(zip(skus, prices, strict=True))
    )
    log = bytearray()
    offset = 0
    for batch in encode_records(records, bytes_max=150_000):
        log += batch.whole(offset, NOW_MS + events)
        offset += batch.count
    return bytes(log), sum(prices)


def median_ns(one_pass: Callable[[], None], count: int) -> float:
    """Processor time of one pass, per item."""
    one_pass()
    took = []
    for _ in range(PASSES):
        before = time.thread_time_ns()
        one_pass()
        took.append(time.thread_time_ns() - before)
    return statistics.median(took) / count


def read_ns(log: bytes, events: int) -> float:
    """Checking the batches of a fetch."""

    def one_pass() -> None:
        assert read_batches(log, 0) == (log, events)

    return median_ns(one_pass, events)


def decode_ns(log: bytes, events: int, price_sum: int) -> float:
    """Batches to columns."""
    data = np.frombuffer(log, np.uint8)
    decoder = Decoder((1, 2), future_tolerance_ms=0)

    def one_pass() -> None:
        position: Position | None = START
        count = prices = 0
        while position is not None:
            position, refusals = decoder.decode(data, ORDER, 0, position)
            columns = decoder.columns
            assert not refusals
            count += columns.n
            prices += int(columns.price_cents[: columns.n].sum())
        assert (count, prices) == (events, price_sum)

    return median_ns(one_pass, events)


def windows_ns() -> float:
    """A closed bucket of every SKU to record batches."""
    rng = np.random.default_rng(SEED)
    names = NameArrays.of([b"SKU%06d" % sku for sku in range(SKUS)])
    rows = rng.permutation(SKUS)
    counts = rng.integers(0, 1_000, (SKUS, 8))

    def one_pass() -> None:
        batches = encode_windows(NOW_MS, 10_000, names, rows, counts)
        assert sum(batch.count for batch in batches) == SKUS

    return median_ns(one_pass, SKUS)


def rows_ns() -> float:
    """Changelog rows of every SKU to record batches."""
    rng = np.random.default_rng(SEED)
    names = NameArrays.of([b"SKU%06d" % sku for sku in range(SKUS)])
    values = rng.integers(0, 256, (SKUS, ROW_BYTES), np.uint8)

    def one_pass() -> None:
        batches = encode_rows(names, np.arange(SKUS), values)
        assert sum(batch.count for batch in batches) == SKUS

    return median_ns(one_pass, SKUS)


def measure(events: int) -> dict[str, float]:
    """Every figure, in nanoseconds per event or row."""
    kernel.warm_up()
    log, price_sum = orders(events)
    return {
        "read a fetch, per event": read_ns(log, events),
        "decode, per event": decode_ns(log, events, price_sum),
        "encode demand-windows, per row": windows_ns(),
        "encode changelog rows, per row": rows_ns(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=200_000)
    for name, figure in measure(parser.parse_args().events).items():
        print(f"{name:<34} {figure:8.0f} ns")


if __name__ == "__main__":
    main()
