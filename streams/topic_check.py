"""Whether topics are as flashcast needs them: what was found against the plan. Pure.

A `problem` loses events or breaks a promise; a `warning` does so only when something else fails.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from streams.denied import unseen
from streams.settings import Settings
from streams.topics import (
    CAPACITY_FORECASTS,
    CHANGELOG,
    COMPACTION_LAG_MS,
    DAY_MS,
    DEMAND_WINDOWS,
    EVENT_TOPICS,
    INTERNAL_TOPICS,
    OUTPUT_TOPICS,
    REFERENCE_TOPICS,
    plans,
)

MESSAGE_BYTES_MIN: Final = 1_000_000  # our batches are up to 900,000 bytes
WRITTEN_TOPICS: Final = (*OUTPUT_TOPICS, *INTERNAL_TOPICS)

Level = Literal["problem", "warning"]


@dataclass(frozen=True, slots=True)
class Found:
    """One topic as the broker describes it. `config` holds what the broker told, by name."""

    partitions: int
    replication: int
    without_leader: int
    config: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with a topic, and what to do about it."""

    level: Level
    topic: str
    problem: str
    remedy: str


def judge(found: Mapping[str, Found], settings: Settings) -> list[Finding]:
    """Every finding, problems first. `found` maps broker names to topics that exist."""
    findings: list[Finding] = []
    for plan in plans(settings.topic_prefix, settings.application):
        name = plan.logical
        topic = found.get(plan.name)
        if topic is None:
            said = f"is {unseen(settings)}"
            findings.append(Finding("problem", plan.name, said, "flashcast topics create"))
            continue
        findings += _reachable(plan.name, topic)
        findings += _cleanup(name, plan.name, topic)
        findings += _retention(name, plan.name, topic)
        findings += _messages(name, plan.name, topic)
    findings += _partitions(found, settings)
    return sorted(findings, key=lambda one: one.level != "problem")


def _alter(topic: str, *changes: str) -> str:
    return f"kafka-configs --alter --topic {topic} --add-config {','.join(changes)}"


def _partitions(found: Mapping[str, Found], settings: Settings) -> list[Finding]:
    """Topics keyed by SKU must agree, or a SKU's clicks and orders meet in no worker."""
    keyed = {
        settings.topic(name): found[settings.topic(name)].partitions
        for name in (*EVENT_TOPICS, *REFERENCE_TOPICS, *WRITTEN_TOPICS)
        if settings.topic(name) in found and name != CAPACITY_FORECASTS
    }
    findings = []
    if len(set(keyed.values())) > 1:
        wanted = _agreed(keyed, settings)
        for name, partitions in keyed.items():
            if partitions != wanted:
                findings.append(
                    Finding(
                        "problem",
                        name,
                        f"has {partitions} partitions where the others have {wanted}",
                        "flashcast topics rekey copies the inputs into topics that agree; an "
                        "output without readers yet can be deleted and created anew",
                    )
                )
    capacity = found.get(settings.topic(CAPACITY_FORECASTS))
    if capacity is not None and capacity.partitions != 1:
        findings.append(
            Finding(
                "problem",
                settings.topic(CAPACITY_FORECASTS),
                f"has {capacity.partitions} partitions: only the first is written and read",
                "delete it and run flashcast topics create",
            )
        )
    return findings


def _agreed(keyed: Mapping[str, int], settings: Settings) -> int:
    """The count that most event topics have; what most of all have if there are none."""
    events = [keyed[settings.topic(one)] for one in EVENT_TOPICS if settings.topic(one) in keyed]
    counts: Sequence[int] = events or list(keyed.values())
    return max(set(counts), key=lambda one: (counts.count(one), one))


