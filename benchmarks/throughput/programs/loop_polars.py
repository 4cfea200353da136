"""By hand, with polars: consume in batches, read_ndjson of each batch, group_by, and a second
group_by of the small frames when a bucket closes. Nothing survives a crash.
"""

import job
import polars as pl
from closing import Clock
from confluent_kafka import Consumer, Producer

BATCH = 100_000

consumer = Consumer(job.CONSUMER)
consumer.subscribe(list(job.TOPICS))
producer = Producer(job.PRODUCER)
kinds = {topic: kind for kind, topic in enumerate(job.TOPICS)}
clock = Clock()
pending = [[] for _ in range(job.PARTITIONS)]  # frames of sums
windows = [set() for _ in range(job.PARTITIONS)]  # buckets that are in them
SCHEMA = {"sku": pl.String, "event_time_ms": pl.Int64, "price_cents": pl.Int64}
KEYS = ["bucket_start_ms", "sku"]
NAMES = ["clicks", "carts", "orders"]


def count(topic, partition, values):
    kind = kinds[topic]
    schema = SCHEMA | ({"quantity": pl.Int64} if kind == 2 else {})
    events = pl.read_ndjson(b"\n".join(values), schema=schema)
    quantity = pl.col("quantity") if kind == 2 else pl.lit(0)
    sums = (
        events.lazy()
        .with_columns(
            bucket_start_ms=pl.col("event_time_ms") - pl.col("event_time_ms") % job.BUCKET_MS
        )
        .group_by(KEYS)
        .agg(
            *(
                (pl.len() if number == kind else pl.lit(0)).cast(pl.Int64).alias(name)
                for number, name in enumerate(NAMES)
            ),
            quantity.sum().cast(pl.Int64).alias("units"),
            (quantity * pl.col("price_cents")).sum().cast(pl.Int64).alias("revenue_cents")
            if kind == 2
            else pl.lit(0).cast(pl.Int64).alias("revenue_cents"),
            pl.col("price_cents").sum().alias("price_sum"),
        )
        .collect()
    )
    pending[partition].append(sums)
    windows[partition].update(sums["bucket_start_ms"].unique().to_list())
    clock.reach(topic, partition, events["event_time_ms"][-1])


def emit(partition, open_ms):
    frame = pl.concat(pending[partition])
    over = pl.col("bucket_start_ms") < open_ms
    pending[partition] = [frame.filter(~over)]
    windows[partition] = {start_ms for start_ms in windows[partition] if start_ms >= open_ms}
    events = pl.sum_horizontal(NAMES)
    closed = (
        frame.lazy()
        .filter(over)
        .group_by(KEYS)
        .agg(pl.all().sum())
        .with_columns(
            bucket_ms=pl.lit(job.BUCKET_MS),
            price_cents=(2 * pl.col("price_sum") + events) // (2 * events),
        )
        .drop("price_sum")
        .sort(KEYS)
        .collect()
    )
    values = closed.write_ndjson().encode().splitlines()
    for sku, value in zip(closed["sku"].to_list(), values, strict=True):
        producer.produce(job.OUTPUT, value, sku, partition)
    producer.poll(0)


while True:
    for (topic, partition), values in job.by_place(consumer.consume(BATCH, 0.1)).items():
        count(topic, partition, values)
    for partition in range(job.PARTITIONS):
        open_ms = clock.open_bucket(partition)
        if any(start_ms < open_ms for start_ms in windows[partition]):
            emit(partition, open_ms)
