"""Compiles the kernels of SKU table, windows and history: at install, never in an event's path."""

import numpy as np

from streams.codec.columns import Columns
from streams.dedupe import SLOTS_FIRST
from streams.partitioner import partition_of
from streams.sku_table import CAPACITY_FIRST, SkuTable
from streams.windows import Windows, WindowsConfig


def warm_up() -> None:
    """Take two made-up buckets through everything; compiled code is kept on disk."""
    config = WindowsConfig(1_000, 0, 0, 10 * SLOTS_FIRST, 1_000)
    skus = SkuTable(partition_of(b"a", 2, "murmur2"), 2, "murmur2", (0, 0))
    windows = Windows(config, skus)
    columns, data = _columns()
    skus.rows(data, columns)
    for kind in range(3):
        windows.remember(kind, columns, data)
    for step in range(12):
        columns.offset[0] = columns.event_hash_low[0] = 2 + step
        columns.event_time_ms[0] = 10**12 + step // 3 * config.bucket_ms
        columns.timestamp_ms[0] = columns.event_time_ms[0]
        windows.apply(step % 3, columns, 0)
        while windows.close() is not None:
            pass
    rows = np.zeros(1, np.int64)
    windows.history.of(rows)
    windows.units_between(rows, 0)
    windows.scatter(rows, windows.gather(rows))
    skus.remove(0)
    many = SkuTable(0, 1, "crc32", (0, 0))
    many.insert_all([b"%d" % number for number in range(CAPACITY_FIRST + 1)])
    ids = np.arange(SLOTS_FIRST, dtype=np.int64)
    windows._duplicates[0].remember(10 + ids, ids.view(np.uint64), ids.view(np.uint64))


def _columns() -> tuple[Columns, "np.ndarray[tuple[int], np.dtype[np.uint8]]"]:
    columns = Columns.of(1)
    columns.n = 1
    columns.offset[0] = 1
    columns.event_time_ms[0] = columns.timestamp_ms[0] = 10**12
    columns.event_hash_low[0] = columns.sku_length[0] = 1
    columns.ok[0] = True
    return columns, np.frombuffer(b"a", np.uint8)
