"""The event-time clock of one topic partition, and the cuts that move it while it is silent.

    watermark = max(greatest event time - allowed_lateness_ms, cuts)      never moves back

An event is late when it is older than the watermark that the records at smaller offsets made: a
function of the log alone. A cut is the one exception, so it is a record of its own: from
`position` on, everything before `through_ms` is late, whoever reads the log again.
"""

from bisect import insort
from dataclasses import dataclass
from typing import Annotated, Any, Final, Self

import msgspec
from msgspec import Meta

from models.read_back import bounded
from streams.errors import UNREADABLE, StateError
from streams.records import EVENT_TIME_MS_MAX
from streams.state.marker import CUT_KEY_PREFIX, Offset
from streams.topics import EVENT_TOPICS

NEVER_MS: Final = -(2**60)  # before all time; leaves room to subtract
FAR_OFFSET: Final = 2**62
THROUGH_MS_MAX: Final = EVENT_TIME_MS_MAX + 10**9  # an hour's bucket and more beyond any event


class _CutValue(msgspec.Struct, frozen=True):
    topic: str
    position: Offset
    through_ms: Annotated[int, Meta(ge=0, le=THROUGH_MS_MAX)]


# Built here, once: msgspec 0.22 crashes where threads are the first to use a type at the same time.
_CUT_VALUE: Final = msgspec.json.Decoder(_CutValue)


@dataclass(frozen=True, slots=True, order=True)
class Cut:
    """Records of topic EVENT_TOPICS[kind] at `position` or later, before `through_ms`, are late."""

    position: int
    through_ms: int
    kind: int

    @property
    def key(self) -> bytes:
        """Of its changelog record: one a position, since a later cut there reaches further."""
        return CUT_KEY_PREFIX + f"{EVENT_TOPICS[self.kind]}|{self.position}".encode()

    @property
    def value(self) -> bytes:
        """Of its changelog record."""
        return msgspec.json.encode(
            _CutValue(EVENT_TOPICS[self.kind], self.position, self.through_ms)
        )

    @classmethod
    def decode(cls, value: bytes) -> Self:
        """The cut from its changelog record. Raises StateError when it cannot be read."""
        try:
            read = _CUT_VALUE.decode(value)
            return cls(read.position, read.through_ms, EVENT_TOPICS.index(read.topic))
        except (*UNREADABLE, ValueError) as error:
            raise StateError(f"a cut in the changelog cannot be read: {error}") from None


class Watermark:
    """Of one topic partition. `position`: the next offset to judge."""

    def __init__(self, allowed_lateness_ms: int) -> None:
        self._allowed_lateness_ms = allowed_lateness_ms
        # greatest event time judged, no event counting for more than its record's timestamp
        self.max_event_time_ms = NEVER_MS
        self.timestamp_ms = NEVER_MS  # of the record judged last
        self.position = 0
        self.cut_ms = NEVER_MS
        self._cuts_ahead: list[Cut] = []  # by position, all beyond `position`

    @property
    def watermark_ms(self) -> int:
        """No event before it is expected. NEVER_MS until the first record or cut."""
        if self.max_event_time_ms == NEVER_MS:
            return self.cut_ms
        return max(self.max_event_time_ms - self._allowed_lateness_ms, self.cut_ms)

    def reach(self, position: int) -> None:
        """All below `position` is judged: the cuts there begin to count."""
        self.position = max(self.position, position)
        while self._cuts_ahead and self._cuts_ahead[0].position <= self.position:
            self.cut_ms = max(self.cut_ms, self._cuts_ahead.pop(0).through_ms)

    @property
    def next_cut_offset(self) -> int:
        """First offset that a cut not yet reached counts for."""
        return self._cuts_ahead[0].position if self._cuts_ahead else FAR_OFFSET

    def add(self, cut: Cut) -> None:
        """A cut, made now or read back; it counts once its position is reached."""
        insort(self._cuts_ahead, cut)
        self.reach(self.position)

    def meta(self) -> dict[str, Any]:
        """What a marker keeps of it; JSON-able."""
        return {
            "position": self.position,
            "max_event_time_ms": self.max_event_time_ms,
            "timestamp_ms": self.timestamp_ms,
            "cut_ms": self.cut_ms,
        }

    def restore(self, meta: dict[str, Any]) -> None:
        """Take up where `meta` was written. Cuts read back are added after it.

        Raises ValueError for a position, time or timestamp that cannot be.
        """
        position, clock_ms, cut_ms = meta["position"], meta["max_event_time_ms"], meta["cut_ms"]
        if type(position) is not int or not 0 <= position <= FAR_OFFSET:
            raise ValueError(f"position {position!r}")
        self.position = position
        self.max_event_time_ms = required_time_ms(clock_ms)
        # a record's own, of which brokers let any pass; kernels take 64 bits
        self.timestamp_ms = bounded(meta["timestamp_ms"], -(2**63), 2**63 - 1, "timestamp_ms")
        self.cut_ms = required_time_ms(cut_ms)


def required_time_ms(time_ms: Any) -> int:
    """A time of the stream, read back: NEVER_MS, or one that an event or cut can have. Raises
    ValueError.
    """
    if time_ms == NEVER_MS or (type(time_ms) is int and 0 <= time_ms <= THROUGH_MS_MAX):
        return int(time_ms)
    raise ValueError(f"time {time_ms!r}")
