"""What a checkpoint costs on Apache Kafka: `python -m benchmarks.state`; restores: recovery.py.

Checkpoints of 10,000 changed SKUs, each with a packed row of about 500 bytes and a record of
`demand-windows`, in one transaction, one after the other, so that each also waits for the local
copy of the one before, which in a worker has a second for it. Needs a broker with transactions,
named by `KAFKA_BOOTSTRAP_SERVERS`. Makes topics under a prefix of its own and deletes them again.
The first checkpoint, which warms up, is left out.
"""

import asyncio
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from kafka.admin import KafkaAdminClient, NewTopic

from streams import topics
from streams.checkpoint import Checkpoint, Output, Restored
from streams.cluster import Cluster
from streams.codec.columns import NameArrays
from streams.codec.write_columns import encode_windows
from streams.emit import Emitter, emitter_for
from streams.fetch_seam import seam_problem
from streams.settings import Settings, load
from streams.state import changelog
from streams.state.marker import MARKER_VERSION, Marker
from streams.state.recovery import restore
from streams.state.snapshot import RowSchema

ROWS = 10_000
REPEATS = 15
SCHEMA = RowSchema(1, {"cells": np.zeros((1, 4, 7), np.int64), "hidden": np.zeros((1, 64), "f4")})
NAMES = [b"SKU-%06d" % i for i in range(ROWS)]
NO_EVENTS = dict.fromkeys(topics.INPUT_TOPICS, 0)


def checkpoint(step: int, rows: int) -> Checkpoint:
    """The first `rows` SKUs, all changed."""
    counts = np.full((rows, 8), step, np.int64)
    batches = encode_windows(
        1_700_000_000_000, 10_000, NameArrays.of(NAMES), np.arange(rows), counts
    )
    packed = SCHEMA.pack(
        {"cells": np.full((rows, 4, 7), step), "hidden": np.full((rows, 64), step, "f4")}
    )
    outputs = [Output(topics.DEMAND_WINDOWS, batch) for batch in batches]
    marker = Marker(MARKER_VERSION, step, NO_EVENTS, 10**12, {})  # no history is read
    return Checkpoint(0, outputs, NAMES[:rows], packed, [], marker)


async def commits(emitter: Emitter, rows: int) -> list[float]:
    """Milliseconds of each checkpoint, from the copy taken to the transaction committed."""
    taken_ms = []
    for step in range(REPEATS + 1):
        one = checkpoint(step, rows)
        began = time.perf_counter()
        await emitter.commit(one)
        taken_ms.append(1_000 * (time.perf_counter() - began))
    return taken_ms[1:]


async def restored(settings: Settings, emitter: Emitter) -> Restored:
    cluster = Cluster(settings)
    async with cluster.reader(0) as reader:
        return await restore(settings, cluster, emitter, reader)


def create_topics(settings: Settings, admin: KafkaAdminClient) -> list[str]:
    plans = topics.plans(settings.topic_prefix)
    admin.create_topics([NewTopic(one.name, 1, 1, topic_configs=one.config) for one in plans])
    return [one.name for one in plans]


async def measure(settings: Settings) -> None:
    emitter = emitter_for(settings, Cluster(settings), 0)
    await restored(settings, emitter)
    print(f"rows of {SCHEMA.width} bytes; medians (worst) of {REPEATS}")
    for rows in (100, 1_000, ROWS):
        taken_ms = await commits(emitter, rows)
        print(
            f"checkpoint of {rows:6,d} rows and windows: "
            f"{statistics.median(taken_ms):6.1f} ms ({max(taken_ms):.1f})"
        )
    await emitter.stop()
    one = checkpoint(REPEATS, ROWS)
    began = time.perf_counter()
    changelog.encode(one, [], None)
    print(
        f"  of these, encoding the changelog:       {1e3 * (time.perf_counter() - began):6.1f} ms"
    )


def main() -> None:
    if not os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        print("left out: KAFKA_BOOTSTRAP_SERVERS names no Apache Kafka")
        return
    if problem := seam_problem():
        print(f"raw answers cannot be had, restores are slower: {problem}")
    with tempfile.TemporaryDirectory() as folder:
        prefix = f"bench-{os.getpid()}-"
        settings = load(topic_prefix=prefix, data_dir=Path(folder))
        admin = KafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
        names = create_topics(settings, admin)
        try:
            asyncio.run(measure(settings))
        finally:
            admin.delete_topics(names)
            admin.close()


if __name__ == "__main__":
    main()
