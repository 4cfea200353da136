"""A partition taken over from what a standby kept goes on as one that was restored."""

import random
from dataclasses import replace

import numpy as np
import pytest

from streams import topics
from streams.checkpoint import Checkpoint
from streams.pipeline import Pipeline
from streams.settings import load
from streams.state.changelog import Change, changes
from streams.state.marker import MARKER_KEY
from streams.topics import EVENT_TOPICS
from streams.warm import Warm
from tests.streams.harness import HASH_KEY, NOW_MS, Core, Log, event, nothing_restored

SETTINGS = load(
    clock="event", partitions=1, forecasting=False, deciding=False, dedupe_horizon_records=1_000
)
START_MS = NOW_MS - NOW_MS % 60_000
SKUS = 12


class Standby:
    """A `Warm` that follows a core's logs, some records at a time."""

    def __init__(self, core: Core, chance: random.Random) -> None:
        self.changelog: list[Change] = []
        self._core = core
        self._chance = chance
        self.begin()

    def begin(self) -> None:
        self.warm = Warm(SETTINGS, 0, 1, HASH_KEY)

    def write(self, checkpoint: Checkpoint) -> None:
        self.changelog += changes(checkpoint, [])

    def follow(self, all_of_it: bool = False) -> None:
        """Some way, or to the ends: the changelog, the events behind the marker, the windows."""
        warm, chance = self.warm, self._chance
        while warm.changelog_offset < len(self.changelog):
            begin = warm.changelog_offset
            end = min(begin + chance.randrange(1, 40), len(self.changelog))
            part = [(at, *self.changelog[at]) for at in range(begin, end)]
            warm.follow_changelog(part, end)
            if not all_of_it and chance.random() < 0.05:
                return
        if warm.marker is None:
            return
        for topic in EVENT_TOPICS:
            begin, end = max(0, warm.event_offsets[topic]), warm.marker.offsets[topic]
            while begin < end:
                step = min(begin + chance.randrange(1, 300), end)
                warm.remember(self._core.log.fetch(topic, begin, step))
                begin = step
        windows = self._core.outputs[topics.DEMAND_WINDOWS]
        begin = max(0, warm.windows_offset)
        part = [(at, None, windows[at].value) for at in range(begin, len(windows))]
        warm.follow_windows(part, len(windows))

    def taken_over(self) -> None:
        """The core goes on with what the standby kept, instead of its own."""
        core, warm = self._core, self.warm
        assert warm.marker == core.marker
        warm.settle()
        image = warm.image
        restored = replace(
            nothing_restored(),
            marker=warm.marker,
            names=list(image.rows),
            rows=np.stack([np.frombuffer(row, np.uint8) for row in image.rows.values()]),
            cuts=list(image.cuts.items()),
        )
        core.pipeline = Pipeline(SETTINGS, 0, 1, None, restored, HASH_KEY, warm)
        assert warm.marker is not None
        core.fed = core.fed | {topic: warm.marker.offsets[topic] for topic in EVENT_TOPICS}


def publish(log: Log, chance: random.Random, begin: int, count: int) -> None:
    """Events of a stretch of time; every tenth is one that was sent before."""
    for number in range(begin, begin + count):
        topic = chance.choice(EVENT_TOPICS)
        sent = log.records[topic]
        if sent and chance.random() < 0.1:
            log.add(topic, chance.choice(sent[-400:]))
            continue
        at_ms = START_MS + number * 100 - chance.randrange(8_000)
        quantity = 0 if topic == topics.CLICKS else chance.randrange(1, 4)
        sku = f"SKU-{min(chance.randrange(SKUS), chance.randrange(SKUS))}"
        log.add(topic, event(number, sku, at_ms, quantity=quantity))


def process(core: Core) -> None:
    for topic in EVENT_TOPICS:
        core.feed(topic)
    core.run()


def told(core: Core) -> tuple[list[bytes], list[int]]:
    """Everything emitted, in whatever order, and what became of each event."""
    values = sorted(record.value for several in core.outputs.values() for record in several)
    return values, core.pipeline.windows.counts.ravel().tolist()


@pytest.mark.parametrize("seed", range(6))
def test_a_partition_taken_over_says_the_same_as_one_that_never_failed(seed: int) -> None:
    print(f"seed {seed}")
    chance = random.Random(seed)
    log = Log()
    steady, moved = Core(SETTINGS, log), Core(SETTINGS, log)
    standby = Standby(moved, chance)
    for stretch in range(8):
        publish(log, chance, 600 * stretch, 600)
        for core in (steady, moved):
            process(core)
        steady.checkpoint()
        if chance.random() < 0.7:
            standby.write(moved.checkpoint())
        if chance.random() < 0.7:
            standby.follow()
        if moved.marker is not None and chance.random() < 0.4:
            standby.follow(all_of_it=True)
            standby.taken_over()
            standby.begin()
    process(moved)
    moved.checkpoint()
    assert told(moved) == told(steady)
    rows = steady.pipeline.skus.insert_all([f"SKU-{n}".encode() for n in range(SKUS)])
    rings = steady.pipeline.windows.history.of(rows)
    again = moved.pipeline.skus.insert_all([f"SKU-{n}".encode() for n in range(SKUS)])
    for mine, other in zip(moved.pipeline.windows.history.of(again), rings, strict=True):
        np.testing.assert_array_equal(mine, other)


def test_a_sku_that_left_the_changelog_leaves_its_history_too() -> None:
    core = Core(SETTINGS, Log())
    chance = random.Random(1)
    publish(core.log, chance, 0, 600)
    process(core)
    standby = Standby(core, chance)
    standby.write(core.checkpoint())
    standby.follow(all_of_it=True)
    warm = standby.warm
    before = len(warm.skus)
    standby.changelog += [(b"SKU-0", None), (MARKER_KEY, warm.image.marker)]
    standby.follow(all_of_it=True)
    assert warm.skus.row_of(b"SKU-0") == -1
    assert len(warm.skus) == before - 1
    warm.follow_windows([(0, None, core.outputs[topics.DEMAND_WINDOWS][0].value)], 1)
    warm.settle()
    assert set(warm.image.rows) == {
        warm.skus.name(row) for row in range(warm.skus.size) if warm.skus.name(row)
    }


def test_skus_that_only_the_catalog_knows_are_forgotten_by_the_next_handing_over() -> None:
    """An opening that was cut short had entered them: more than there is history for."""
    warm = Warm(SETTINGS, 0, 1, HASH_KEY)
    warm.skus.insert_all([b"C%d" % number for number in range(3_000)])
    warm.settle()
    assert not (warm.skus.names.length > 0).any()
