"""What a worker checks before it joins its group."""

from pathlib import Path

import pytest

from streams.errors import ConfigurationError
from streams.preflight import partition_count, spread
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
