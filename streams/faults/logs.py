"""Logs of topic partitions as a broker keeps them: record batches, producers, transactions.

    start        last stable offset (LSO)            end
      | committed, aborted and plain batches | open transactions and what lies among them |

Bytes go in as producers send them and come out as consumers fetch them, control batches and aborted
records included; what a reader may see is for the reader to work out, as on Kafka.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from aiokafka.errors import (
    InvalidProducerEpoch,
    OffsetOutOfRangeError,
    OutOfOrderSequenceNumber,
)

from streams.codec import plain
from streams.codec.batches import iter_records
from streams.codec.compression import decompressed
from streams.codec.plain import Record
from streams.codec.write import encode_records, framed
from streams.fetch_seam import pack

SEQUENCES_KEPT: Final = 5  # of one producer, by which a batch sent again is recognised
_MARKER_KEYS: Final = {False: b"\x00\x00\x00\x00", True: b"\x00\x00\x00\x01"}
_CONTROL: Final = plain.TRANSACTIONAL | plain.CONTROL

Aborted = tuple[int, int]  # producer id, first offset


@dataclass(slots=True)
class Stored:
    """One batch in a log."""

    base: int
    last: int
    data: bytes
    producer_id: int = -1
    transactional: bool = False
    control: bool = False

    def records(self) -> Iterator[Record]:
        batch = plain.batch_at(self.data, 0)
        assert batch is not None
        if not batch.attributes & plain.CODEC_MASK:
            return plain.records_of(self.data, batch)
        return iter_records(decompressed(memoryview(self.data), batch))


@dataclass(slots=True)
class Known:
    """What a log remembers of a producer."""

    epoch: int
    sent: list[tuple[int, int, int]] = field(default_factory=list)  # first, last sequence; offset


class Answer(NamedTuple):
    """Of a fetch: bytes, and which of the transactions in them were aborted."""

    data: bytes
    aborted: list[Aborted]


class PartitionLog:
    """`history` is all that was ever appended, for whoever judges the run afterwards."""

    def __init__(self) -> None:
        self.batches: list[Stored] = []
        self.history: list[Stored] = []
        self.start = 0
        self.end = 0
        self.open: dict[int, int] = {}  # first offset of each producer's open transaction
        self.aborted: list[tuple[int, int, int]] = []  # producer id, first offset, its marker's
        self._known: dict[int, Known] = {}

    @property
    def stable(self) -> int:
        """The last stable offset: all below is decided."""
        return min(self.open.values(), default=self.end)

    @property
    def version(self) -> tuple[int, int, int]:
        """Another one when what is committed is."""
        return len(self.history), self.stable, len(self.aborted)

    def append(self, data: bytes) -> int:
        """A batch as a producer sent it; the offset of its first record. Raises what a broker
        answers to a producer that is fenced or out of order.
        """
        batch = plain.batch_at(data, 0)
        assert batch is not None
        epoch = int.from_bytes(data[51:53], "big", signed=True)
        sequence = int.from_bytes(data[53:57], "big", signed=True)
        if batch.producer_id >= 0:
            again = self._admit(batch.producer_id, epoch, sequence, batch.count)
            if again is not None:
                return again
        base = self.end
        transactional = bool(batch.attributes & plain.TRANSACTIONAL)
        stored = Stored(
            base,
            base + batch.last_offset_delta,
            base.to_bytes(8, "big") + data[8:],
            batch.producer_id,
            transactional,
        )
        self._add(stored)
        if transactional:
            self.open.setdefault(batch.producer_id, base)
        if batch.producer_id >= 0:
            sent = self._known[batch.producer_id].sent
            sent.append((sequence, sequence + batch.count - 1, base))
            del sent[:-SEQUENCES_KEPT]
        return base

    def _admit(self, producer_id: int, epoch: int, sequence: int, count: int) -> int | None:
        """The offset of a batch that is here already; None for one that is new."""
        known = self._known.get(producer_id)
        if known is None or epoch > known.epoch:
            self._known[producer_id] = Known(epoch)
            if sequence:
                raise OutOfOrderSequenceNumber
            return None
        if epoch < known.epoch:
            raise InvalidProducerEpoch
        for first, last, offset in known.sent:
            if (first, last) == (sequence, sequence + count - 1):
                return offset
        expected = known.sent[-1][1] + 1 if known.sent else 0
        if sequence != expected:
            raise OutOfOrderSequenceNumber
        return None

    def decide(self, producer_id: int, epoch: int, commit: bool, timestamp_ms: int) -> None:
        """The end of a producer's transaction, as its coordinator says: a control batch."""
        known = self._known.setdefault(producer_id, Known(epoch))
        if epoch > known.epoch:
            self._known[producer_id] = Known(epoch)
        first = self.open.pop(producer_id, None)
        if first is not None and not commit:
            self.aborted.append((producer_id, first, self.end))
        (marker,) = encode_records([(_MARKER_KEYS[commit], b"\x00\x00\x00\x00\x00\x00", [])])
        data = framed(
            marker,
            timestamp_ms,
            base_offset=self.end,
            attributes=_CONTROL,
            producer=(producer_id, epoch, -1),
        )
        self._add(Stored(self.end, self.end, data, producer_id, True, True))

    def _add(self, stored: Stored) -> None:
        self.batches.append(stored)
        self.history.append(stored)
        self.end = stored.last + 1

    def fetch(self, offset: int, committed: bool, bytes_max: int) -> Answer:
        """Whole batches from the one that holds `offset` on; at least one if there is any."""
        limit = self.stable if committed else self.end
        if not self.start <= offset <= self.end:
            raise OffsetOutOfRangeError
        chosen: list[Stored] = []
        size = 0
        for stored in self.batches:
            if stored.last < offset:
                continue
            if stored.base >= limit or (chosen and size + len(stored.data) > bytes_max):
                break
            chosen.append(stored)
            size += len(stored.data)
        if not chosen:
            return Answer(b"", [])
        behind = chosen[-1].last
        aborted = [
            (producer_id, first)
            for producer_id, first, last in self.aborted
            if first <= behind and last >= offset
        ]
        return Answer(b"".join(one.data for one in chosen), aborted if committed else [])

    def compact(self, below: int, keep_markers: bool) -> int:
        """Keep the newest record of each key below `below`, as a cleaner does that neither takes
        nor looks at the active segment and what is younger than the lag. Returns how many went.
        """
        below = min(below, self.stable)
        cleaned = [one for one in self.batches if one.last < below]
        newest: dict[bytes | None, int] = {}
        for stored in cleaned:
            if not stored.control and not self._is_aborted(stored):
                newest.update((record.key, record.offset) for record in stored.records())
        kept: list[Stored] = []
        went = 0
        ends = {marker for _, _, marker in self.aborted}
        for stored in cleaned:
            if stored.control:
                # without its marker an aborted transaction would seem to go on
                kept += [stored] if keep_markers or stored.base in ends else []
                continue
            records = [] if self._is_aborted(stored) else list(stored.records())
            rest = [one for one in records if newest[one.key] == one.offset]
            went += len(records) - len(rest)
            if len(rest) == len(records) and rest:
                kept.append(stored)
            elif rest:
                kept.append(_repacked(stored, rest))
        self.batches[: len(cleaned)] = kept
        return went

    def newest(self, key: bytes) -> int:
        """Offset of the newest record of that key that nobody took back; -1: there is none."""
        for stored in reversed(self.batches):
            if stored.base < self.stable and not stored.control and not self._is_aborted(stored):
                for record in stored.records():
                    if record.key == key:
                        return record.offset
        return -1

    def _is_aborted(self, stored: Stored) -> bool:
        return stored.transactional and any(
            producer_id == stored.producer_id and first <= stored.base < last
            for producer_id, first, last in self.aborted
        )

    def committed_records(self) -> Iterator[Record]:
        """Everything a `read_committed` reader could ever see, compacted since or not."""
        for stored in self.history:
            if stored.base < self.stable and not stored.control and not self._is_aborted(stored):
                yield from stored.records()


def _repacked(stored: Stored, rest: Sequence[Record]) -> Stored:
    """What is left of a batch, at the offsets where it was. Its transaction is decided."""
    data = pack((r.offset, r.timestamp_ms, r.key, r.value, r.headers) for r in rest)
    return Stored(rest[0].offset, rest[-1].offset, data)
