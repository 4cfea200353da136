"""The queues of one partition: fetches as they came, taken a slice at a time."""

from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from streams.codec.decode import START, Decoder, Fetch, Original, Position, Refusal
from streams.errors import Reason


class FetchQueue:
    """Fetches of one topic partition, in order. `next_offset`: all below is processed."""

    def __init__(self, topic: str, next_offset: int) -> None:
        self.topic = topic
        self.next_offset = next_offset
        self.queued_bytes = 0
        self._fetches: deque[Fetch] = deque()

    def add(self, fetch: Fetch) -> None:
        """One more fetch; it must go on where the last one ended."""
        self._fetches.append(fetch)
        self.queued_bytes += len(fetch.data)

    def pop(self) -> Fetch | None:
        """The oldest fetch, or None."""
        if not self._fetches:
            return None
        fetch = self._fetches.popleft()
        self.queued_bytes -= len(fetch.data)
        return fetch

    def __bool__(self) -> bool:
        return bool(self._fetches)


class EventInput(FetchQueue):
    """One event topic, a slice of columns at a time; `begin` is the first not yet applied."""

    def __init__(self, topic: str, kind: int, next_offset: int, decoder: Decoder) -> None:
        super().__init__(topic, next_offset)
        self.kind = kind
        self.decoder = decoder
        self.begin = 0
        self._refusals: deque[Refusal] = deque()
        self._fetch: Fetch | None = None
        self._data: NDArray[np.uint8] = np.zeros(0, np.uint8)
        self._position: Position | None = None

    @property
    def data(self) -> NDArray[np.uint8]:
        """The bytes that the columns point into."""
        return self._data

    @property
    def ready(self) -> bool:
        """Whether anything is waiting here."""
        return self.begin < self.decoder.columns.n or self._position is not None or bool(self)

    def load(self) -> bool:
        """Decode the next slice, unless one is not applied yet. False when there is none.

        True may come with no events, from a fetch of nothing but compacted or skipped records.
        """
        if self.begin < self.decoder.columns.n:
            return False
        if self._position is None:
            fetch = self.pop()
            if fetch is None:
                return False
            self._fetch = fetch
            self._data = np.frombuffer(fetch.data, np.uint8)
            self._position = START
        assert self._fetch is not None
        self._position, refusals = self.decoder.decode(
            self._data, self.kind, max(self._fetch.first_offset, self.next_offset), self._position
        )
        self._refusals = deque(self._explained(one) for one in refusals)
        self.begin = 0
        self._move_offset()
        return True

    def _explained(self, refusal: Refusal) -> Refusal:
        """A record that stands for an unreadable batch is refused as that, not as what it is."""
        assert self._fetch is not None
        offset = int(self.decoder.columns.offset[refusal.index])
        why = self._fetch.unreadable.get(offset)
        return refusal if why is None else Refusal(refusal.index, Reason.BATCH_UNREADABLE, why)

    def refuse(self, indexes: Sequence[int], reason: Reason, detail: str) -> None:
        """Refuse further records of the current slice, for a reason the decoder cannot know."""
        if indexes:
            more = [Refusal(index, reason, detail) for index in indexes]
            self._refusals = deque(sorted([*self._refusals, *more], key=lambda one: one.index))

    def advance(self, end: int) -> Iterator[Refusal]:
        """Events [begin, end) are applied; yields the refusals among them."""
        self.begin = end
        while self._refusals and self._refusals[0].index < end:
            yield self._refusals.popleft()
        self._move_offset()

    def original(self, index: int) -> Original:
        """A record of the current slice as it came."""
        return self.decoder.original(self._data, index)

    def _move_offset(self) -> None:
        columns = self.decoder.columns
        if self.begin < columns.n:
            self.next_offset = int(columns.offset[self.begin])
        elif self._position is None and self._fetch is not None:
            self.next_offset = max(self.next_offset, self._fetch.next_offset)
        elif columns.n:
            self.next_offset = int(columns.offset[columns.n - 1]) + 1
