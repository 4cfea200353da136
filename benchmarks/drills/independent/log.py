"""The topics of one application as a `read_committed` subscriber finds them, read from their start.

Everything is kept in memory: a drill has some hundred thousand records.
"""

import time
from dataclasses import dataclass, field
from typing import NamedTuple

from kafka import KafkaConsumer, TopicPartition

CLICKS, CARTS, ORDERS = EVENTS = ("clicks", "carts", "orders")
CATALOG, STOCK_LEVELS = "catalog", "stock-levels"
WINDOWS, LATE, DEAD = "demand-windows", "late-events", "dead-letters"
FORECASTS, RESTOCKS, PRICES = "demand-forecasts", "restock-events", "price-adjustments"
CAPACITY, CHANGELOG = "capacity-forecasts", "changelog"
READ = (
    *EVENTS, CATALOG, STOCK_LEVELS, WINDOWS, LATE, DEAD, FORECASTS, RESTOCKS, PRICES, CAPACITY,
    CHANGELOG,
)  # fmt: skip
STALL_S = 60.0


class Record(NamedTuple):
    """One record as it lies on its topic partition."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes]


@dataclass(frozen=True)
class Rules:
    """The deployment that is checked; names and meaning as in the README's table of settings."""

    prefix: str
    application: str
    partitions: int
    exactly_once: bool
    forecasting: bool
    bucket_ms: int = 10_000
    allowed_lateness_ms: int = 5_000
    future_tolerance_ms: int = 5_000
    dedupe_horizon_records: int = 1_000_000
    dead_letter_bytes_max: int = 65_536
    forecast_interval_ms: int = 60_000

    def broker_name(self, topic: str) -> str:
        """The topic's name on the broker."""
        own = f"{self.application}-" if topic == CHANGELOG else ""
        return f"{self.prefix}{own}{topic}"


@dataclass
class Log:
    """Records by (logical topic, partition), in the order of their offsets; `ends` are the offsets
    behind the last record that a reader may see.
    """

    records: dict[tuple[str, int], list[Record]] = field(default_factory=dict)
    ends: dict[tuple[str, int], int] = field(default_factory=dict)

    def of(self, topic: str, partition: int) -> list[Record]:
        return self.records.get((topic, partition), [])


def read_log(bootstrap_servers: str, rules: Rules) -> Log:
    """Every topic to its present end. Raises RuntimeError when the broker falls silent."""
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap_servers.split(","),
        isolation_level="read_committed" if rules.exactly_once else "read_uncommitted",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_poll_records=10_000,
        max_partition_fetch_bytes=8 * 2**20,
        fetch_max_wait_ms=50,
    )
    try:
        return _read(consumer, rules)
    finally:
        consumer.close()


def _read(consumer: KafkaConsumer, rules: Rules) -> Log:
    log = Log()
    names = {}
    for topic in READ:
        for number in range(1 if topic == CAPACITY else rules.partitions):
            names[TopicPartition(rules.broker_name(topic), number)] = topic, number
    consumer.assign(list(names))
    consumer.seek_to_beginning(*names)
    ends = consumer.end_offsets(list(names))
    log.ends = {names[tp]: end for tp, end in ends.items()}
    log.records = {name: [] for name in names.values()}
    waiting = {tp for tp, end in ends.items() if end > 0}
    heard = time.monotonic()
    while waiting:
        for tp, got in consumer.poll(timeout_ms=500).items():
            heard = time.monotonic()
            log.records[names[tp]] += [
                Record(one.offset, one.timestamp, one.key, one.value, dict(one.headers))
                for one in got
                if one.offset < ends[tp]
            ]
        done = {tp for tp in waiting if consumer.position(tp) >= ends[tp]}
        if done:
            consumer.pause(*done)
            waiting -= done
        elif time.monotonic() - heard > STALL_S:
            raise RuntimeError(f"nothing came for {STALL_S:g} s of {sorted(waiting)}")
    return log
