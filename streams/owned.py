"""One partition number in this worker's hands: its pipeline, its emitter, and where its inputs go
on.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from streams.checkpoint import Checkpoint
from streams.codec.decode import Fetch
from streams.emit import Emitter
from streams.pipeline import Pipeline
from streams.topics import EVENT_TOPICS, INPUT_TOPICS

# Of one topic, waiting here or at the broker: buckets then close faster than anyone reads.
CATCH_UP_BYTES: Final = 2**20
CATCH_UP_RECORDS: Final = 10_000
# Of event time. A checkpoint that only spares a restart some work is not begun so shortly before a
# bucket closes: one is in flight at a time, and the bucket's answers would wait for it.
CLOSING_SOON_MS: Final = 1_000
ASTRAY_MS: Final = 5_000  # what was taken of the consumer is here long before


@dataclass
class Owned:
    """`expected` is, by logical topic, the offset at which the next fetch must begin; `committed`
    are the offsets of the last committed marker, empty before the first.

    `pipeline` is touched on the core thread alone; all else on the loop.
    """

    partition: int
    pipeline: Pipeline
    emitter: Emitter
    expected: dict[str, int]
    committed: dict[str, int]
    counted: Counter[tuple[str, ...]] = field(default_factory=Counter)  # already in the metrics
    inbox: deque[Fetch] = field(default_factory=deque)
    inbox_bytes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(INPUT_TOPICS, 0))
    empties: dict[str, int] = field(default_factory=dict)
    lag: dict[str, int] = field(default_factory=dict)  # records at the broker, not yet fetched
    checkpoint: Checkpoint | None = None  # taken, and not yet committed
    commit: asyncio.Task[None] | None = None
    taken_ms: int = 0  # monotonic, of the last checkpoint's copy
    gap: bool = False  # a fetch was missed: go back to `expected`
    astray: dict[str, tuple[int, int]] = field(default_factory=dict)  # (expected, since) by topic
    resumed: bool = False  # fetches stopped for a while: silence says nothing
    broken: Exception | None = None

    def accept(self, fetch: Fetch) -> bool:
        """Take a fetch in if it goes on where the last one ended; what is already here is cut off
        it.

        A fetch of an earlier assignment, or from before a seek, is harmless therefore.
        """
        topic, expected = fetch.topic, self.expected[fetch.topic]
        if fetch.next_offset <= expected:
            return False
        if fetch.first_offset > expected:
            self.gap = True
            return False
        self.inbox.append(replace(fetch, first_offset=expected))
        self.inbox_bytes[topic] += len(fetch.data)
        self.expected[topic] = fetch.next_offset
        self.empties.pop(topic, None)
        return True

    def note_empty(self, topic: str, position: int, monotonic_ms: int) -> None:
        """A fetch was answered with nothing; of an event topic it counts if all before is here.

        What is before and does not come within `ASTRAY_MS` was taken and lost on its way: there is
        a `gap`, which no later fetch may ever show.
        """
        expected = self.expected[topic]
        if position <= expected:
            self.astray.pop(topic, None)
            if topic in EVENT_TOPICS and position == expected:
                self.empties[topic] = position
            return
        at, since_ms = self.astray.get(topic, (-1, 0))
        if at != expected:
            self.astray[topic] = expected, monotonic_ms
        elif monotonic_ms - since_ms > ASTRAY_MS:
            del self.astray[topic]
            self.gap = True

    def take_inbox(self) -> tuple[list[Fetch], dict[str, int]]:
        """What came since the last turn, out of the way of the loop."""
        fetches, empties = list(self.inbox), dict(self.empties)
        self.inbox.clear()
        self.empties.clear()
        self.inbox_bytes = dict.fromkeys(INPUT_TOPICS, 0)
        return fetches, empties

    def deliver(self, fetches: list[Fetch], empties: Mapping[str, int], monotonic_ms: int) -> None:
        """Hand the pipeline what came since the last turn (core thread)."""
        if self.resumed:
            self.resumed = False
            self.pipeline.interrupted()
        for fetch in fetches:
            self.pipeline.offer(fetch)
        for topic, position in empties.items():
            self.pipeline.empty(topic, position, monotonic_ms)

    def waiting_bytes(self, topic: str) -> int:
        """Fetched and not yet processed."""
        return self.inbox_bytes[topic] + self.pipeline.queued_bytes(topic)

    def due(self, monotonic_ms: int, interval_ms: int) -> bool:
        """Whether the next checkpoint should be taken: one is in flight at a time, and a closed
        bucket waits for nothing more, except in a catch-up (core thread).
        """
        if self.checkpoint is not None or not self.pipeline.pending:
            return False
        since_ms = monotonic_ms - self.taken_ms
        if since_ms >= 2 * interval_ms or self.pipeline.full:
            return True
        if self.catching_up():
            return since_ms >= interval_ms
        if self.pipeline.closing_pending:
            return True
        if self.pipeline.origin_waits:
            return False  # what is decided would need a second one, behind that of its windows
        return since_ms >= interval_ms and self.pipeline.closes_in_ms > CLOSING_SOON_MS

    def catching_up(self) -> bool:
        """Whether much waits to be processed (core thread)."""
        return any(
            self.waiting_bytes(topic) >= CATCH_UP_BYTES
            or self.lag.get(topic, 0) >= CATCH_UP_RECORDS
            for topic in EVENT_TOPICS
        )
