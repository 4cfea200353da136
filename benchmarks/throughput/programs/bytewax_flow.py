"""Bytewax: events keyed by partition number into a stateful operator that counts into dictionaries,
snapshots to a recovery store every 10 s. Its own event-time windows keep a clock per SKU, and close
the window of a SKU without later events by the wall clock alone.
"""

import os
from datetime import timedelta
from pathlib import Path

import bytewax.operators as op
import job
import orjson
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.operators import StatefulBatchLogic
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main
from closing import Clock

KINDS = {topic: kind for kind, topic in enumerate(job.TOPICS)}


class PartitionWindows(StatefulBatchLogic):
    """Of one partition number: bucket -> SKU -> counts, units, revenue, price sum."""

    def __init__(self, snapshot=None):
        self._clock, self._buckets = snapshot or (Clock(), {})

    def on_batch(self, batch):
        topics = {}
        for topic, time_ms, sku, price, quantity in batch:
            topics[topic] = time_ms
            bucket = self._buckets.setdefault(time_ms - time_ms % job.BUCKET_MS, {})
            sums = bucket.get(sku)
            if sums is None:
                sums = bucket[sku] = [0, 0, 0, 0, 0, 0]
            kind = KINDS[topic]
            sums[kind] += 1
            sums[5] += price
            if kind == 2:
                sums[3] += quantity
                sums[4] += quantity * price
        for topic, time_ms in topics.items():
            self._clock.reach(topic, 0, time_ms)
        open_ms = self._clock.open_bucket(0)
        closed = []
        for start_ms in sorted(start for start in self._buckets if start < open_ms):
            bucket = self._buckets.pop(start_ms)
            closed += [(sku, start_ms, sums) for sku, sums in bucket.items()]
        return closed, StatefulBatchLogic.RETAIN

    def snapshot(self):
        buckets = {
            start_ms: {sku: list(sums) for sku, sums in bucket.items()}
            for start_ms, bucket in self._buckets.items()
        }
        return self._clock.copy(), buckets


def decoded(batch):
    loads = orjson.loads
    for message in batch:
        event = loads(message.value)
        yield (
            str(message.partition),
            (
                message.topic,
                event["event_time_ms"],
                event["sku"],
                event["price_cents"],
                event.get("quantity", 1),
            ),
        )


def encoded(keyed):
    _, (sku, start_ms, sums) = keyed
    return KafkaSinkMessage(sku.encode(), orjson.dumps(job.window(sku, start_ms, sums)))


flow = Dataflow("windows")
source = KafkaSource([job.BOOTSTRAP], job.TOPICS, add_config={
    name: str(job.CONSUMER[name])
    for name in ("fetch.min.bytes", "fetch.wait.max.ms", "fetch.message.max.bytes")
}, batch_size=5_000)  # fmt: skip
events = op.flat_map_batch("decode", op.input("source", flow, source), decoded)
closed = op.stateful_batch("windows", events, PartitionWindows)
producer = {name: str(value) for name, value in job.PRODUCER.items() if "servers" not in name}
op.output(
    "sink", op.map("encode", closed, encoded), KafkaSink([job.BOOTSTRAP], job.OUTPUT, producer)
)
store = Path(job.STATE) / "recovery"
store.mkdir()
init_db_dir(store, 1)
cli_main(
    flow,
    epoch_interval=timedelta(seconds=10),
    recovery_config=RecoveryConfig(str(store)),
)
os._exit(0)
