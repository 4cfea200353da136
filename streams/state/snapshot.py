"""The bytes of one SKU's row, as they stand in the changelog and in the local copy.

    crc32c u32 | version u16 | schema u32 | fields, each little-endian, in the order of the schema

The checksum covers everything behind itself. `schema` is a hash of the fields' names, types and
shapes, so that a release that lays rows out differently refuses them instead of misreading them.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import compress, islice
from typing import Any, Final

import numpy as np
from aiokafka.record.util import calc_crc32c
from numpy.typing import NDArray

from models.jit import COMPILED
from streams.errors import StateError

if COMPILED:
    from streams.codec.crc_kernel import HAS_INSTRUCTION, checksums

Rows = NDArray[np.uint8]  # [n, row width]

CRC_BYTES: Final = 4
HEADER: Final = [("crc32c", "<u4"), ("version", "<u2"), ("schema", "<u4")]
HEADER_BYTES: Final = np.dtype(HEADER).itemsize
VERSION_MAX: Final = 2**16 - 1
CHECKED_AT_ONCE: Final = 4_096
ALL_AT_ONCE: Final = COMPILED and HAS_INSTRUCTION


class RowSchema:
    """How one row's fields lie in its bytes; built from arrays like those to be packed.

    Raises ValueError when a field cannot be laid out: only booleans, integers and floats of fixed
    size can.
    """

    def __init__(self, version: int, examples: Mapping[str, NDArray[Any]]) -> None:
        """`examples` maps a field's name to an array [any n, ...]; the version counts changes of
        meaning that names, types and shapes do not show.
        """
        if not 0 <= version <= VERSION_MAX:
            raise ValueError(f"schema version {version}: 0 to {VERSION_MAX}")
        fields: list[tuple[str, str, tuple[int, ...]]] = []
        for name, array in examples.items():
            if array.dtype.kind not in "biuf" or array.ndim == 0:
                raise ValueError(f"field {name!r} has dtype {array.dtype}, shape {array.shape}")
            fields.append((name, array.dtype.newbyteorder("<").str, array.shape[1:]))
        self.version = version
        self.names = tuple(examples)
        self.hash = calc_crc32c(repr(fields).encode())
        self._dtype = np.dtype([*HEADER, *((f"field {name}", *rest) for name, *rest in fields)])

    @property
    def width(self) -> int:
        """Bytes of one row."""
        return self._dtype.itemsize

    def pack(self, fields: Mapping[str, NDArray[Any]]) -> Rows:
        """uint8 [n, width] of arrays [n, ...], one for each field of the schema."""
        assert fields.keys() == set(self.names), fields.keys() ^ set(self.names)
        table = np.empty(len(next(iter(fields.values()))), self._dtype)
        table["version"] = self.version
        table["schema"] = self.hash
        for name, array in fields.items():
            column = table[f"field {name}"]
            assert array.shape == column.shape, f"{name}: {array.shape}, not {column.shape}"
            column[...] = array
        rows = table.view(np.uint8).reshape(len(table), self.width)
        table["crc32c"] = _checksums(rows)
        return rows

    def unpack(self, rows: Rows) -> dict[str, NDArray[Any]]:
        """The fields [n, ...] of uint8 [n, width]. Raises StateError when the rows are of another
        schema, or hold a byte for a boolean that is none; whether they are intact, `stack` says.
        """
        if rows.shape[1] < HEADER_BYTES:
            raise StateError(f"a row has {rows.shape[1]} bytes, fewer than its header")
        header = np.ascontiguousarray(rows[:, :HEADER_BYTES]).view(np.dtype(HEADER))[:, 0]
        foreign = (header["version"] != self.version) | (header["schema"] != self.hash)
        if foreign.any() or (len(rows) and rows.shape[1] != self.width):
            first = int(np.argmax(foreign))
            raise StateError(
                f"{int(foreign.sum())} of {len(rows)} rows have another layout: version "
                f"{header['version'][first]}, schema {header['schema'][first]:08x}, "
                f"{rows.shape[1]} bytes; this release and its settings read version "
                f"{self.version}, schema {self.hash:08x}, {self.width} bytes. Run the release and "
                "settings that wrote them; or, to process all input again, stop the workers, "
                "delete and create the changelog topic, and delete the group's offsets"
            )
        if not len(rows):
            rows = np.empty((0, self.width), np.uint8)
        table = np.ascontiguousarray(rows).view(self._dtype)[:, 0]
        fields = {name: table[f"field {name}"].copy() for name in self.names}
        for name, values in fields.items():
            # numpy counts by adding bytes up: any but 0 and 1 would send it beyond its arrays
            if values.dtype == np.bool_ and values.view(np.uint8).max(initial=0) > 1:
                raise StateError(
                    f"rows hold {name} = {values.view(np.uint8).max()}, no truth value"
                )
        return fields


def is_intact(value: bytes) -> bool:
    """Whether a packed row is as long as its header and has the checksum that it states."""
    crc = int.from_bytes(value[:CRC_BYTES], "little")
    return len(value) >= HEADER_BYTES and calc_crc32c(memoryview(value)[CRC_BYTES:]) == crc


def stack(values: Sequence[bytes]) -> tuple[Rows, list[int]]:
    """The intact ones of packed rows as uint8 [n, width], and the indexes of the others.

    Raises StateError when intact rows differ in width: two layouts in one changelog.
    """
    if len(set(map(len, values))) == 1 and len(values[0]) >= HEADER_BYTES:
        rows = joined(values)
        stated = np.ascontiguousarray(rows[:, :CRC_BYTES]).view("<u4")[:, 0]
        wrong = stated != _checksums(rows)
        return (rows[~wrong] if wrong.any() else rows), np.flatnonzero(wrong).tolist()
    good = [is_intact(value) for value in values]
    bad = [index for index, fine in enumerate(good) if not fine]
    return joined(list(compress(values, good))), bad


def joined(values: Sequence[bytes]) -> Rows:
    """Packed rows, known to be intact, as uint8 [n, width]. Raises StateError when they differ in
    width: two layouts in one changelog.
    """
    widths = {len(value) for value in values}
    if len(widths) > 1:
        raise StateError(
            f"the changelog holds rows of different layouts ({sorted(widths)} bytes): stop the "
            "workers, delete and create the changelog topic and delete the group's offsets, to "
            "process all input again"
        )
    width = widths.pop() if widths else HEADER_BYTES
    return np.frombuffer(b"".join(values), np.uint8).reshape(len(values), width)


def all_intact(values: Iterable[bytes]) -> bool:
    """Whether every packed row is, looked at some at a time."""
    waiting = iter(values)
    while several := list(islice(waiting, CHECKED_AT_ONCE)):
        if stack(several)[1]:
            return False
    return True


def _checksums(rows: Rows) -> NDArray[np.uint32]:
    """CRC32C of each row behind its checksum, uint32 [n]."""
    if ALL_AT_ONCE:
        return checksums(rows, CRC_BYTES)
    n, width = rows.shape
    data = memoryview(rows.tobytes())
    starts = range(0, n * width, width)
    sums = (calc_crc32c(data[start + CRC_BYTES : start + width]) for start in starts)
    return np.fromiter(sums, np.uint32, n)
