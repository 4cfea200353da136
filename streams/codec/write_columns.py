"""Record batches of many records that are alike, out of arrays, in one compiled pass.

A `Template` says what is the same in all of them.
"""

import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

import msgspec
import numpy as np

from models.jit import COMPILED
from streams.codec.columns import Bytes, Int64s, NameArrays
from streams.codec.write import (
    BYTES_MAX,
    HEADER_BYTES,
    Headers,
    RecordBatch,
    encode_records,
    headers_of,
)
from streams.records import SKU_BYTES_MAX, DemandWindow

if COMPILED:
    from streams.codec import write_kernel

ID: Final = bytes(36)  # in a template's headers: where each record's own id comes to stand
NO_IDS: Final = np.zeros((0, 16), np.uint8)
_FRAMING_BYTES_MAX: Final = 64
_NUMBER_BYTES_MAX: Final = 24  # any int64 as text, a thousandth of it too


class Column(NamedTuple):
    """One value a record, from an int64 column. `kind` is the kernel's; a choice is written as the
    one of `choices` that the column gives the index of.
    """

    kind: int
    choices: tuple[bytes, ...] = ()


INTEGER: Final = Column(0)
THOUSANDTHS: Final = Column(1)  # 1500 is written 1.5, as floats are in JSON


def choice(*texts: bytes) -> Column:
    """A column of indexes into `texts`."""
    return Column(2, texts)


@dataclass(frozen=True)
class Template:
    """JSON objects that begin with their `sku`, the record's key; `parts`, texts and columns in
    turn, are all that follows, up to the closing brace. One of `headers` may be `ID`.
    """

    parts: Sequence[bytes | Column]
    headers: Headers = ()

    @cached_property
    def columns(self) -> list[Column]:
        """In the order of the arrays' columns."""
        return [part for part in self.parts if isinstance(part, Column)]

    @cached_property
    def texts(self) -> list[bytes]:
        """Around the SKU and the columns, one more than there are of these together."""
        texts = [b'{"sku":"', b'"']
        for part in self.parts:
            if isinstance(part, Column):
                texts.append(b"")
            else:
                texts[-1] += part
        texts[-1] += b"}"
        return texts

    @cached_property
    def around_id(self) -> tuple[bytes, bytes]:
        """The headers before and after the id."""
        before, _, after = headers_of(self.headers).partition(ID)
        return before, after

    @property
    def identified(self) -> bool:
        """Whether each record has an id."""
        return any(content == ID for _, content in self.headers)

    @property
    def record_bytes_max(self) -> int:
        """Of one record, its SKU included."""
        columns = sum(max(map(len, one.choices), default=_NUMBER_BYTES_MAX) for one in self.columns)
        fixed = sum(map(len, (*self.texts, *self.around_id, ID)))
        return fixed + columns + (1 + 6) * SKU_BYTES_MAX + _FRAMING_BYTES_MAX  # key, escaped

    @cached_property
    def layout(self) -> "write_kernel.Layout":
        """For the kernel."""
        pieces = [*self.texts, *self.around_id]
        kinds = np.array([column.kind for column in self.columns], np.int64)
        for column in self.columns:
            pieces += column.choices
        size = np.array([len(piece) for piece in pieces], np.int64)
        texts = np.frombuffer(b"".join(pieces) + bytes(write_kernel.SLACK), np.uint8)
        return write_kernel.Layout(kinds, texts, np.cumsum(size) - size, size)

    def pieces_of(self, columns: Int64s) -> Int64s:
        """`columns` [n, k] with the pieces' numbers in place of the choices'."""
        first = len(self.texts) + len(self.around_id)
        offsets = []
        for column in self.columns:
            offsets.append(first if column.choices else 0)
            first += len(column.choices)
        return columns + np.array(offsets, np.int64)


