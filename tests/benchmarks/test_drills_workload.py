"""What a drill's workload says of its own events is what the contract says of them."""

import itertools
from collections import Counter

import pytest

from benchmarks.drills.independent.log import Log, Record, Rules
from benchmarks.drills.independent.windows import State, implied
from benchmarks.drills.workload import Workload

WALL_MS = 1_790_000_000_000
COUNT = 30_000


@pytest.mark.parametrize("seed", [1, 2])
def test_every_event_becomes_what_it_was_meant_to_become(seed: int) -> None:
    print(f"seed {seed}")
    work = Workload(duplicate_share=0.1, late_share=0.05, future_share=0.02)
    rules = Rules("", "shop", work.partitions, exactly_once=True, forecasting=False)
    log, truth = Log(), {}
    events = itertools.islice(work.events(seed), COUNT)
    for event in (*events, *work.last_events(COUNT)):
        lane = log.records.setdefault((event.topic, event.partition), [])
        truth[event.topic, event.partition, len(lane)] = event.truth
        lane.append(Record(len(lane), WALL_MS, event.key, event.value, {}))
    verdicts = {}
    for partition in range(work.partitions):
        verdicts |= implied(log, partition, State(), rules).verdicts
    assert verdicts == truth
    assert min(Counter(truth.values()).values()) > 300


def test_the_same_seed_gives_the_same_events() -> None:
    def first(seed: int) -> list[object]:
        return list(itertools.islice(Workload().events(seed), 1_000))

    assert first(3) == first(3)
    assert first(3) != first(4)
