"""Every metric of flashcast: its name, its meaning, its unit. `/metrics` serves this registry.

Base units (seconds, bytes, records), counters end in `_total`, and no label ever holds a SKU: the
number of series is bounded by topics, verdicts, reasons and configured services.

A `Monitor` is built once by a shell and passed to whoever counts; nothing global, so that two
workers, or two tests, can live in one process.
"""

from enum import StrEnum
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    generate_latest,
)

from streams.topics import CAPACITY_FORECASTS, CAPACITY_SHARES, EVENT_TOPICS, REFERENCE_TOPICS

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
DURATIONS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
DELAYS_S: Final = (
    *(0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 60.0, 600.0, 3_600.0),
)
ROWS: Final = (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000)


class Verdict(StrEnum):
    """What became of an input record: label `verdict` of `flashcast_events_total`."""

    APPLIED = "applied"
    LATE = "late"
    DUPLICATE = "duplicate"
    STAMPED = "stamped"  # already in the row that was restored: counted once, before the crash
    DEAD_LETTER = "dead_letter"


class Decision(StrEnum):
    """Kinds of output a decision can be: label `kind`."""

    FORECAST = "forecast"
    RESTOCK = "restock"
    PRICE = "price"
    CAPACITY = "capacity"


class TakeoverFrom(StrEnum):
    """What a partition was restored from: label `source`; less of the log each than the next."""

    STANDBY = "standby"
    COPY = "copy"
    CHANGELOG = "changelog"
    NOTHING = "nothing"  # there is no checkpoint yet