def _reachable(topic: str, found: Found) -> list[Finding]:
    findings = []
    if found.without_leader:
        findings.append(
            Finding(
                "problem",
                topic,
                f"{found.without_leader} of {found.partitions} partitions have no leader",
                "bring the brokers that hold them back",
            )
        )
    in_sync = found.config.get("min.insync.replicas", "1")
    if found.replication > 1 and int(in_sync) >= found.replication:
        findings.append(
            Finding(
                "warning",
                topic,
                f"min.insync.replicas {in_sync} of {found.replication} replicas: one broker "
                "away and nothing can be written",
                _alter(topic, f"min.insync.replicas={found.replication - 1}"),
            )
        )
    return findings


def _cleanup(name: str, topic: str, found: Found) -> list[Finding]:
    policy = found.config.get("cleanup.policy")
    if policy is None:
        return []
    compacted = "compact" in policy
    if name in REFERENCE_TOPICS or name == CHANGELOG:
        if policy != "compact":
            said = f"cleanup.policy is {policy}: the newest record of a SKU would be deleted"
            return [Finding("problem", topic, said, _alter(topic, "cleanup.policy=compact"))]
        lag_ms = int(found.config.get("min.compaction.lag.ms", COMPACTION_LAG_MS))
        if name == CHANGELOG and lag_ms < COMPACTION_LAG_MS:
            said = (
                f"min.compaction.lag.ms is {lag_ms}: under at_least_once the row of a checkpoint "
                "that is never finished may cost the one before it"
            )
            remedy = _alter(topic, f"min.compaction.lag.ms={COMPACTION_LAG_MS}")
            return [Finding("warning", topic, said, remedy)]
    elif name in (CAPACITY_FORECASTS, *INTERNAL_TOPICS):
        if not compacted:
            said = f"cleanup.policy is {policy}: it grows with time instead of with keys"
            remedy = _alter(topic, "cleanup.policy=[compact,delete]")
            return [Finding("warning", topic, said, remedy)]
    elif compacted:
        said = f"cleanup.policy is {policy}: all but the last record of a SKU would be deleted"
        return [Finding("problem", topic, said, _alter(topic, "cleanup.policy=delete"))]
    return []


def _retention(name: str, topic: str, found: Found) -> list[Finding]:
    findings = []
    retention_ms = int(found.config.get("retention.ms", -1))
    deletes = "delete" in found.config.get("cleanup.policy", "delete")
    if name in (DEMAND_WINDOWS, *EVENT_TOPICS) and deletes and 0 <= retention_ms < DAY_MS:
        why = (
            "the history that forecasts are restored from"
            if name == DEMAND_WINDOWS
            else "events that a worker away for that long has not read"
        )
        level: Level = "problem" if name == DEMAND_WINDOWS else "warning"
        said = f"retention.ms is {retention_ms}, under a day: it would delete {why}"
        findings.append(Finding(level, topic, said, _alter(topic, f"retention.ms={7 * DAY_MS}")))
    retention_bytes = int(found.config.get("retention.bytes", -1))
    if name in (DEMAND_WINDOWS, *EVENT_TOPICS) and deletes and retention_bytes >= 0:
        said = f"retention.bytes is {retention_bytes} a partition: a busy hour may cut it short"
        findings.append(Finding("warning", topic, said, _alter(topic, "retention.bytes=-1")))
    return findings


def _messages(name: str, topic: str, found: Found) -> list[Finding]:
    findings = []
    kind = found.config.get("message.timestamp.type", "CreateTime")
    if kind != "CreateTime":
        findings.append(
            Finding(
                "problem",
                topic,
                f"message.timestamp.type is {kind}: an event's lateness and its being in the "
                "future are judged by its producer's clock",
                _alter(topic, "message.timestamp.type=CreateTime"),
            )
        )
    bytes_max = int(found.config.get("max.message.bytes", 2**20))
    if name in WRITTEN_TOPICS and bytes_max < MESSAGE_BYTES_MIN:
        findings.append(
            Finding(
                "problem",
                topic,
                f"max.message.bytes is {bytes_max}: flashcast writes batches of up to 900000",
                _alter(topic, f"max.message.bytes={2**20 + 12}"),
            )
        )
    return findings
