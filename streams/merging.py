"""Fewer, larger batches: a catch-up over sparse events closes hundreds of buckets a checkpoint,
each a batch of a record or two, and every batch costs a request to the broker.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from streams.checkpoint import Output
from streams.codec.write import BYTES_MAX, HEADER_BYTES, RecordBatch

SMALL_BYTES: Final = 16_384  # larger batches are left alone
FIXED_BYTES: Final = 2  # of a record, between its length and its offset delta: all timestamps equal


def merged(outputs: Sequence[Output], bytes_max: int = BYTES_MAX) -> list[Output]:
    """The same records in the same order within each topic, small neighbours in one batch."""
    by_topic: dict[str, list[RecordBatch]] = {}
    for output in outputs:
        by_topic.setdefault(output.topic, []).append(output.batch)
    return [
        Output(topic, batch)
        for topic, batches in by_topic.items()
        for batch in _merged(batches, bytes_max)
    ]


def with_last(
    batches: Sequence[RecordBatch], last: RecordBatch, bytes_max: int = BYTES_MAX
) -> list[RecordBatch]:
    """`batches` and `last`, in the one before it where there is room: one request less."""
    before = batches[-1] if batches else None
    if before is None or before.size_bytes + len(last.body) + 4 * last.count > bytes_max:
        return [*batches, last]
    return [*batches[:-1], _joined([before, last])]


def _merged(batches: Sequence[RecordBatch], bytes_max: int) -> Iterator[RecordBatch]:
    waiting: list[RecordBatch] = []
    size = HEADER_BYTES
    for batch in batches:
        grown = size + len(batch.body) + 4 * batch.count  # a longer offset delta, a longer length
        if waiting and (grown > bytes_max or len(batch.body) > SMALL_BYTES):
            yield _joined(waiting)
            waiting, size = [], HEADER_BYTES
        if len(batch.body) > SMALL_BYTES:
            yield batch
        else:
            waiting.append(batch)
            size += len(batch.body) + 4 * batch.count
    if waiting:
        yield _joined(waiting)


def _joined(batches: Sequence[RecordBatch]) -> RecordBatch:
    if len(batches) == 1:
        return batches[0]
    body = bytearray(batches[0].body)
    count = batches[0].count
    for batch in batches[1:]:
        _append_renumbered(body, batch.body, count)
        count += batch.count
    return RecordBatch(bytes(body), count)


def _append_renumbered(target: bytearray, body: bytes, first: int) -> None:
    """Records of `body`, their offset deltas counted from `first` on."""
    at, number = 0, first
    while at < len(body):
        length, at = _unsigned(body, at)
        end = at + (length >> 1)  # lengths and deltas are zigzag: twice the number
        rest_at = _unsigned(body, at + FIXED_BYTES)[1]
        delta = _varint(number << 1)
        target += _varint((FIXED_BYTES + len(delta) + end - rest_at) << 1)
        target += body[at : at + FIXED_BYTES]
        target += delta
        target += body[rest_at:end]
        at = end
        number += 1


def _unsigned(data: bytes, at: int) -> tuple[int, int]:
    """(number, place after it) of a varint."""
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
