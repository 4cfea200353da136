"""Shares are even, little moves, and what the dead owned goes to those that kept it warm."""

from collections.abc import Sequence

import numpy as np
import pytest
from faust.assignor.client_assignment import CopartitionedAssignment
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from streams.assignor import Assignor, matched, owners_of

TOPICS = {"clicks", "orders"}
CLIENTS_MAX = 8

Layout = dict[str, tuple[set[int], set[int]]]  # actives and standbys of each client


def assigned(before: Layout, partitions: int, replicas: int) -> Layout:
    told = {
        name: CopartitionedAssignment(set(actives), set(standbys), TOPICS)
        for name, (actives, standbys) in before.items()
    }
    after = Assignor(TOPICS, told, partitions, replicas).get_assignment()
    return {name: (after[name].actives, after[name].standbys) for name in after}


def check(layout: Layout, partitions: int, replicas: int) -> None:
    """One owner of each partition, even shares, and as many standbys as asked, at others."""
    numbers = list(range(partitions))
    assert sorted(n for actives, _ in layout.values() for n in actives) == numbers
    shares = [len(actives) for actives, _ in layout.values()]
    assert max(shares) - min(shares) <= 1
    copies = min(replicas, len(layout) - 1)
    assert sorted(n for _, kept in layout.values() for n in kept) == sorted(numbers * copies)
    assert all(actives.isdisjoint(standbys) for actives, standbys in layout.values())


def staying(before: Layout, after: Layout) -> int:
    return sum(len(actives & before[name][0]) for name, (actives, _) in after.items())


def most_that_can_stay(before: Layout, partitions: int) -> int:
    floor, above = divmod(partitions, len(before))
    larger = sum(len(actives) > floor for actives, _ in before.values())
    return sum(min(len(actives), floor) for actives, _ in before.values()) + min(larger, above)


def check_each_death(layout: Layout, partitions: int, replicas: int) -> None:
    for dead, (lost, _) in layout.items():
        left = {name: held for name, held in layout.items() if name != dead}
        after = assigned(left, partitions, replicas)
        for name, (actives, _) in after.items():
            assert left[name][0] <= actives
            assert actives - left[name][0] <= left[name][1] & lost, (layout, dead, after)


lives = st.lists(st.none() | st.integers(0, CLIENTS_MAX - 1), min_size=1, max_size=14)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(partitions=st.integers(1, 24), replicas=st.integers(0, 2), steps=lives)
def test_whoever_joins_or_dies_shares_are_even_and_any_of_them_can_die_next(
    partitions: int, replicas: int, steps: Sequence[int | None]
) -> None:
    """A step is the death of one client, or a join where it is None or the last one would die."""
    layout: Layout = {}
    for number, step in enumerate(steps):
        before = dict(layout)
        if (step is None or len(layout) < 2) and len(layout) < CLIENTS_MAX:
            before[f"{number * 5 % 7}-{number}"] = (set(), set())  # no order of age
        else:
            del before[sorted(before)[(step or 0) % len(before)]]
        layout = assigned(before, partitions, replicas)
        check(layout, partitions, replicas)
        assert staying(before, layout) == most_that_can_stay(before, partitions)
        assert assigned(layout, partitions, replicas) == layout
        assert assigned(dict(reversed(before.items())), partitions, replicas) == layout
        if replicas and len(layout) > 1:
            check_each_death(layout, partitions, replicas)


claims = st.sets(st.integers(0, 30))


@settings(derandomize=True, deadline=None, max_examples=100)
@given(
    partitions=st.integers(1, 24),
    replicas=st.integers(0, 2),
    claimed=st.lists(st.tuples(claims, claims), min_size=1, max_size=CLIENTS_MAX),
)
def test_whatever_members_claim_of_which_an_older_version_or_a_zombie_may_be_one(
    partitions: int, replicas: int, claimed: Sequence[tuple[set[int], set[int]]]
) -> None:
    """Several claims of one partition, claims of some that do not exist, shares of any size."""
    before = {f"worker-{number}": held for number, held in enumerate(claimed)}
    layout = assigned(before, partitions, replicas)
    check(layout, partitions, replicas)
    assert assigned(layout, partitions, replicas) == layout
    if replicas and len(layout) > 1:
        check_each_death(layout, partitions, replicas)


def test_a_partition_that_two_keep_warm_leaves_the_room_to_one_that_has_no_other() -> None:
    actives = {"a": {2}, "b": {3}}
    assert owners_of(4, actives, {"a": {0, 1}, "b": {0}}) == ["b", "a", "a", "b"]
    assert owners_of(4, actives, {"a": {0}, "b": {0, 1}}) == ["a", "b", "a", "b"]


def test_who_has_too_many_gives_up_what_others_with_room_keep_warm() -> None:
    actives = {"a": {0, 1, 2, 3}, "b": {4}, "c": {5}}
    standbys = {"a": {4, 5}, "b": {1, 2}, "c": {2}}
    assert owners_of(6, actives, standbys) == ["a", "b", "c", "a", "b", "c"]


@pytest.mark.parametrize(("partitions", "clients"), [(6, 3), (8, 4), (12, 4), (24, 6), (24, 8)])
def test_workers_that_come_one_after_the_other_keep_equally_many_warm(
    partitions: int, clients: int
) -> None:
    layout: Layout = {}
    for number in range(clients):
        layout = assigned({**layout, f"worker-{number}": (set(), set())}, partitions, 1)
    assert {len(kept) for _, kept in layout.values()} == {partitions // clients}


def test_after_a_death_standbys_stay_that_can() -> None:
    layout: Layout = {}
    for number in range(4):
        layout = assigned({**layout, f"worker-{number}": (set(), set())}, 12, 1)
    left = {name: held for name, held in layout.items() if name != "worker-1"}
    after = assigned(left, 12, 1)
    begun = {name: kept - left[name][1] for name, (_, kept) in after.items()}
    promoted_or_lost = layout["worker-1"][0] | layout["worker-1"][1]
    assert sum(map(len, begun.values())) == len(promoted_or_lost)


@settings(derandomize=True, deadline=None)
@given(
    rows=st.integers(0, 7),
    more=st.integers(0, 4),
    most=st.sampled_from([1, 10, 10**12]),
    seed=st.integers(0, 10_000),
)
def test_no_other_choice_of_columns_costs_less(rows: int, more: int, most: int, seed: int) -> None:
    costs = np.random.default_rng(seed).integers(0, most, (rows, rows + more), endpoint=True)
    columns = matched(costs)
    assert len(set(columns)) == rows
    least = costs[linear_sum_assignment(costs)].sum()
    assert costs[range(rows), columns].sum() == least
