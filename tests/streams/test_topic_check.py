from dataclasses import replace

import pytest

from streams import topics
from streams.errors import ConfigurationError
from streams.settings import load
from streams.topic_admin import partitions_wanted
from streams.topic_check import Finding, Found, judge

SETTINGS = load(topic_prefix="shop-")


def as_planned(partitions: int = 4) -> dict[str, Found]:
    return {
        plan.name: Found(
            plan.partitions or partitions, 3, 0, plan.config | {"min.insync.replicas": "2"}
        )
        for plan in topics.plans("shop-")
    }


def spoilt(name: str, **config: str) -> list[Finding]:
    found = as_planned()
    before = found[f"shop-{name}"]
    changes = {key.replace("_", "."): value for key, value in config.items()}
    found[f"shop-{name}"] = replace(before, config={**before.config, **changes})
    return judge(found, SETTINGS)


def test_topics_as_planned_give_no_finding() -> None:
    assert judge(as_planned(), SETTINGS) == []


def test_a_missing_topic_is_a_problem_with_its_remedy() -> None:
    found = as_planned()
    del found["shop-orders"]
    (finding,) = judge(found, SETTINGS)
    assert (finding.level, finding.topic) == ("problem", "shop-orders")
    assert "topics create" in finding.remedy


def test_partition_counts_that_differ_are_named_against_what_most_event_topics_have() -> None:
    found = as_planned(4)
    found["shop-carts"] = replace(found["shop-carts"], partitions=6)
    (finding,) = judge(found, SETTINGS)
    assert finding.topic == "shop-carts"
    assert "6 partitions where the others have 4" in finding.problem
    assert "rekey" in finding.remedy


@pytest.mark.parametrize(
    ("name", "config", "level", "words"),
    [
        ("clicks", {"cleanup_policy": "compact"}, "problem", "all but the last record"),
        ("catalog", {"cleanup_policy": "delete"}, "problem", "would be deleted"),
        ("flashcast-changelog", {"cleanup_policy": "compact,delete"}, "problem", "newest record"),
        ("flashcast-changelog", {"min_compaction_lag_ms": "0"}, "warning", "at_least_once"),
        ("capacity-shares", {"cleanup_policy": "delete"}, "warning", "grows with time"),
        ("demand-windows", {"retention_ms": "3600000"}, "problem", "history"),
        ("demand-windows", {"retention_bytes": "1000000"}, "warning", "retention.bytes"),
        ("orders", {"retention_ms": "3600000"}, "warning", "under a day"),
        ("orders", {"message_timestamp_type": "LogAppendTime"}, "problem", "LogAppendTime"),
        ("demand-windows", {"max_message_bytes": "100000"}, "problem", "900000"),
        ("clicks", {"min_insync_replicas": "3"}, "warning", "one broker away"),
    ],
)
def test_a_setting_that_would_lose_something_is_found(
    name: str, config: dict[str, str], level: str, words: str
) -> None:
    (finding,) = spoilt(name, **config)
    assert (finding.level, finding.topic) == (level, f"shop-{name}")
    assert words in finding.problem
    assert f"--topic shop-{name}" in finding.remedy


def test_retention_for_ever_is_a_day_or_more() -> None:
    assert spoilt("demand-windows", retention_ms="-1") == []


def test_a_partition_without_a_leader_and_a_capacity_topic_in_parts_are_problems() -> None:
    found = as_planned()
    found["shop-clicks"] = replace(found["shop-clicks"], without_leader=1)
    found["shop-capacity-forecasts"] = replace(found["shop-capacity-forecasts"], partitions=4)
    findings = judge(found, SETTINGS)
    assert {one.topic for one in findings} == {"shop-clicks", "shop-capacity-forecasts"}
    assert {one.level for one in findings} == {"problem"}


def test_a_broker_that_describes_no_configuration_is_judged_by_what_it_told() -> None:
    found = {name: replace(one, config={}) for name, one in as_planned().items()}
    assert judge(found, SETTINGS) == []


def test_problems_come_before_warnings() -> None:
    found = as_planned()
    found["shop-clicks"] = replace(found["shop-clicks"], config={"retention.ms": "1"})
    del found["shop-dead-letters"]
    assert [one.level for one in judge(found, SETTINGS)] == ["problem", "warning"]


def test_new_topics_get_as_many_partitions_as_those_that_are_there() -> None:
    assert partitions_wanted({}, SETTINGS) == SETTINGS.partitions
    found = as_planned(12)
    assert partitions_wanted({"shop-orders": found["shop-orders"]}, SETTINGS) == 12
    only_capacity = {"shop-capacity-forecasts": found["shop-capacity-forecasts"]}
    assert partitions_wanted(only_capacity, SETTINGS) == SETTINGS.partitions
    found["shop-carts"] = replace(found["shop-carts"], partitions=3)
    with pytest.raises(ConfigurationError, match="rekey"):
        partitions_wanted(found, SETTINGS)
