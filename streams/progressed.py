"""What the worker of one partition has made durable, as `reconcile` must take it as given: the last
marker, the cuts, and the dead letters of SKUs that were not admitted.
"""

from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from streams.errors import NOT_ADMITTED
from streams.log_reader import LogReader
from streams.settings import Settings
from streams.state import marker as markers
from streams.state.changelog import cut_place
from streams.state.marker import CUT_KEY_PREFIX, MARKER_KEY, Marker
from streams.topics import CHANGELOG, DEAD_LETTERS, EVENT_TOPICS


@dataclass
class Progressed:
    """As far as changelog and dead letters were read."""

    marker: Marker | None = None
    cuts: dict[tuple[str, int], int] = field(default_factory=dict)  # (topic, position) -> through
    # by topic, the reasons by offset
    not_admitted: dict[str, dict[int, str]] = field(
        default_factory=lambda: {topic: {} for topic in EVENT_TOPICS}
    )
    changelog_to: int = 0
    dead_letters_to: int = 0

    @property
    def closed_through_ms(self) -> int:
        return int(self.marker.core["windows"]["closed_through_ms"]) if self.marker else 0

    def offset(self, topic: str) -> int:
        return self.marker.offsets.get(topic, 0) if self.marker else 0

    async def read_changelog(self, reader: LogReader, partition: int) -> None:
        """Read on to its present end."""
        begin, end = await reader.bounds(CHANGELOG, partition)
        begin = max(begin, self.changelog_to)
        async for records in reader.read(CHANGELOG, partition, begin, end):
            for record in records:
                if record.key == MARKER_KEY and record.value is not None:
                    self.marker = markers.decode(record.value)
                elif record.key and record.key.startswith(CUT_KEY_PREFIX) and record.value:
                    self.cuts[cut_place(record.key)] = _through_ms(record.value)
        self.changelog_to = max(end, self.changelog_to)

    async def read_not_admitted(
        self, reader: LogReader, settings: Settings, partition: int
    ) -> None:
        """Read on to the dead letters' present end: that of the marker, which was read before, or
        later.
        """
        logical = {settings.topic(topic): topic for topic in EVENT_TOPICS}
        begin, end = await reader.bounds(DEAD_LETTERS, partition)
        begin = max(begin, self.dead_letters_to)
        async for records in reader.read(DEAD_LETTERS, partition, begin, end):
            for record in records:
                refused = _head(record.value)
                if refused is not None and refused.topic in logical:
                    self.not_admitted[logical[refused.topic]][refused.offset] = refused.reason
        self.dead_letters_to = max(end, self.dead_letters_to)


class _Head(msgspec.Struct, frozen=True):
    """As much of a dead letter as says whose it is."""

    topic: str
    offset: int
    reason: str


# Built here, once: msgspec 0.22 crashes where threads are the first to use a type at the same time.
_HEAD: Final = msgspec.json.Decoder(_Head)


def _head(value: bytes | None) -> _Head | None:
    """None unless the dead letter is of a record whose SKU was not admitted."""
    try:
        head = _HEAD.decode(value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None  # the comparison will say so
    return head if head.reason in NOT_ADMITTED else None


def _through_ms(value: bytes) -> int:
    """A cut's value: up to which event time buckets were closed."""
    fields: dict[str, Any] = msgspec.json.decode(value)
    return int(fields["through_ms"])
