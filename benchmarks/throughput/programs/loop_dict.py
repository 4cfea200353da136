"""By hand: consume, decode each value, count into dictionaries, produce.

Nothing survives a crash.
"""

import job
import orjson
from closing import Clock
from confluent_kafka import Consumer, Producer

consumer = Consumer(job.CONSUMER)
consumer.subscribe(list(job.TOPICS))
producer = Producer(job.PRODUCER)
kinds = {topic: kind for kind, topic in enumerate(job.TOPICS)}
clock = Clock()
# partition -> bucket -> SKU -> clicks, carts, orders, units, revenue, price sum
windows = [{} for _ in range(job.PARTITIONS)]


def count(messages):
    loads, bucket_ms = orjson.loads, job.BUCKET_MS
    last = {}
    for message in messages:
        event = loads(message.value())
        topic, partition = message.topic(), message.partition()
        time_ms = event["event_time_ms"]
        last[topic, partition] = time_ms
        buckets = windows[partition]
        start_ms = time_ms - time_ms % bucket_ms
        bucket = buckets.get(start_ms)
        if bucket is None:
            bucket = buckets[start_ms] = {}
        sums = bucket.get(event["sku"])
        if sums is None:
            sums = bucket[event["sku"]] = [0, 0, 0, 0, 0, 0]
        kind = kinds[topic]
        sums[kind] += 1
        price = event["price_cents"]
        sums[5] += price
        if kind == 2:
            sums[3] += event["quantity"]
            sums[4] += event["quantity"] * price
    for (topic, partition), time_ms in last.items():
        clock.reach(topic, partition, time_ms)


def emit(partition, start_ms, bucket):
    for sku, sums in bucket.items():
        window = job.window(sku, start_ms, sums)
        producer.produce(job.OUTPUT, orjson.dumps(window), sku, partition)
    producer.poll(0)


while True:
    count(consumer.consume(10_000, 0.1))
    for partition, buckets in enumerate(windows):
        open_ms = clock.open_bucket(partition)
        for start_ms in sorted(start for start in buckets if start < open_ms):
            emit(partition, start_ms, buckets.pop(start_ms))
