import itertools
from pathlib import Path

import pytest

from streams import topics
from streams.acls import ROLES, Grant, commands, grants, table
from streams.settings import load

ROOT = Path(__file__).resolve().parents[2]


def test_the_table_in_the_docs_is_the_one_of_the_code() -> None:
    assert table() in (ROOT / "deploy" / "acls.md").read_text()


def test_a_worker_reads_its_inputs_and_writes_its_outputs_and_no_more() -> None:
    settings = load(topic_prefix="shop.", application="sale")
    by_name = {one.name: one for one in grants("worker", settings)}
    for name in topics.INPUT_TOPICS:
        assert by_name[f"shop.{name}"].operations == ("Read",)
    for name in (*topics.OUTPUT_TOPICS, *topics.INTERNAL_TOPICS):
        assert "Write" in by_name[settings.topic(name)].operations
    assert by_name["shop.sale"] == Grant("group", "shop.sale", ("Read",))
    assert by_name["shop.sale-"] == Grant("transactional-id", "shop.sale-", ("Write",), True)


def test_without_transactions_no_transactional_id_is_granted() -> None:
    settings = load(processing_guarantee="at_least_once")
    assert not [one for one in grants("worker", settings) if one.kind == "transactional-id"]


@pytest.mark.parametrize("role", set(ROLES) - {"admin", "worker", "shop"})
def test_who_only_looks_writes_nothing(role: str) -> None:
    assert {one.operations for one in grants(role, load())} == {("Read",)}  # type: ignore[arg-type]


def test_commands_name_every_resource_once() -> None:
    several = grants("worker", load())
    lines = commands(several, "User:w")
    assert all("--allow-principal 'User:w'" in line for line in lines)
    words = " ".join(lines).split()
    for one in several:
        pairs = itertools.pairwise(words)
        assert sum(pair == (f"--{one.kind}", one.name) for pair in pairs) == 1
    assert sum("--resource-pattern-type prefixed" in line for line in lines) == 1
