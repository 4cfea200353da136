"""Pathway: three topics advancing together, tumbling windows given out exactly once, when the
greatest time seen has passed them by a minute: it has one clock for all partitions.
"""

import job
import pathway as pw

SHIFT_MS = 6 * job.BUCKET_MS  # partitions of one topic advance unevenly


class Event(pw.Schema):
    sku: str
    event_time_ms: int
    price_cents: int
    quantity: int = pw.column_definition(default_value=0)


SETTINGS = {
    "bootstrap.servers": job.BOOTSTRAP,
    "auto.offset.reset": "earliest",
    "session.timeout.ms": "6000",
    "fetch.min.bytes": "100000",
    "fetch.wait.max.ms": "100",
    "fetch.message.max.bytes": "262144",
}


def read(topic):
    settings = SETTINGS | {"group.id": f"{job.GROUP}-{topic}"}
    return pw.io.kafka.read(
        settings, topic, schema=Event, format="json", autocommit_duration_ms=200
    )


tables = [read(topic) for topic in job.TOPICS]
pw.io.register_input_synchronization_group(
    *(table.event_time_ms for table in tables), max_difference=job.BUCKET_MS // 2
)
marked = [
    table.select(
        pw.this.sku,
        pw.this.event_time_ms,
        pw.this.price_cents,
        clicks=int(kind == 0),
        carts=int(kind == 1),
        orders=int(kind == 2),
        units=pw.this.quantity if kind == 2 else 0,
        revenue_cents=pw.this.quantity * pw.this.price_cents if kind == 2 else 0,
    )
    for kind, table in enumerate(tables)
]
sums = (
    pw.Table.concat_reindex(*marked)
    .windowby(
        pw.this.event_time_ms,
        window=pw.temporal.tumbling(job.BUCKET_MS),
        instance=pw.this.sku,
        behavior=pw.temporal.exactly_once_behavior(shift=SHIFT_MS),
    )
    .reduce(
        sku=pw.this._pw_instance,
        bucket_start_ms=pw.this._pw_window_start,
        clicks=pw.reducers.sum(pw.this.clicks),
        carts=pw.reducers.sum(pw.this.carts),
        orders=pw.reducers.sum(pw.this.orders),
        units=pw.reducers.sum(pw.this.units),
        revenue_cents=pw.reducers.sum(pw.this.revenue_cents),
        price_sum=pw.reducers.sum(pw.this.price_cents),
        events=pw.reducers.count(),
    )
)
windows = sums.select(
    pw.this.sku, pw.this.bucket_start_ms, pw.this.clicks, pw.this.carts, pw.this.orders,
    pw.this.units, pw.this.revenue_cents,
    bucket_ms=job.BUCKET_MS,
    price_cents=(2 * pw.this.price_sum + pw.this.events) // (2 * pw.this.events),
)  # fmt: skip
pw.io.kafka.write(
    windows, {"bootstrap.servers": job.BOOTSTRAP}, job.OUTPUT, format="json", key=windows.sku
)
pw.run(monitoring_level=pw.MonitoringLevel.NONE)
