"""Quix Streams: three topics brought together in the order of time, tumbling windows on RocksDB
with changelog topics, final results when the partition's time has passed them.
"""

import job
from quixstreams import Application

app = Application(
    broker_address=job.BOOTSTRAP,
    consumer_group=job.GROUP,
    auto_offset_reset="earliest",
    state_dir=job.STATE,
    commit_interval=5.0,
    loglevel="WARNING",
    consumer_extra_config={
        "fetch.min.bytes": 100_000,
        "queued.min.messages": 200_000,
        "fetch.message.max.bytes": 4 << 20,
    },
    producer_extra_config={"linger.ms": 20, "batch.size": 900_000},
)


def source(kind, name):
    def mark(value):
        value["kind"] = kind

    topic = app.topic(
        name,
        key_deserializer="str",
        value_deserializer="json",
        timestamp_extractor=lambda value, headers, time_ms, time_type: value["event_time_ms"],
    )
    return app.dataframe(topic).update(mark)


def add(sums, event):
    kind, price = event["kind"], event["price_cents"]
    sums = list(sums)
    sums[kind] += 1
    sums[5] += price
    if kind == 2:
        sums[3] += event["quantity"]
        sums[4] += event["quantity"] * price
    return sums


def window(result, key, timestamp, headers):
    return job.window(key, result["start"], result["value"])


clicks, carts, orders = (source(kind, name) for kind, name in enumerate(job.TOPICS))
(
    clicks.concat(carts)
    .concat(orders)
    .tumbling_window(job.BUCKET_MS, grace_ms=0)
    .reduce(reducer=add, initializer=lambda event: add([0, 0, 0, 0, 0, 0], event))
    .final(closing_strategy="partition")
    .apply(window, metadata=True)
    .to_topic(app.topic(job.OUTPUT, key_serializer="str", value_serializer="json"))
)
app.run()
