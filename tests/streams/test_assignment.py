"""Who gets which partitions, and who keeps them warm: what our app has Faust decide."""

import asyncio
import random
from collections.abc import Iterable
from pathlib import Path

import pytest
from aiokafka.cluster import ClusterMetadata
from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata
from aiokafka.protocol.metadata import MetadataResponse_v1
from faust.assignor import PartitionAssignor, partition_assignor

from streams import agents
from streams.agents import build_app, standbys_of
from streams.assignor import Assignor
from streams.settings import load
from streams.topics import INPUT_TOPICS


def cluster_of(partitions: int) -> ClusterMetadata:
    """A broker with every input topic."""
    cluster = ClusterMetadata()
    broker = (0, "127.0.0.1", 9092, None)
    numbers = [(0, number, 0, [0], [0]) for number in range(partitions)]
    topics = [(0, name, False, numbers) for name in INPUT_TOPICS]
    cluster.update_metadata(MetadataResponse_v1([broker], 0, topics))
    return cluster


class Members:
    """Workers of one group; each keeps its own assignor, as a process does."""

    def __init__(self, data_dir: Path, partitions: int, replicas: int) -> None:
        self._settings = load(data_dir=data_dir, standby_replicas=replicas)
        self._cluster = cluster_of(partitions)
        self.assignors: dict[str, PartitionAssignor] = {}

    def join(self, name: str) -> None:
        self.assignors[name] = build_app(self._settings, raw=True).assignor

    def rebalance(self) -> None:
        """One member, whichever, leads."""
        told = {
            name: ConsumerProtocolMemberMetadata.decode(
                assignor.metadata(set(INPUT_TOPICS)).encode()
            )
            for name, assignor in self.assignors.items()
        }
        leader = next(iter(self.assignors.values()))
        for name, assignment in leader.assign(self._cluster, told).items():
            self.assignors[name].on_assignment(assignment)

    def owned(self, name: str) -> set[int]:
        """Its partition numbers, the same of every topic."""
        by_topic = {
            frozenset(tp.partition for tp in self.assignors[name].assigned_actives() if tp[0] == t)
            for t in INPUT_TOPICS
        }
        (numbers,) = by_topic
        return set(numbers)

    def standing_by(self, name: str) -> set[int]:
        return standbys_of(self.assignors[name])


@pytest.mark.parametrize("replicas", [0, 1, 2])
def test_whoever_joins_or_dies_each_partition_has_one_owner_and_as_many_standbys_as_asked(
    tmp_path: Path, replicas: int
) -> None:
    seed = 20 + replicas
    print(f"seed {seed}")
    chance = random.Random(seed)
    partitions = 6
    members = Members(tmp_path, partitions, replicas)
    for step in range(12):
        names = list(members.assignors)
        if len(names) < 2 or (chance.random() < 0.6 and len(names) < 5):
            members.join(f"worker-{step}")
        else:
            del members.assignors[chance.choice(names)]
        members.rebalance()
        names = list(members.assignors)
        everything = [number for name in names for number in members.owned(name)]
        assert sorted(everything) == list(range(partitions))
        kept = [number for name in names for number in members.standing_by(name)]
        copies = min(replicas, len(names) - 1)
        assert sorted(kept) == sorted(list(range(partitions)) * copies)
        assert not any(members.owned(name) & members.standing_by(name) for name in names)


def who_takes_over(members: Members, dead: str) -> Iterable[tuple[int, bool]]:
    """(partition, whether its new owner kept it warm) of all that `dead` owned."""
    warm = {name: members.standing_by(name) for name in members.assignors if name != dead}
    lost = members.owned(dead)
    del members.assignors[dead]
    members.rebalance()
    for name, numbers in warm.items():
        for number in members.owned(name) & lost:
            yield number, number in numbers


@pytest.mark.parametrize(("workers", "replicas"), [(2, 1), (3, 1), (4, 1), (3, 2)])
def test_the_partitions_of_the_dead_go_to_those_that_kept_them_warm(
    tmp_path: Path, workers: int, replicas: int
) -> None:
    members = Members(tmp_path, 12, replicas)
    for number in range(workers):
        members.join(f"worker-{number}")
        members.rebalance()
    taken = list(who_takes_over(members, "worker-1"))
    assert len(taken) == 12 // workers
    assert all(warm for _, warm in taken)


@pytest.mark.parametrize("replicas", [0, 1, 2])
def test_a_joining_worker_gets_its_share(tmp_path: Path, replicas: int) -> None:
    members = Members(tmp_path, 4, replicas)
    for number in range(3):
        members.join(f"worker-{number}")
        members.rebalance()
    assert sorted(len(members.owned(name)) for name in members.assignors) == [1, 1, 2]


@pytest.mark.parametrize("topics", [INPUT_TOPICS[:1], INPUT_TOPICS])
async def test_the_group_is_offered_this_assignor_alone(
    tmp_path: Path, topics: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Faust 0.15.3 offers round-robin for an app without tables and standbys."""
    monkeypatch.setattr(agents, "INPUT_TOPICS", topics)
    app = build_app(load(data_dir=tmp_path, standby_replicas=0), raw=True)
    thread = app.consumer.thread
    consumer = thread._create_consumer(asyncio.get_running_loop())
    await consumer.stop()
    assert consumer._partition_assignment_strategy == [app.assignor]
    assert partition_assignor.CopartitionedAssignor is Assignor
