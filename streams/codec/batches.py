"""What a fetch brings, made plain: whole batches, checked, uncompressed, committed."""

from collections.abc import Iterator, Sequence

from aiokafka.record.util import calc_crc32c

from streams.codec import plain
from streams.codec.compression import decompressed
from streams.codec.plain import Batch, Record
from streams.errors import CodecError

__all__ = ["Record", "iter_records", "read_batches"]

_ABORT = b"\x00\x00\x00\x00"  # a control record's key: version 0, type 0 (1 is a commit)


def read_batches(
    raw: bytes, start: int, aborted: Sequence[tuple[int, int]] = ()
) -> tuple[bytes, int]:
    """Whole uncompressed batches of `raw`, and the offset after them.

    `raw` is one topic partition's part of a fetch answer that was asked from offset `start`.
    `aborted` is the answer's list of (producer id, first offset) of aborted transactions, whose
    records a `read_committed` consumer must not see. Control batches are left out, and so is a
    last batch that the answer's limit cut off. The CRC of a batch that was compressed is not
    renewed. The first batch may begin before `start`.

    Raises CodecError, naming the offset, for a wrong CRC, a batch that cannot be decompressed and
    a message format before v2.
    """
    waiting = sorted(aborted, key=lambda one: one[1], reverse=True)
    aborting: set[int] = set()
    kept: list[memoryview | bytes] = []
    view = memoryview(raw)
    at, untouched_from, next_offset = 0, 0, start
    while (batch := plain.batch_at(view, at)) is not None:
        if calc_crc32c(view[batch.at + plain.CRC_START : batch.end]) != batch.crc:
            raise CodecError(f"batch at offset {batch.base_offset} is corrupt: wrong CRC")
        while waiting and waiting[-1][1] <= batch.base_offset:
            aborting.add(waiting.pop()[0])
        at = batch.end
        next_offset = max(next_offset, batch.next_offset)
        dropped = _dropped(view, batch, aborting)
        if dropped or batch.attributes & plain.CODEC_MASK:
            kept.append(view[untouched_from : batch.at])
            untouched_from = at
            if not dropped:
                kept.append(decompressed(view, batch))
    if untouched_from == 0:
        return (raw if at == len(raw) else raw[:at]), next_offset
    kept.append(view[untouched_from:at])
    return b"".join(kept), next_offset


def _dropped(view: memoryview, batch: Batch, aborting: set[int]) -> bool:
    """Is this a control batch, or of a transaction that was aborted? Keeps `aborting` current."""
    if batch.attributes & plain.CONTROL:
        record = next(plain.records_of(view, batch), None)
        if record is not None and record.key == _ABORT:
            aborting.discard(batch.producer_id)
        return True
    return bool(batch.attributes & plain.TRANSACTIONAL) and batch.producer_id in aborting


def iter_records(data: bytes, first_offset: int = 0) -> Iterator[Record]:
    """The records at `first_offset` and above, of whole uncompressed batches such as
    `read_batches` gives. Raises CodecError when a batch is corrupt.
    """
    at = 0
    while (batch := plain.plain_batch_at(data, at)) is not None:
        for record in plain.records_of(data, batch):
            if record.offset >= first_offset:
                yield record
        at = batch.end
