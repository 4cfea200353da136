"""The worker's metrics, from what its partitions say of themselves. Runs on the core thread."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from streams.monitor import Monitor
from streams.monitor import Verdict as Outcome
from streams.owned import Owned
from streams.pipeline import Pipeline
from streams.topics import EVENT_TOPICS, INPUT_TOPICS
from streams.windows import Verdict

Totals = Counter[tuple[str, ...]]

_OUTCOMES: Final = {
    Verdict.APPLIED: Outcome.APPLIED,
    Verdict.DUPLICATE: Outcome.DUPLICATE,
    Verdict.STAMPED: Outcome.STAMPED,
    Verdict.LATE: Outcome.LATE,
}
_KINDS: Final = {"forecast": "forecast", "restock": "restock", "price_change": "price"}


def totals(pipeline: Pipeline) -> Totals:
    """Everything the partition has counted since its state began."""
    counted = Counter(pipeline.counts)
    for kind, topic in enumerate(EVENT_TOPICS):
        for verdict, outcome in _OUTCOMES.items():
            counted["event", topic, outcome] = int(pipeline.windows.counts[kind, verdict])
    for name, count in pipeline.decider.counts.items():
        counted["decision", name] = count
    return counted


def report(
    monitor: Monitor,
    several: Sequence[Owned],
    lag: Mapping[tuple[str, int], int],
    monotonic_ms: int,
    now_ms: int,
) -> None:
    """Set every gauge, and move every counter by what happened since the last report."""
    monitor.partitions_ready.set(len(several))
    for topic in INPUT_TOPICS:
        waiting = sum(owned.waiting_bytes(topic) for owned in several)
        behind = sum(count for (name, _), count in lag.items() if name == topic)
        monitor.queue_bytes.labels(topic).set(waiting)
        monitor.consumer_lag.labels(topic).set(behind)
    monitor.outputs_waiting_bytes.set(sum(owned.pipeline.outputs_bytes for owned in several))
    monitor.skus_tracked.set(sum(len(owned.pipeline.skus) for owned in several))
    waits = [monotonic_ms - owned.taken_ms for owned in several if owned.pipeline.pending]
    monitor.checkpoint_age_seconds.set(max(waits, default=0) / 1_000)
    marks = [mark for owned in several if (mark := owned.pipeline.watermark_ms) > 0]
    monitor.watermark_delay_seconds.set(max(0, now_ms - min(marks)) / 1_000 if marks else 0)
    for owned in several:
        counted = totals(owned.pipeline)
        _count(monitor, {key: count - owned.counted[key] for key, count in counted.items()})
        owned.counted = counted


def _count(monitor: Monitor, steps: Mapping[tuple[str, ...], int]) -> None:
    for key, step in steps.items():
        if step <= 0:
            continue
        match key:
            case ("event", topic, outcome):
                monitor.events.labels(topic, outcome).inc(step)
            case ("dead_letter", topic, reason):
                monitor.events.labels(topic, Outcome.DEAD_LETTER).inc(step)
                monitor.dead_letters.labels(topic, reason).inc(step)
            case ("unknown_fields", topic):
                monitor.unknown_fields.labels(topic).inc(step)
            case ("closed_buckets",):
                monitor.buckets_closed.inc(step)
            case ("skus_released",):
                monitor.skus_released.inc(step)
            case ("windows",):
                monitor.demand_windows.inc(step)
            case ("decision", name):
                _count_decision(monitor, name, step)


def _count_decision(monitor: Monitor, name: str, step: int) -> None:
    counters = {
        "forecast": monitor.forecasts,
        "restock": monitor.restocks,
        "price_change": monitor.price_changes,
    }
    what, _, rest = name.partition("_")
    if name in counters:
        counters[name].inc(step)
    elif name == "fallback":
        monitor.forecast_fallbacks.labels("cold_or_failed").inc(step)
    elif what == "expired":
        monitor.expired_decisions.labels(_KINDS.get(rest, rest)).inc(step)
    elif what == "withheld":
        monitor.withheld_decisions.labels("restock", rest).inc(step)
