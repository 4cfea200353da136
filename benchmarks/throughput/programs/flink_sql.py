"""Flink SQL, Kafka to Kafka: one source over the three topics, watermarks per partition without
delay, TUMBLE, RocksDB, a checkpoint every 5 s, a sink at least once. All in a local cluster's JVM.
"""

import os

import job
from pyflink.common import Configuration
from pyflink.table import EnvironmentSettings, TableEnvironment

SETTINGS = {
    "parallelism.default": "2",
    "taskmanager.numberOfTaskSlots": "2",
    "taskmanager.memory.managed.size": "512m",
    "state.backend.type": "rocksdb",
    "execution.checkpointing.interval": "5 s",
    "execution.checkpointing.incremental": "true",
    "execution.checkpointing.dir": f"file://{job.STATE}/checkpoints",
    "io.tmp.dirs": job.STATE,
    "pipeline.jars": f"file://{os.environ['BENCH_FLINK_CONNECTOR']}",
    "pipeline.object-reuse": "true",
    "rest.port": "0",
    "table.local-time-zone": "UTC",
}
SOURCE = f"""
create table events (
  sku string, event_time_ms bigint, price_cents bigint, quantity bigint,
  topic string metadata virtual,
  at_time as to_timestamp_ltz(event_time_ms, 3),
  watermark for at_time as at_time
) with (
  'connector' = 'kafka', 'topic' = '{";".join(job.TOPICS)}', 'format' = 'json',
  'properties.bootstrap.servers' = '{job.BOOTSTRAP}', 'properties.group.id' = '{job.GROUP}',
  'scan.startup.mode' = 'earliest-offset',
  'properties.fetch.min.bytes' = '100000', 'properties.fetch.max.wait.ms' = '100',
  'properties.max.poll.records' = '5000'
)"""
SINK = f"""
create table windows (
  sku string, bucket_start_ms bigint, bucket_ms bigint, clicks bigint, carts bigint, orders bigint,
  units bigint, revenue_cents bigint, price_cents bigint
) with (
  'connector' = 'kafka', 'topic' = '{job.OUTPUT}', 'format' = 'json',
  'key.format' = 'raw', 'key.fields' = 'sku', 'value.fields-include' = 'ALL',
  'properties.bootstrap.servers' = '{job.BOOTSTRAP}',
  'sink.delivery-guarantee' = 'at-least-once',
  'properties.linger.ms' = '100', 'properties.batch.size' = '262144'
)"""
QUERY = f"""
insert into windows
select sku,
  cast(timestampdiff(second, timestamp '1970-01-01 00:00:00', window_start) as bigint) * 1000,
  cast({job.BUCKET_MS} as bigint),
  count(*) filter (where topic = '{job.TOPICS[0]}'),
  count(*) filter (where topic = '{job.TOPICS[1]}'),
  count(*) filter (where topic = '{job.TOPICS[2]}'),
  coalesce(sum(quantity) filter (where topic = '{job.TOPICS[2]}'), 0),
  coalesce(sum(quantity * price_cents) filter (where topic = '{job.TOPICS[2]}'), 0),
  (2 * sum(price_cents) + count(*)) / (2 * count(*))
from table(tumble(table events, descriptor(at_time), interval '10' seconds))
group by sku, window_start, window_end"""

configuration = Configuration()
for name, value in SETTINGS.items():
    configuration.set_string(name, value)
mode = EnvironmentSettings.new_instance().in_streaming_mode()
tables = TableEnvironment.create(mode.with_configuration(configuration).build())
tables.execute_sql(SOURCE)
tables.execute_sql(SINK)
tables.execute_sql(QUERY).wait()