class Monitor:
    """The metrics of one worker, in a registry of its own.

    Labels are spelled out below; `topic` is always the logical name, without the prefix.
    """

    def __init__(self, registry: CollectorRegistry | None = None, process: bool = True) -> None:
        """`process` adds CPU, memory and file descriptors of this process (off where two monitors
        share a registry).
        """
        self.registry = registry if registry is not None else CollectorRegistry(auto_describe=True)
        self._input()
        self._decisions()
        self._state()
        self._forecaster()
        if process:
            ProcessCollector(registry=self.registry)

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(f"flashcast_{name}", meaning, labels, registry=self.registry)

    def _gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        return Gauge(f"flashcast_{name}", meaning, labels, registry=self.registry)

    def _histogram(
        self, name: str, meaning: str, buckets: tuple[float, ...] = DURATIONS_S
    ) -> Histogram:
        return Histogram(f"flashcast_{name}", meaning, buckets=buckets, registry=self.registry)

    def _input(self) -> None:
        self.events = self._counter(
            "events_total", "Input records by what became of them.", "topic", "verdict"
        )
        self.dead_letters = self._counter(
            "dead_letters_total", "Records that broke the wire contract.", "topic", "reason"
        )
        self.unknown_fields = self._counter(
            "unknown_fields_total", "Records with fields outside the contract (ignored).", "topic"
        )
        self.consumer_lag = self._gauge(
            "consumer_lag_records", "Records not yet processed, over owned partitions.", "topic"
        )
        self.queue_bytes = self._gauge(
            "queue_bytes", "Fetched and not yet processed, over owned partitions.", "topic"
        )
        self.watermark_delay_seconds = self._gauge(
            "watermark_delay_seconds",
            "Now minus the oldest watermark of the owned partitions; 0 while there is none.",
        )
        self.apply_delay_seconds = self._histogram(
            "apply_delay_seconds",
            "From the timestamp of a record to its being in its window: of the oldest record of "
            "each slice, by the clocks of its sender (or broker) and of this worker.",
            DELAYS_S,
        )
        self.partitions_owned = self._gauge(
            "partitions_owned", "Partition numbers assigned to this worker."
        )
        self.partitions_ready = self._gauge(
            "partitions_ready", "Partition numbers restored and consuming."
        )
        self.rebalances = self._counter("rebalances_total", "Assignments received.")
        self.skus_tracked = self._gauge("skus_tracked", "SKUs with a row, over owned partitions.")
        self.skus_released = self._counter(
            "skus_released_total", "SKUs that left the sale and gave their rows back."
        )
        for topic in (*EVENT_TOPICS, *REFERENCE_TOPICS):
            self.consumer_lag.labels(topic)
            self.queue_bytes.labels(topic)
            self.unknown_fields.labels(topic)
        for topic in EVENT_TOPICS:
            for verdict in Verdict:
                self.events.labels(topic, verdict)  # a series that starts at 0 has a rate
        for topic in REFERENCE_TOPICS:
            self.events.labels(topic, Verdict.APPLIED)
            self.events.labels(topic, Verdict.DEAD_LETTER)

    def _decisions(self) -> None:
        self.buckets_closed = self._counter(
            "buckets_closed_total", "Buckets closed, over owned partitions."
        )
        self.demand_windows = self._counter(
            "demand_windows_total", "demand-windows records: active SKUs of closed buckets."
        )
        self.forecasts = self._counter("forecasts_total", "demand-forecasts records.")
        self.restocks = self._counter("restocks_total", "restock-events records.")
        self.restock_units = self._counter("restock_units_total", "Units ordered by them.")
        self.price_changes = self._counter("price_changes_total", "price-adjustments records.")
        self.capacity_forecasts = self._counter(
            "capacity_forecasts_total", "capacity-forecasts records.", "service"
        )
        self.capacity_batches_unreadable = self._counter(
            "capacity_batches_unreadable_total",
            "Batches that the sum over partitions went over, intact and undecodable.",
            "topic",
        )
        self.desired_replicas = self._gauge(
            "desired_replicas", "Replicas last asked for, by level of caution.", "service", "level"
        )
        self.expired_decisions = self._counter(
            "expired_decisions_total",
            "Decisions whose validity had passed when they were made (catching up): not emitted.",
            "kind",
        )
        self.withheld_decisions = self._counter(
            "withheld_decisions_total", "Decisions not emitted, by reason.", "kind", "reason"
        )
        for topic in (CAPACITY_SHARES, CAPACITY_FORECASTS):
            self.capacity_batches_unreadable.labels(topic)
        for kind in Decision:
            self.expired_decisions.labels(kind)

    def _state(self) -> None:
        self.checkpoints = self._counter(
            "checkpoints_total", "Checkpoints by outcome: committed or failed.", "outcome"
        )
        self.checkpoint_age_seconds = self._gauge(
            "checkpoint_age_seconds",
            "Since the last durable checkpoint of the partition that waits longest; 0 while "
            "nothing awaits one.",
        )
        self.checkpoint_duration_seconds = self._histogram(
            "checkpoint_duration_seconds", "From the copy to the commit."
        )
        self.checkpoint_rows = self._histogram(
            "checkpoint_rows", "SKU rows written by a checkpoint.", ROWS
        )
        self.outputs_waiting_bytes = self._gauge(
            "outputs_waiting_bytes", "Outputs made and not yet taken by a checkpoint."
        )
        self.partitions_discarded = self._counter(
            "partitions_discarded_total",
            "Partition state thrown away and restored: failed commit, fenced, or state error.",
            "reason",
        )
        self.takeovers = self._counter(
            "takeovers_total", "Partitions restored, by what from.", "source"
        )
        self.partitions_standby = self._gauge(
            "partitions_standby", "Partition numbers kept warm for their owners' failure."
        )
        self.standby_lag_records = self._gauge(
            "standby_lag_records", "Changelog records not yet followed, over standby partitions."
        )
        self.standby_catch_ups = self._counter(
            "standby_catch_ups_total", "Looks after which a standby partition lacked nothing."
        )
        self.standby_failures = self._counter(
            "standby_failures_total", "Standby partitions dropped for an error, and begun anew."
        )
        self.restore_rows = self._counter("restore_rows_total", "SKU rows read by restores.")
        self.restore_rows_refused = self._counter(
            "restore_rows_refused_total",
            "Changelog rows that failed their checksum: an earlier one was taken instead.",
        )
        self.restore_duration_seconds = self._histogram(
            "restore_duration_seconds", "From assignment to consuming, one partition."
        )
        self.history_buckets_missing = self._counter(
            "history_buckets_missing_total",
            "Buckets of history that demand-windows no longer held at a restore.",
        )
        for source in TakeoverFrom:
            self.takeovers.labels(source)
        for outcome in ("committed", "failed"):
            self.checkpoints.labels(outcome)

    def _forecaster(self) -> None:
        self.forecast_fallbacks = self._counter(
            "forecast_fallbacks_total", "Forecasts by a plain method, by reason.", "reason"
        )
        self.build = Info(
            "flashcast_build", "Versions at work: flashcast, weights.", registry=self.registry
        )

    def text(self) -> bytes:
        """The registry in Prometheus' text format (`CONTENT_TYPE`)."""
        return generate_latest(self.registry)

    def lag_records(self) -> float:
        """Input records not yet processed, over all topics."""
        return _sum(self.consumer_lag)


def _sum(metric: Gauge) -> float:
    return sum(sample.value for family in metric.collect() for sample in family.samples)
