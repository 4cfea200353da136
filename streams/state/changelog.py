"""One partition's state as records of the changelog topic, and back.

    \\x00identity            drawn once when the changelog is first written: which log this is
    \\x00cut|TOPIC|POSITION  where the clock, and not an event, closed buckets
    SKU                     the SKU's packed row (`streams.state.snapshot`); no value: forgotten
    \\x00marker              the checkpoint that all of it belongs to, last of each checkpoint

The topic is compacted, so the newest record of a key is all that counts.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from streams.checkpoint import Checkpoint
from streams.codec.columns import NameArrays
from streams.codec.write import RecordBatch, encode_records
from streams.codec.write_columns import encode_rows
from streams.state import marker as markers
from streams.state.marker import CUT_KEY_PREFIX, MARKER_KEY

IDENTITY_KEY: Final = b"\x00identity"
RESERVED: Final = b"\x00"  # first byte of every key that is not a SKU

Change = tuple[bytes, bytes | None]  # key and value; None: the key is gone


@dataclass(frozen=True, slots=True)
class Encoded:
    """The changelog records of one checkpoint, in the order in which they must be written.

    `head` begins with the identity, when there is one to write; `marker` is one batch of one
    record.
    """

    head: list[RecordBatch]
    rows: list[RecordBatch]
    marker: RecordBatch

    def batches(self) -> list[RecordBatch]:
        return [*self.head, *self.rows, self.marker]


def encode(checkpoint: Checkpoint, forgotten: Sequence[bytes], identity: bytes | None) -> Encoded:
    """`forgotten` are keys to remove before the rows are written; `identity` is given once in the
    life of a changelog.
    """
    first: list[Change] = [] if identity is None else [(IDENTITY_KEY, identity)]
    head = [*first, *((key, None) for key in forgotten), *checkpoint.cuts]
    names = NameArrays.of(checkpoint.names)
    rows = encode_rows(names, np.arange(len(checkpoint.names)), checkpoint.rows)
    (marker,) = encode_records([(MARKER_KEY, markers.encode(checkpoint.marker), [])])
    return Encoded(encode_records((key, value, []) for key, value in head), rows, marker)


def changes(checkpoint: Checkpoint, forgotten: Sequence[bytes]) -> list[Change]:
    """The same as keys and values, for the local copy."""
    return [
        *((key, None) for key in forgotten),
        *checkpoint.cuts,
        *_rows(checkpoint),
        (MARKER_KEY, markers.encode(checkpoint.marker)),
    ]


def _rows(checkpoint: Checkpoint) -> Iterator[tuple[bytes, bytes]]:
    packed, width = checkpoint.rows.tobytes(), checkpoint.rows.shape[1]
    values = (packed[at : at + width] for at in range(0, len(packed), width))
    return zip(checkpoint.names, values, strict=True)


@dataclass(slots=True)
class Image:
    """A changelog, or a local copy of it, read as far as `apply` was called.

    Rows count from the marker behind them on. `begun` are those that wait for one: where the log
    ends with them, their checkpoint was never finished, which without transactions can be, and
    they run ahead of the state that the marker speaks of. They begin at `begun_offset`.
    """

    rows: dict[bytes, bytes] = field(default_factory=dict)
    cuts: dict[bytes, bytes] = field(default_factory=dict)
    marker: bytes | None = None
    marker_offset: int = -1
    identity: bytes | None = None
    identity_offset: int = -1
    begun: dict[bytes, bytes | None] = field(default_factory=dict)
    begun_offset: int = -1
    mended: set[bytes] = field(default_factory=set)  # rows that the log's end does not show
    ignored: int = 0  # records without a key, or under a reserved key that this release ignores

    def apply(self, records: Iterable[tuple[int, bytes | None, bytes | None]]) -> list[Change]:
        """Records (offset, key, value) in log order; what has changed by them."""
        changes: list[Change] = []
        for offset, key, value in records:
            if not key:
                self.ignored += 1
            elif key[0]:
                if not self.begun:
                    self.begun_offset = offset
                self.begun[key] = value
            elif key == MARKER_KEY:
                for name, row in self.begun.items():
                    _put(self.rows, name, row)
                changes += [*self.begun.items(), (key, value)]
                self.begun.clear()
                self.marker, self.marker_offset = value, offset
            elif key.startswith(CUT_KEY_PREFIX):
                _put(self.cuts, key, value)
                changes.append((key, value))
            elif key == IDENTITY_KEY:
                self.identity, self.identity_offset = value, offset
            else:
                self.ignored += 1
        return changes

    def read_to(self, end: int) -> int:
        """Where to read on later, of a log that was applied up to `end`."""
        return self.begun_offset if self.begun else end


def _put(table: dict[bytes, bytes], key: bytes, value: bytes | None) -> None:
    if value is None:
        table.pop(key, None)
    else:
        table[key] = value


def cut_place(key: bytes) -> tuple[str, int]:
    """(logical topic, position) of a cut's key. Raises ValueError when it is none."""
    topic, _, position = key.removeprefix(CUT_KEY_PREFIX).decode().rpartition("|")
    return topic, int(position)
