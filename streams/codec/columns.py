"""Events as columns: one array a field, made once and filled again for every slice of a fetch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

CAPACITY: Final = 16_384  # events a slice holds: the columns then stay in a processor's cache
NO_ROW: Final = -1

Int64s = NDArray[np.int64]
UInt64s = NDArray[np.uint64]
Bytes = NDArray[np.uint8]


class NameArrays(NamedTuple):
    """The SKU of every row: row r's bytes are `blob[at[r] : at[r] + length[r]]`."""

    blob: Bytes
    at: Int64s
    length: NDArray[np.int32]

    @classmethod
    def of(cls, names: Sequence[bytes]) -> "NameArrays":
        """Row i is `names[i]`."""
        length = np.fromiter(map(len, names), np.int32, len(names))
        at = np.cumsum(length, dtype=np.int64) - length
        return cls(np.frombuffer(b"".join(names), np.uint8), at, length)

    def name(self, row: int) -> bytes:
        """UTF-8 bytes of one row's SKU."""
        at = int(self.at[row])
        return self.blob[at : at + int(self.length[row])].tobytes()

    def several(self, rows: Int64s) -> list[bytes]:
        """Those of many rows: what is copied at once is theirs alone, however long the blob."""
        length = self.length[rows].astype(np.int64)
        ends = np.cumsum(length)
        begins = ends - length
        places = np.repeat(self.at[rows] - begins, length) + np.arange(length.sum())
        data = self.blob[places].tobytes()
        return [data[at:end] for at, end in zip(begins.tolist(), ends.tolist(), strict=True)]


@dataclass(slots=True)
class Columns:
    """Up to `capacity` events; only the first `n` of each array mean anything.

    A refused record keeps its place with `ok` False: its `offset`, `timestamp_ms` and `record_at`
    hold, the rest is zero. `sku_at` and `sku_length` point at the record's key in the bytes that
    were decoded, since key bytes and SKU are the same.
    """

    n: int
    unknown_fields: int  # records of this slice with fields the contract does not name
    offset: Int64s
    timestamp_ms: Int64s  # the record's own, from the producer's or the broker's clock
    record_at: Int64s  # where in the decoded bytes the record begins
    event_time_ms: Int64s
    price_cents: Int64s
    quantity: Int64s  # 1 for a click
    sku_at: Int64s
    sku_length: Int64s
    sku_hash: UInt64s  # SipHash-1-3 of the SKU
    event_hash_low: UInt64s  # SipHash-1-3, 128 bits, of the event_id
    event_hash_high: UInt64s
    ok: NDArray[np.bool_]
    row: NDArray[np.int32]  # filled by SkuTable; NO_ROW until then
    verdict: NDArray[np.uint8]  # filled by Windows

    @classmethod
    def of(cls, capacity: int = CAPACITY) -> Self:
        """Empty columns that hold up to `capacity` events."""

        def integers() -> Int64s:
            return np.zeros(capacity, np.int64)

        def hashes() -> UInt64s:
            return np.zeros(capacity, np.uint64)

        return cls(
            n=0,
            unknown_fields=0,
            offset=integers(),
            timestamp_ms=integers(),
            record_at=integers(),
            event_time_ms=integers(),
            price_cents=integers(),
            quantity=integers(),
            sku_at=integers(),
            sku_length=integers(),
            sku_hash=hashes(),
            event_hash_low=hashes(),
            event_hash_high=hashes(),
            ok=np.zeros(capacity, np.bool_),
            row=np.full(capacity, NO_ROW, np.int32),
            verdict=np.zeros(capacity, np.uint8),
        )

    @property
    def capacity(self) -> int:
        return len(self.offset)
