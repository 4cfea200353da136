"""Plain Faust: an agent over the three topics, one event at a time, a table with its changelog.

Its key has the bucket in it: Faust's own windows expire by the wall clock, which loses a replay's.
"""

import faust
import job
import orjson
from closing import Clock

app = faust.App(
    job.GROUP,
    broker=f"kafka://{job.BOOTSTRAP}",
    datadir=job.STATE,
    store="memory://",
    web_enabled=False,
    topic_partitions=job.PARTITIONS,
    consumer_auto_offset_reset="earliest",
    broker_max_poll_records=5_000,
    consumer_max_fetch_size=256 << 10,  # it takes what was fetched partition after partition
    stream_buffer_maxsize=16_384,
    producer_linger_ms=20,
    producer_max_batch_size=500_000,
)
events = app.topic(*job.TOPICS, key_type=bytes, value_type=bytes, key_serializer="raw",
                   value_serializer="raw")  # fmt: skip
windows = app.topic(job.OUTPUT, key_serializer="raw", value_serializer="raw")
sums_of = app.Table("windows", partitions=job.PARTITIONS)  # "partition bucket SKU" -> sums
kinds = {topic: kind for kind, topic in enumerate(job.TOPICS)}
clock = Clock()
closed_through_ms = [0] * job.PARTITIONS
open_keys = [{} for _ in range(job.PARTITIONS)]  # bucket -> SKUs


def recover():
    for key in sums_of:
        partition, start_ms, sku = key.split()
        open_keys[int(partition)].setdefault(int(start_ms), set()).add(sku)


async def emit(partition, start_ms):
    for sku in open_keys[partition].pop(start_ms):
        window = job.window(sku, start_ms, sums_of.pop(f"{partition} {start_ms} {sku}"))
        await windows.send(key=sku.encode(), value=orjson.dumps(window), partition=partition)


@app.agent(events)
async def count(stream):
    recovered = False
    async for item in stream.events():
        if not recovered:  # the table is, before the first event comes
            recover()
            recovered = True
        message = item.message
        event = orjson.loads(item.value)
        partition, time_ms, sku = message.partition, event["event_time_ms"], event["sku"]
        start_ms = time_ms - time_ms % job.BUCKET_MS
        open_keys[partition].setdefault(start_ms, set()).add(sku)
        key = f"{partition} {start_ms} {sku}"
        sums = list(sums_of.get(key) or (0, 0, 0, 0, 0, 0))
        kind, price = kinds[message.topic], event["price_cents"]
        sums[kind] += 1
        sums[5] += price
        if kind == 2:
            sums[3] += event["quantity"]
            sums[4] += event["quantity"] * price
        sums_of[key] = sums
        clock.reach(message.topic, partition, time_ms)
        open_ms = clock.open_bucket(partition)
        if open_ms > closed_through_ms[partition]:
            closed_through_ms[partition] = open_ms
            for over_ms in sorted(start for start in open_keys[partition] if start < open_ms):
                await emit(partition, over_ms)


app.finalize()
faust.Worker(app, loglevel="warning").execute_from_commandline()
