"""Record batches read in plain Python: the meaning of what the kernel does, and the slow paths.

A batch of format v2 is a header of 61 bytes and `count` records, all integers of the header big
endian, those of a record zigzag varints:

    base offset 8 | length 4 | leader epoch 4 | magic 1 | CRC 4 | attributes 2 | last offset delta 4
    | first timestamp 8 | max timestamp 8 | producer id 8 | epoch 2 | sequence 4 | count 4

    length | attributes 1 | timestamp delta | offset delta | key length, key | value length, value
    | header count | (name length, name, value length, value) ...          length -1: null
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from struct import Struct
from typing import Final

from streams.errors import CodecError

HEADER_BYTES: Final = 61
LENGTH_END: Final = 12  # the batch's length counts from here
CRC_START: Final = 21  # and the CRC from here
CODEC_MASK: Final = 0x07
LOG_APPEND_TIME: Final = 0x08
TRANSACTIONAL: Final = 0x10
CONTROL: Final = 0x20
_HEADER: Final = Struct(">qiibIhiqqqhii")
_VARINT_BYTES_MAX: Final = 10
OFFSET_MAX: Final = 2**62

Headers = list[tuple[str, bytes | None]]


@dataclass(frozen=True, slots=True)
class Batch:
    """The header of the record batch at byte `at`; its records lie in [at + 61, end)."""

    at: int
    end: int
    base_offset: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    first_timestamp_ms: int
    max_timestamp_ms: int
    producer_id: int
    count: int

    @property
    def next_offset(self) -> int:
        return self.base_offset + max(self.last_offset_delta, 0) + 1


@dataclass(frozen=True, slots=True)
class Record:
    """One record, as it lies in the log."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    key_at: int = field(default=0, compare=False, repr=False)  # byte at which the key begins
    unreadable: str | None = None  # why its batch, whose bytes are the value, could not be read


def batch_at(data: bytes | memoryview, at: int) -> Batch | None:
    """The batch that begins at `at`; None if the bytes end before it does.

    Raises CodecError when its length cannot be true or its format is not v2.
    """
    if len(data) - at < HEADER_BYTES:
        return None
    (base, length, _, magic, crc, attributes, last, first_ms, max_ms, producer, _, _, count) = (
        _HEADER.unpack_from(data, at)
    )
    if magic != 2:
        raise CodecError(
            f"batch at offset {base} has message format v{magic}: flashcast reads v2, which every "
            "producer has written since Kafka 0.11; copy the topic with a current client"
        )
    if length < HEADER_BYTES - LENGTH_END or not 0 <= base <= OFFSET_MAX:
        raise CodecError(f"batch at offset {base} is corrupt: length {length}, {count} records")
    end = at + LENGTH_END + length
    if end > len(data):
        return None
    return Batch(at, end, base, magic, crc, attributes, last, first_ms, max_ms, producer, count)


def plain_batch_at(data: bytes | memoryview, at: int) -> Batch | None:
    """As `batch_at`, for bytes that `read_batches` has made plain. Raises CodecError if not."""
    batch = batch_at(data, at)
    if batch is not None and batch.attributes & (CODEC_MASK | CONTROL):
        raise CodecError(
            f"batch at offset {batch.base_offset} is compressed or a control batch: "
            "it has not been through read_batches"
        )
    if batch is not None:
        require_counts(batch)
    return batch


def require_counts(batch: Batch) -> None:
    """Raises CodecError for a number of records, or a last offset, that is negative."""
    if batch.count < 0 or batch.last_offset_delta < 0:
        raise CodecError(
            f"batch at offset {batch.base_offset} is corrupt: {batch.count} records, last offset "
            f"delta {batch.last_offset_delta}"
        )


