"""What a worker may have known of the shop's products at each moment of a run, worked out plainly.

A checkpoint's marker says how far the reference topics were read. What was decided between two
markers was decided with what the shop had said at some position between theirs: mostly there is but
one, and where there are several, each is a candidate.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from streams.faults.shop import Told

ORDERS_REMEMBERED: Final = 6  # of a SKU; the two oldest of more become one
TOPICS: Final = ("catalog", "stock-levels", "competitor-prices")

PlacedTold = dict[tuple[str, int], list[tuple[int, Told]]]  # by log: offset, record
Marker = Mapping[str, Any]
Fields = Mapping[str, Any]
Spans = Mapping[str, tuple[int, int]]  # by topic: lowest and highest position


class Shelf:
    """Of one partition number, given its markers in the order in which they became durable."""

    def __init__(self, told: PlacedTold, partition: int, markers: Sequence[Marker]) -> None:
        self._markers = markers
        self._said: dict[tuple[str, str], list[tuple[int, Fields | None]]] = {}
        self._first = dict.fromkeys(TOPICS, 0)  # positions when the first worker began
        for topic in TOPICS:
            for offset, one in told.get((topic, partition), []):
                if not one.at_s:
                    self._first[topic] = offset + 1
                if one.reason is None:
                    said = self._said.setdefault((topic, one.key.decode()), [])
                    said.append((offset, one.fields))

    def when(self, done: Callable[[Marker], bool]) -> Spans:
        """Where the reference topics may have been read to, in the checkpoint that was the first
        to have something done.
        """
        before: Mapping[str, int] = self._first
        for marker in self._markers:
            now = marker["offsets"]
            if done(marker):
                return {topic: (max(before[topic], self._first[topic]), now[topic])
                        for topic in TOPICS}  # fmt: skip
            before = now
        raise AssertionError("something was published that no marker covers")

    def last_entry(self, sku: str) -> Fields | None:
        """Of the catalog: what does not change in a run can be had from it."""
        said = self._said.get(("catalog", sku))
        return said[-1][1] if said else None

    def known(self, topic: str, sku: str, spans: Spans) -> list[Fields | None]:
        """All that may have been in force; None: the shop had said nothing yet."""
        low, high = spans[topic]
        state: Fields | None = None
        found: list[Fields | None] = []
        for offset, fields in self._said.get((topic, sku), []):
            if offset >= high:
                break
            if offset >= low and state not in found:
                found.append(state)
            if state is None or fields is None or not _older(fields, state):
                state = fields
        return found if state in found else [*found, state]


def _older(fields: Fields, state: Fields) -> bool:
    """Whether it says of an earlier time than what is known; the catalog speaks of none."""
    older: bool = fields.get("as_of_ms", 0) < state.get("as_of_ms", 0)
    return older


def sold_since(closed: Mapping[int, int], as_of_ms: int, bucket_ms: int) -> int:
    """Units of closed buckets, by their starts, whose middle is not before a count."""
    return sum(units for start_ms, units in closed.items() if start_ms + bucket_ms // 2 >= as_of_ms)


def on_hand(stock: Fields | None, closed: Mapping[int, int], bucket_ms: int) -> int:
    """Units left on the shelf, at least 0; 0 where no count is known."""
    if stock is None:
        return 0
    left: int = stock["on_hand"] - sold_since(closed, stock["as_of_ms"], bucket_ms)
    return max(left, 0)


def add_order(ordered: list[tuple[int, int]], at_ms: int, units: int) -> None:
    """One more restock in front of those of a SKU, each (origin, units)."""
    ordered.insert(0, (at_ms, units))
    if len(ordered) > ORDERS_REMEMBERED:
        (_, oldest), (origin_ms, older) = ordered.pop(), ordered.pop()
        ordered.append((origin_ms, older + oldest))
