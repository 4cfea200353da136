"""A file of shop events, read into columns: Parquet, CSV or JSON lines.

Prices become whole cents and times whole milliseconds by rounding: 16.989999771118164, as a
float32 holds 16.99, is 1699 cents. What a row lacks stays lacking: the worker says so, not the
reader.
"""

import hashlib
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv, json, parquet

from streams.errors import ConfigurationError
from streams.records import (
    EVENT_TIME_MS_MAX,
    EVENT_TIME_MS_MIN,
    PRICE_CENTS_MAX,
    QUANTITY_MAX,
    Kind,
)

TimeUnit = Literal["auto", "s", "ms", "us", "ns"]
_MS_PER: Final = {"s": 1e3, "ms": 1.0, "us": 1e-3, "ns": 1e-6}
_UNIT_BELOW: Final[tuple[tuple[float, TimeUnit], ...]] = (
    (1e11, "s"),
    (1e14, "ms"),
    (1e17, "us"),
    (np.inf, "ns"),
)
_HASH_CHUNK: Final = 1 << 20
FAR_OFF_SHARE: Final = 0.001  # a group of rows this small, this far from all others, is outlying
FAR_OFF_MS: Final = 7 * 86_400_000


@dataclass(frozen=True)
class ColumnNames:
    """What the file calls its columns. A name the file does not have is taken as missing, except
    for time and SKU, which must be there.
    """

    time: str = "ts"
    type: str = "type"
    sku: str = "sku"
    user: str = "user"
    price: str = "price"
    quantity: str = "qty"
    session: str = "session"
    order_id: str = "order_id"
    time_unit: TimeUnit = "auto"
    types: dict[str, str] = field(default_factory=dict)  # the file's word -> click, cart or order
    only_type: str | None = None  # every row is this; then no type column is needed


@dataclass(frozen=True)
class FileEvents:
    """Rows as columns of length n, in the file's order. Text is None where the file has none."""

    row: NDArray[np.int64]  # number in the file, from 0
    kind: NDArray[np.int8]  # index in topics.EVENT_TOPICS; -1: a type that is none of the three
    event_time_ms: NDArray[np.int64]
    has_time: NDArray[np.bool_]
    sku: NDArray[np.object_]
    user: NDArray[np.object_]
    price_cents: NDArray[np.int64]
    has_price: NDArray[np.bool_]
    quantity: NDArray[np.float64]  # NaN: missing; 1 for clicks that have none
    session: NDArray[np.object_]
    order_id: NDArray[np.object_]

    def __len__(self) -> int:
        return len(self.row)

    @property
    def usable(self) -> NDArray[np.bool_]:
        """[n] rows that keep the wire contract, as far as columns can tell."""
        whole = np.isfinite(self.quantity) & (np.floor(self.quantity) == self.quantity)
        good: NDArray[np.bool_] = (
            (self.kind >= 0)
            & self.has_time
            & (self.event_time_ms >= EVENT_TIME_MS_MIN)
            & (self.event_time_ms < EVENT_TIME_MS_MAX)
            & self.has_price
            & (self.price_cents >= 0)
            & (self.price_cents <= PRICE_CENTS_MAX)
            & whole
            & (self.quantity >= 1)
            & (self.quantity <= QUANTITY_MAX)
            & (self.sku != None)  # noqa: E711 - elementwise
            & (self.user != None)  # noqa: E711
        )
        return good

    def selected(self, chosen: NDArray[Any]) -> "FileEvents":
        """The rows of a mask or of indexes, in that order."""
        return FileEvents(**{name: column[chosen] for name, column in vars(self).items()})


@dataclass(frozen=True)
class LookOver:
    """What a first look at a file's rows found."""

    rows: int
    kinds: dict[str, int]
    skus: int
    first_ms: int
    last_ms: int
    without_time: int
    unknown_types: int
    incomplete: int  # rows that will be dead letters
    out_of_order: int  # rows earlier than a row before them
    too_small_times: int  # below 10^12: seconds, not milliseconds
    in_the_future: int
    far_off: list[tuple[int, int, int]]  # (rows, first_ms, last_ms) far from all others

    @property
    def outlying(self) -> bool:
        """Whether any row's time is doubtful."""
        return bool(self.without_time or self.too_small_times or self.in_the_future or self.far_off)