def record_at(data: bytes | memoryview, batch: Batch, at: int) -> tuple[Record, int]:
    """The record that begins at byte `at` of `data`, and where the next one does.

    Raises CodecError when it does not fit its own length or its batch.
    """
    try:
        delta, timestamp_delta, record, end = _parsed(data, at, batch.end)
        if not 0 <= delta <= batch.last_offset_delta:
            raise _MalformedError(f"offset delta {delta}")
    except _MalformedError as error:
        raise CodecError(
            f"batch at offset {batch.base_offset} is corrupt: {error} in the record at byte "
            f"{at - batch.at} of the batch"
        ) from None
    timestamp_ms = batch.first_timestamp_ms + timestamp_delta
    if batch.attributes & LOG_APPEND_TIME:
        timestamp_ms = batch.max_timestamp_ms
    return replace(record, offset=batch.base_offset + delta, timestamp_ms=_int64(timestamp_ms)), end


def lone_record(data: bytes | memoryview, at: int) -> Record:
    """The record at byte `at`, which has been read before; offset and timestamp are unknown: 0."""
    return _parsed(data, at, len(data))[2]


def records_of(data: bytes | memoryview, batch: Batch) -> Iterator[Record]:
    """Every record of one uncompressed batch. Raises CodecError when it is corrupt."""
    require_counts(batch)
    at = batch.at + HEADER_BYTES
    next_offset = batch.base_offset
    for _ in range(batch.count):
        record, at = record_at(data, batch, at)
        if record.offset < next_offset:
            raise CodecError(
                f"batch at offset {batch.base_offset} is corrupt: offset {record.offset} after "
                f"{next_offset - 1}"
            )
        next_offset = record.offset + 1
        yield record
    require_end(batch, at)


def require_end(batch: Batch, at: int) -> None:
    """Raises CodecError unless the batch's last record ends where the batch does."""
    if at != batch.end:
        raise CodecError(
            f"batch at offset {batch.base_offset} is corrupt: {batch.end - at} bytes after its "
            f"{batch.count} records"
        )


class _MalformedError(Exception):
    """What is wrong with a record."""


def _parsed(data: bytes | memoryview, at: int, limit: int) -> tuple[int, int, Record, int]:
    """(offset delta, timestamp delta, record without offset and timestamp, where it ends)."""
    length, at = _varint(data, at, limit)
    if not 1 <= length <= limit - at:
        raise _MalformedError(f"length {length}")
    end = at + length
    timestamp_delta, at = _varint(data, at + 1, end)  # after one byte of attributes, unused
    offset_delta, at = _varint(data, at, end)
    key, at = _nullable(data, at, end)
    key_at = at - len(key or b"")
    value, at = _nullable(data, at, end)
    count, at = _varint(data, at, end)
    if count < 0:
        raise _MalformedError(f"{count} headers")
    headers: Headers = []
    for _ in range(count):
        name, at = _nullable(data, at, end)
        if name is None:
            raise _MalformedError("a header without a name")
        content, at = _nullable(data, at, end)
        headers.append((name.decode("utf-8", "replace"), content))
    if at != end:
        raise _MalformedError(f"{end - at} bytes left over")
    return offset_delta, timestamp_delta, Record(0, 0, key, value, headers, key_at), end


def _nullable(data: bytes | memoryview, at: int, end: int) -> tuple[bytes | None, int]:
    length, at = _varint(data, at, end)
    if length == -1:
        return None, at
    if not 0 <= length <= end - at:
        raise _MalformedError(f"a field of {length} bytes")
    return bytes(data[at : at + length]), at + length


def _varint(data: bytes | memoryview, at: int, end: int) -> tuple[int, int]:
    number = 0
    for place in range(_VARINT_BYTES_MAX):
        if at >= end:
            raise _MalformedError("an integer cut off")
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            number &= 2**64 - 1
            return (number >> 1) ^ -(number & 1), at
    raise _MalformedError("an integer of more than 10 bytes")


def _int64(number: int) -> int:
    """Wrapped around as the kernel's integers are."""
    return (number + 2**63) % 2**64 - 2**63
