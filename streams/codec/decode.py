"""Record batches to columns, slice by slice: the compiled kernel, and the strict decoder behind it.

The kernel fills the columns and marks every record it is not sure of; those few go through the
strict decoder, which accepts them or says why not. With `compiled=False`, or without numba, all go
that way: slower by two orders of magnitude, the same result.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.jit import COMPILED
from streams.codec import plain
from streams.codec.columns import CAPACITY, Columns
from streams.codec.plain import Headers, Record
from streams.codec.siphash import HashKey, hash64, hash128
from streams.codec.strict import Event, decode_counted
from streams.errors import ContractError, Reason

if COMPILED:
    from streams.codec import kernel


@dataclass(frozen=True, slots=True)
class Fetch:
    """What one fetch brought of one topic partition, fit for a Decoder.

    `data` is whole, uncompressed v2 batches with no control batches and no aborted transactions;
    its records below `first_offset` are to be skipped. `topic` is the logical name, without prefix.
    `unreadable` says, by offset, which records stand for a batch that cannot be read, and why.
    """

    topic: str
    partition: int
    first_offset: int
    next_offset: int
    data: bytes
    unreadable: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Position:
    """A place inside `Fetch.data` where decoding goes on."""

    batch_at: int  # byte at which the batch begins
    record_index: int  # of the next record in the batch
    record_at: int  # byte at which that record begins


START: Final = Position(0, 0, plain.HEADER_BYTES)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the record at `index` of the columns is a dead letter."""

    index: int
    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class Original:
    """A record as it came, for late events and dead letters."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class Decoder:
    """Turns fetched bytes into `columns`, up to their capacity at a time."""

    def __init__(
        self,
        hash_key: HashKey,
        future_tolerance_ms: int,
        capacity: int = CAPACITY,
        compiled: bool = True,
    ) -> None:
        self.columns = Columns.of(capacity)
        self._hash_key = hash_key
        self._future_tolerance_ms = future_tolerance_ms
        self._compiled = compiled and COMPILED

    def decode(
        self, data: NDArray[np.uint8], kind: int, first_offset: int, position: Position = START
    ) -> tuple[Position | None, list[Refusal]]:
        """Fills `columns` with the next slice of `data`, from `position` on.

        `kind` is the index in EVENT_TOPICS; records below `first_offset` are skipped. Returns where
        the next slice begins (None: this was the last), and a Refusal for each record of the
        slice that breaks the contract; it is in the columns with `ok` False. Raises CodecError
        when a batch is corrupt.
        """
        if self._compiled:
            return self._compiled_slice(data, kind, first_offset, position)
        return self._plain_slice(data, kind, first_offset, position)

    def _compiled_slice(
        self, data: NDArray[np.uint8], kind: int, first_offset: int, position: Position
    ) -> tuple[Position | None, list[Refusal]]:
        columns = self.columns
        place = np.array([position.batch_at, position.record_index, position.record_at], np.int64)
        columns.n, columns.unknown_fields, end = kernel.decode(
            data, kind, first_offset, self._future_tolerance_ms, self._hash_key, place, columns
        )
        if end == kernel.CORRUPT:
            self._plain_slice(data, kind, first_offset, position)  # raises, and says what it is
            raise AssertionError(f"kernel alone finds the batch at byte {place[0]} corrupt")
        refusals: list[Refusal] = []
        for index in np.flatnonzero(~columns.ok[: columns.n]).tolist():
            record = plain.lone_record(data.data, int(columns.record_at[index]))
            self._judge(record, index, kind, refusals)
        if end == kernel.FINISHED:
            return None, refusals
        batch_at, record_index, record_at = place.tolist()
        return Position(batch_at, record_index, record_at), refusals

    def _plain_slice(
        self, data: NDArray[np.uint8], kind: int, first_offset: int, position: Position
    ) -> tuple[Position | None, list[Refusal]]:
        columns = self.columns
        columns.n = columns.unknown_fields = 0
        view = data.data
        refusals: list[Refusal] = []
        at, index, record_at = position.batch_at, position.record_index, position.record_at
        while (batch := plain.plain_batch_at(view, at)) is not None:
            while index < batch.count:
                if columns.n == columns.capacity:
                    return Position(at, index, record_at), refusals
                record, next_at = plain.record_at(view, batch, record_at)
                if record.offset >= first_offset:
                    self._add(record, record_at, kind, refusals)
                index, record_at = index + 1, next_at
            plain.require_end(batch, record_at)
            at, index, record_at = batch.end, 0, batch.end + plain.HEADER_BYTES
        return None, refusals

    def original(self, data: NDArray[np.uint8], index: int) -> Original:
        """The record at `index` of the columns, which `data` was decoded into."""
        columns = self.columns
        record = plain.lone_record(data.data, int(columns.record_at[index]))
        return Original(
            int(columns.offset[index]),
            int(columns.timestamp_ms[index]),
            record.key,
            record.value,
            record.headers,
        )

    def _add(self, record: Record, record_at: int, kind: int, refusals: list[Refusal]) -> None:
        columns = self.columns
        index = columns.n
        columns.n += 1
        columns.offset[index] = record.offset
        columns.timestamp_ms[index] = record.timestamp_ms
        columns.record_at[index] = record_at
        self._judge(record, index, kind, refusals)

    def _judge(self, record: Record, index: int, kind: int, refusals: list[Refusal]) -> None:
        timestamp_ms = int(self.columns.timestamp_ms[index])
        try:
            event, has_unknown = decode_counted(
                kind, record.key, record.value, timestamp_ms, self._future_tolerance_ms
            )
        except ContractError as error:
            self._clear(index)
            refusals.append(Refusal(index, error.reason, error.detail))
            return
        self._fill(index, event, record, has_unknown)

    def _clear(self, index: int) -> None:
        columns = self.columns
        for array in (
            columns.event_time_ms,
            columns.price_cents,
            columns.quantity,
            columns.sku_at,
            columns.sku_length,
        ):
            array[index] = 0
        for hashes in (columns.sku_hash, columns.event_hash_low, columns.event_hash_high):
            hashes[index] = 0
        columns.ok[index] = False

    def _fill(self, index: int, event: Event, record: Record, has_unknown: bool) -> None:
        columns = self.columns
        assert record.key is not None
        columns.unknown_fields += has_unknown
        columns.event_time_ms[index] = event.event_time_ms
        columns.price_cents[index] = event.price_cents
        columns.quantity[index] = getattr(event, "quantity", 1)
        columns.sku_at[index] = record.key_at
        columns.sku_length[index] = len(record.key)
        columns.sku_hash[index] = hash64(self._hash_key, record.key)
        low, high = hash128(self._hash_key, event.event_id.encode())
        columns.event_hash_low[index] = low
        columns.event_hash_high[index] = high
        columns.ok[index] = True