@dataclass(frozen=True)
class EventFile:
    """A file that has been opened and whose columns are known."""

    path: Path
    names: ColumnNames
    table: pa.Table

    @classmethod
    def open(cls, path: Path, names: ColumnNames | None = None) -> "EventFile":
        """Raises ConfigurationError when the file cannot be read or lacks time, type or SKU."""
        names = names or ColumnNames()
        table = _table(path)
        needed = [names.time, names.sku] + ([] if names.only_type else [names.type])
        absent = [name for name in needed if name not in table.column_names]
        if absent:
            raise ConfigurationError(
                f"{path}: no column {', '.join(map(repr, absent))}; the file has "
                f"{', '.join(table.column_names)}: name them with the column options"
            )
        words = {**names.types, **({names.only_type: names.only_type} if names.only_type else {})}
        wrong = sorted(set(words.values()) - {kind.value for kind in Kind})
        if wrong:
            raise ConfigurationError(f"event type {wrong[0]!r}: allowed are click, cart, order")
        return cls(path, names, table)

    def digest(self) -> str:
        """The first 16 hex digits of the file's SHA-256: event ids are this and the row number."""
        total = hashlib.sha256()
        with self.path.open("rb") as file:
            while chunk := file.read(_HASH_CHUNK):
                total.update(chunk)
        return total.hexdigest()[:16]

    def read(self) -> FileEvents:
        """All rows as columns."""
        names, rows = self.names, self.table.num_rows
        time_ms, has_time = self._time_ms()
        price, has_price = self._numbers(names.price)
        quantity, has_quantity = self._numbers(names.quantity)
        kind = self._kind()
        quantity[~has_quantity] = np.nan
        quantity[kind == 0] = 1.0  # a click has none
        return FileEvents(
            row=np.arange(rows),
            kind=kind,
            event_time_ms=time_ms,
            has_time=has_time,
            sku=self._text(names.sku),
            user=self._text(names.user),
            price_cents=np.rint(np.clip(np.nan_to_num(price * 100), -9e18, 9e18)).astype(np.int64),
            has_price=has_price,
            quantity=quantity,
            session=self._text(names.session),
            order_id=self._text(names.order_id),
        )

    def _kind(self) -> NDArray[np.int8]:
        order = [kind.value for kind in Kind]
        if self.names.only_type:
            index = order.index(self.names.only_type)
            return np.full(self.table.num_rows, index, dtype=np.int8)
        words = self._text(self.names.type)
        known = {word: order.index(kind) for word, kind in self.names.types.items()}
        known = {kind: index for index, kind in enumerate(order)} | known
        return np.asarray([known.get(word, -1) for word in words], dtype=np.int8)

    def _time_ms(self) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        column = self.table[self.names.time]
        if pa.types.is_timestamp(column.type):
            column = pc.cast(pc.cast(column, pa.timestamp("us", tz=column.type.tz)), pa.int64())
            values, present = _numpy(column)
            return np.rint(values / 1000.0).astype(np.int64), present
        values, present = self._numbers(self.names.time)
        unit = self.names.time_unit
        if unit == "auto":
            middle = float(np.median(np.abs(values[present]))) if present.any() else 0.0
            unit = next(name for below, name in _UNIT_BELOW if middle < below)
        scaled = np.nan_to_num(values) * _MS_PER[unit]
        return np.rint(np.clip(scaled, -9e18, 9e18)).astype(np.int64), present

    def _numbers(self, name: str) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        if name not in self.table.column_names:
            rows = self.table.num_rows
            return np.zeros(rows), np.zeros(rows, dtype=np.bool_)
        try:
            return _numpy(pc.cast(self.table[name], pa.float64(), safe=False))
        except pa.ArrowException as error:
            raise ConfigurationError(f"{self.path}: column {name!r}: {error}") from None

    def _text(self, name: str) -> NDArray[np.object_]:
        if name not in self.table.column_names:
            return np.full(self.table.num_rows, None, dtype=np.object_)
        try:
            words = pc.cast(self.table[name], pa.string()).to_pylist()
        except (UnicodeDecodeError, pa.ArrowException) as error:
            raise ConfigurationError(f"{self.path}: column {name!r}: {error}") from None
        return np.asarray(words, dtype=np.object_)


def _numpy(column: pa.ChunkedArray) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Values (0 where missing) and which are there; NaN counts as missing."""
    values = pc.fill_null(column, 0).to_numpy().astype(np.float64)
    present = pc.is_valid(column).to_numpy().astype(np.bool_)
    return values, present & ~np.isnan(values)


def _table(path: Path) -> pa.Table:
    readers = {
        ".parquet": parquet.read_table,
        ".csv": csv.read_csv,
        ".jsonl": json.read_json,
        ".ndjson": json.read_json,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ConfigurationError(
            f"{path}: a file of events ends in {', '.join(readers)}, not {path.suffix!r}"
        )
    try:
        table = reader(path)
        list(table.column_names)  # decoded here, or refused
        return table
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        raise ConfigurationError(f"{path}: {error}") from None


def look_over(events: FileEvents, now_ms: int, future_tolerance_ms: int) -> LookOver:
    """Count rows, types and doubtful times. A row is far off when a gap of more than a week parts
    it, and at most one row in a thousand with it, from all others.
    """
    known = events.has_time & (events.kind >= 0)
    times = np.sort(events.event_time_ms[known])
    in_file_order = events.event_time_ms[known]
    greatest = np.maximum.accumulate(in_file_order) if len(times) else in_file_order
    counts = np.bincount(events.kind[events.kind >= 0], minlength=len(Kind))
    return LookOver(
        rows=len(events),
        kinds={kind.value: int(count) for kind, count in zip(Kind, counts, strict=True)},
        skus=len(set(events.sku) - {None}),
        first_ms=int(times[0]) if len(times) else 0,
        last_ms=int(times[-1]) if len(times) else 0,
        without_time=int((~events.has_time).sum()),
        unknown_types=int((events.kind < 0).sum()),
        incomplete=int((~events.usable & (events.kind >= 0)).sum()),
        out_of_order=int((in_file_order < greatest).sum()),
        too_small_times=int((times < EVENT_TIME_MS_MIN).sum()),
        in_the_future=int((times > now_ms + future_tolerance_ms).sum()),
        far_off=_far_off(times),
    )


def _far_off(times: NDArray[np.int64]) -> list[tuple[int, int, int]]:
    """Small groups of sorted `times` beyond a wide gap, at either end."""
    few = math.ceil(len(times) * FAR_OFF_SHARE) if len(times) > 100 else 0
    gaps = np.flatnonzero(np.diff(times) > FAR_OFF_MS) + 1  # first index after each gap
    groups = []
    low = gaps[gaps <= few]
    if len(low):
        groups.append((int(low[-1]), int(times[0]), int(times[low[-1] - 1])))
    high = gaps[gaps >= len(times) - few]
    if len(high):
        groups.append((len(times) - int(high[0]), int(times[high[0]]), int(times[-1])))
    return groups
