"""What a fetch brings, made plain: whole batches, checked, uncompressed, committed.

Two things can be wrong with a batch. Its CRC: bytes changed since the producer wrote them, and
may come right when fetched again. Or what the CRC covers: the batch is as its producer, or whoever
wrote there, meant it to be, and will never be readable. Such a batch must not hold up the log for
ever, so one record stands for it, whose value is the batch as it came: it becomes a dead letter.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from models.jit import COMPILED
from streams.codec import plain, write
from streams.codec.compression import decompressed
from streams.codec.crc import crc32c
from streams.codec.plain import Batch, Record
from streams.errors import CodecError

if COMPILED:
    from streams.codec import kernel

__all__ = ["Record", "iter_records", "read_batches"]

ANSWER_BYTES_MAX: Final = 64 * 2**20  # uncompressed; what is beyond it is left for the next fetch
_ABORT = b"\x00\x00\x00\x00"  # a control record's key: version 0, type 0 (1 is a commit)


def read_batches(
    raw: bytes,
    start: int,
    aborted: Sequence[tuple[int, int]] = (),
    unreadable: dict[int, str] | None = None,
) -> tuple[bytes, int]:
    """Whole uncompressed batches of `raw`, and the offset after them.

    `raw` is one topic partition's part of a fetch answer that was asked from offset `start`.
    `aborted` is the answer's list of (producer id, first offset) of aborted transactions, whose
    records a `read_committed` consumer must not see. Control batches are left out, and so is a
    last batch that the answer's limit cut off. The CRC of a batch that was compressed is not
    renewed. The first batch may begin before `start`.

    A batch with the right CRC that cannot be read (unknown compression, torn, larger than
    BATCH_BYTES_MAX, records that do not fit it) is noted in `unreadable`, first offset to reason,
    and one record at that offset, without key, stands for it. Raises CodecError, naming the offset,
    for it when there is no `unreadable`, for a wrong CRC, and a message format before v2.
    """
    waiting = sorted(aborted, key=lambda one: one[1], reverse=True)
    aborting: set[int] = set()
    kept: list[memoryview | bytes] = []
    view = memoryview(raw)
    at, untouched_from, next_offset, opened_bytes = 0, 0, start, 0
    while opened_bytes < ANSWER_BYTES_MAX and (batch := plain.batch_at(view, at)) is not None:
        if crc32c(view[batch.at + plain.CRC_START : batch.end]) != batch.crc:
            raise CodecError(f"batch at offset {batch.base_offset} is corrupt: wrong CRC")
        while waiting and waiting[-1][1] <= batch.base_offset:
            aborting.add(waiting.pop()[0])
        at = batch.end
        next_offset = max(next_offset, batch.next_offset)
        instead: bytes | None = b""
        if not _dropped(view, batch, aborting):
            instead = _replacement(view, batch, unreadable)
        if instead is not None:
            kept += view[untouched_from : batch.at], instead
            untouched_from = at
            opened_bytes += len(instead)
    if untouched_from == 0:
        return (raw if at == len(raw) else raw[:at]), next_offset
    kept.append(view[untouched_from:at])
    return b"".join(kept), next_offset


def _replacement(view: memoryview, batch: Batch, unreadable: dict[int, str] | None) -> bytes | None:
    """What is read instead of the batch; None: the batch itself."""
    try:
        if not batch.attributes & plain.CODEC_MASK:
            _require_sound(view, batch)
            return None
        opened = decompressed(view, batch)
        whole = plain.batch_at(opened, 0)
        assert whole is not None
        _require_sound(memoryview(opened), whole)
        return opened
    except CodecError as error:
        if unreadable is None:
            raise
        last = batch.next_offset - 1
        unreadable[batch.base_offset] = f"offsets {batch.base_offset} to {last}: {error}"
        value = bytes(view[batch.at : batch.end])
        (stand_in,) = write.encode_records([(None, value, ())])
        return stand_in.whole(batch.base_offset, batch.max_timestamp_ms)


def _require_sound(view: memoryview, batch: Batch) -> None:
    """Raises CodecError when the records are not as the batch's header says."""
    if COMPILED and kernel.is_sound(np.frombuffer(view, np.uint8), batch.at, batch.end):
        return
    for _ in plain.records_of(view, batch):
        pass
    assert not COMPILED, f"the kernel alone finds the batch at offset {batch.base_offset} corrupt"


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