def encode_templated(
    template: Template,
    names: NameArrays,
    rows: Int64s,
    columns: Int64s,
    ids: Bytes = NO_IDS,
    bytes_max: int = BYTES_MAX,
) -> list[RecordBatch]:
    """One record a row: `columns` int64 [n, k], none negative, in the order of `rows`; `ids` uint8
    [n, 16] where the template has a place for them.
    """
    assert columns.min(initial=0) >= 0, "counts, money and times are never negative"
    assert len(ids) == (len(rows) if template.identified else 0), "an id for each record, or none"
    _require_room(names, rows)
    if not COMPILED:
        return encode_records(_plain(template, names, rows, columns, ids), bytes_max)
    pieces = template.pieces_of(columns)
    return _filled(
        lambda first, out, room: write_kernel.templated(
            first, names, rows, template.layout, pieces, ids, out, room
        ),
        len(rows),
        template.record_bytes_max,
        bytes_max,
    )


def encode_windows(
    bucket_start_ms: int,
    bucket_ms: int,
    names: NameArrays,
    rows: Int64s,
    counts: Int64s,
    bytes_max: int = BYTES_MAX,
) -> list[RecordBatch]:
    """`demand-windows` of one closed bucket: one DemandWindow a row, key = SKU, no headers.

    `counts` int64 [n, 8]: the rest of DemandWindow's fields, in their order.
    """
    parts: list[bytes | Column] = [
        b',"bucket_start_ms":%d,"bucket_ms":%d' % (bucket_start_ms, bucket_ms)
    ]
    for field in DemandWindow.__struct_fields__[3:]:
        parts += [b',"%s":' % field.encode(), INTEGER]
    return encode_templated(Template(parts), names, rows, counts, bytes_max=bytes_max)


def encode_rows(
    names: NameArrays, rows: Int64s, values: Bytes, bytes_max: int = BYTES_MAX
) -> list[RecordBatch]:
    """Changelog records: key = the row's SKU, value = `values[i]`, uint8 [n, W], of `rows[i]`."""
    _require_room(names, rows)
    if not COMPILED:
        return encode_records(
            ((names.name(row), values[i].tobytes(), ()) for i, row in enumerate(rows.tolist())),
            bytes_max,
        )
    return _filled(
        lambda first, out, room: write_kernel.rows(first, names, rows, values, out, room),
        len(rows),
        values.shape[1] + SKU_BYTES_MAX + _FRAMING_BYTES_MAX,
        bytes_max,
    )


def _require_room(names: NameArrays, rows: Int64s) -> None:
    """The kernels write where they are told to: room is made for names of SKU_BYTES_MAX."""
    assert names.length[rows].max(initial=0) <= SKU_BYTES_MAX, "a SKU longer than the contract's"


def _filled(
    put: Callable[[int, Bytes, int], tuple[int, int]],
    total: int,
    record_bytes_max: int,
    bytes_max: int,
) -> list[RecordBatch]:
    """Batches of `total` records: `put(first, out, room)` fills one and says (bytes, records)."""
    room = bytes_max - HEADER_BYTES
    size = min(room, total * record_bytes_max) + record_bytes_max
    out = np.empty(size, np.uint8)
    batches: list[RecordBatch] = []
    first = 0
    while first < total:
        filled, count = put(first, out, room)
        batches.append(RecordBatch(out[:filled].tobytes(), count))
        first += count
    return batches


def _plain(
    template: Template, names: NameArrays, rows: Int64s, columns: Int64s, ids: Bytes
) -> Iterator[tuple[bytes, bytes, Headers]]:
    """What the kernel does, record by record: its meaning, and for where there is no compiler."""
    first, *texts = template.texts
    for i, (row, numbers) in enumerate(zip(rows.tolist(), columns.tolist(), strict=True)):
        key = names.name(row)
        value = first + msgspec.json.encode(key.decode())[1:-1] + texts[0]
        for column, number, text in zip(template.columns, numbers, texts[1:], strict=True):
            value += _written(column, number) + text
        own = str(uuid.UUID(bytes=ids[i].tobytes())).encode() if template.identified else b""
        yield key, value, [(name, own if text == ID else text) for name, text in template.headers]


def _written(column: Column, number: int) -> bytes:
    if column.kind == THOUSANDTHS.kind:
        return repr(number / 1_000).encode()
    return column.choices[number] if column.choices else b"%d" % number
