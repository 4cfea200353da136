"""Record batches to produce, of records that come one by one; `write_columns` makes those of many
alike.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Final

from streams.codec.crc import crc32c

HEADER_BYTES: Final = 61
BYTES_MAX: Final = 900_000  # below the broker's own limit for a batch, which is 1 MiB by default
_FRAME: Final = Struct(">qiibI")  # base offset, length, leader epoch, magic, CRC
_BODY: Final = Struct(">hiqqqhii")  # attributes ... record count: what the CRC covers
_TRANSACTIONAL: Final = 0x10
_PRODUCER_UNKNOWN: Final = (-1, -1, -1)  # id, epoch, base sequence

Headers = Sequence[tuple[str, bytes | None]]


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """Encoded records of one batch (format v2), still without its header.

    All have the timestamp that is given with the batch when it is sent. `codec` is Kafka's number
    for how `body` is compressed; 0: it is not.
    """

    body: bytes
    count: int
    codec: int = 0

    @property
    def size_bytes(self) -> int:
        return HEADER_BYTES + len(self.body)

    def builder(self, timestamp_ms: int, *, transactional: bool) -> "BatchBuilder":
        """For `AIOKafkaProducer.send_batch`, once.

        `transactional` as the producer is: brokers take a batch that is not marked so from a
        transactional producer too, and it then is in no transaction.
        """
        return BatchBuilder(self, timestamp_ms, transactional)

    def whole(self, base_offset: int, timestamp_ms: int) -> bytes:
        """The batch as a broker would hand it out, its first record at `base_offset`."""
        return framed(self, timestamp_ms, base_offset=base_offset)


def framed(
    batch: RecordBatch,
    timestamp_ms: int,
    *,
    base_offset: int = 0,
    attributes: int = 0,
    producer: tuple[int, int, int] = _PRODUCER_UNKNOWN,
) -> bytes:
    """Header and records; `producer` is (id, epoch, base sequence)."""
    count = batch.count
    covered = (
        _BODY.pack(
            attributes | batch.codec, count - 1, timestamp_ms, timestamp_ms, *producer, count
        )
        + batch.body
    )
    after_length = _FRAME.size - 12
    crc = crc32c(covered)
    return _FRAME.pack(base_offset, after_length + len(covered), -1, 2, crc) + covered


class BatchBuilder:
    """What AIOKafkaProducer.send_batch and its sender ask of a builder (aiokafka 0.14)."""

    __slots__ = ("_attributes", "_batch", "_buffer", "_producer", "_timestamp_ms")

    def __init__(self, batch: RecordBatch, timestamp_ms: int, transactional: bool) -> None:
        self._batch = batch
        self._timestamp_ms = timestamp_ms
        self._attributes = _TRANSACTIONAL if transactional else 0
        self._producer = _PRODUCER_UNKNOWN
        self._buffer: bytes | None = None

    def record_count(self) -> int:
        return self._batch.count

    def size(self) -> int:
        return self._batch.size_bytes

    def closed(self) -> bool:
        return True  # so the sender does not linger for more records

    def close(self) -> None:
        pass  # it never was open

    def append(self, **_: object) -> None:
        """The answer of a full builder."""

    def _set_producer_state(self, producer_id: int, epoch: int, base_sequence: int) -> None:
        self._producer = (producer_id, epoch, base_sequence)

    def _build(self) -> bytes:
        if self._buffer is None:  # a retry must send the same bytes, sequence numbers and all
            self._buffer = framed(
                self._batch,
                self._timestamp_ms,
                attributes=self._attributes,
                producer=self._producer,
            )
        return self._buffer


class BatchWriter:
    """Records encoded as they come, in batches of at most `bytes_max` unless one record alone is
    larger.
    """

    def __init__(self, bytes_max: int = BYTES_MAX) -> None:
        self._room = bytes_max - HEADER_BYTES
        self._body = bytearray()
        self._count = 0

    @property
    def size_bytes(self) -> int:
        """Of the batch that is being filled, without its header."""
        return len(self._body)

    def add(self, key: bytes | None, value: bytes | None, headers: Headers) -> RecordBatch | None:
        """One more record; the batch before it, when that had no room for it."""
        done: RecordBatch | None = None
        record = _record(self._count, key, value, headers)
        if self._count and len(self._body) + len(record) > self._room:
            done = self.finish()
            record = _record(0, key, value, headers)
        self._body += record
        self._count += 1
        return done

    def finish(self) -> RecordBatch | None:
        """The last batch; None when it is empty."""
        if not self._count:
            return None
        batch = RecordBatch(bytes(self._body), self._count)
        self._body, self._count = bytearray(), 0
        return batch


def encode_records(
    records: Iterable[tuple[bytes | None, bytes | None, Headers]], bytes_max: int = BYTES_MAX
) -> list[RecordBatch]:
    """Batches of (key, value, headers), none above `bytes_max` unless one record alone is."""
    writer = BatchWriter(bytes_max)
    batches = [writer.add(key, value, headers) for key, value, headers in records]
    return [batch for batch in (*batches, writer.finish()) if batch is not None]


def _record(index: int, key: bytes | None, value: bytes | None, headers: Headers) -> bytes:
    """One record: length, attributes, timestamp delta 0, offset delta, key, value, headers."""
    body = bytearray(b"\x00\x00")
    _put_varint(body, index)
    _put_bytes(body, key)
    _put_bytes(body, value)
    body += headers_of(headers)
    length = bytearray()
    _put_varint(length, len(body))
    return bytes(length + body)


def headers_of(headers: Headers) -> bytes:
    """Headers as the end of a record: their number, then each one's name and content."""
    end = bytearray()
    _put_varint(end, len(headers))
    for name, content in headers:
        _put_bytes(end, name.encode())
        _put_bytes(end, content)
    return bytes(end)


def _put_bytes(out: bytearray, data: bytes | None) -> None:
    if data is None:
        out.append(1)  # -1
        return
    _put_varint(out, len(data))
    out += data


def _put_varint(out: bytearray, number: int) -> None:
    zigzag = number << 1  # never negative here
    while zigzag >= 0x80:
        out.append(zigzag & 0x7F | 0x80)
        zigzag >>= 7
    out.append(zigzag)
