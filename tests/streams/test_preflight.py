"""What a worker checks before it joins its group."""

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from streams.errors import ConfigurationError
from streams.preflight import SAMPLE_RECORDS_MIN, judge_placement, partition_count, spread
from streams.settings import Settings, load
from streams.topics import plans


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load(data_dir=tmp_path, topic_prefix="shop-")


def counts(settings: Settings, **changes: int) -> dict[str, int]:
    made = {
        plan.name: plan.partitions or 6
        for plan in plans(settings.topic_prefix, settings.application)
    }
    return made | {f"shop-{name}": count for name, count in changes.items()}


def test_topics_keyed_by_sku_give_the_number_of_partitions(settings: Settings) -> None:
    assert partition_count(counts(settings), settings) == 6


def test_a_missing_topic_is_named_with_the_remedy(settings: Settings) -> None:
    with pytest.raises(ConfigurationError, match=r"shop-carts; .*flashcast topics create"):
        partition_count(counts(settings, carts=0), settings)


def test_an_odd_number_of_partitions_is_named_with_the_remedy(settings: Settings) -> None:
    with pytest.raises(ConfigurationError, match=r"shop-carts: 5.*flashcast topics rekey"):
        partition_count(counts(settings, carts=5), settings)


@pytest.mark.parametrize(
    ("sizes", "total", "shares"),
    [
        ({"a": 10, "b": 10}, 6, {"a": 3, "b": 3}),
        ({"a": 0, "b": 10, "c": 2}, 9, {"a": 0, "b": 7, "c": 2}),
        ({"a": 2, "b": 2}, 100, {"a": 2, "b": 2}),
        ({}, 5, {}),
    ],
)
def test_a_sample_takes_more_where_others_have_less(
    sizes: dict[str, int], total: int, shares: dict[str, int]
) -> None:
    assert spread(sizes, total) == shares


@pytest.mark.parametrize(("wrong", "warned"), [(0, False), (1, False), (2, True), (25, True)])
def test_a_few_misplaced_records_are_told_and_do_not_stop_a_worker(
    settings: Settings, wrong: int, warned: bool
) -> None:
    with capture_logs() as lines:
        judge_placement(settings, 100 * SAMPLE_RECORDS_MIN, wrong * SAMPLE_RECORDS_MIN, "carts/1")
    assert [line["log_level"] for line in lines] == ["warning"] * warned
    assert not warned or "dead letters; does one producer partition otherwise?" in lines[0]["event"]


def test_what_another_partitioner_misplaces_stops_a_worker(settings: Settings) -> None:
    with pytest.raises(ConfigurationError, match=r"260 of 1000 .*murmur2 \(e\.g\. carts/1.*rekey"):
        judge_placement(settings, 1_000, 260, "carts/1 offset 3")


def test_a_handful_of_records_is_not_judged(settings: Settings) -> None:
    with capture_logs() as lines:
        judge_placement(settings, SAMPLE_RECORDS_MIN - 1, SAMPLE_RECORDS_MIN - 1, "carts/1")
    assert lines == []
