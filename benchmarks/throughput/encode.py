"""Columns to record batches (format v2) without a loop over events: a matrix of bytes, one record a
row, every field at its greatest width, and a mask of the bytes that are there.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.throughput.workload import TOPICS, Int64s, Workload
from streams.codec.write import RecordBatch

RECORDS_MAX = 5_000  # a batch stays below 900,000 bytes
SKU_DIGITS, USER_DIGITS, PRICE_DIGITS, TIME_DIGITS, ID_DIGITS = 6, 5, 5, 13, 12
HEX = np.frombuffer(b"0123456789abcdef", np.uint8)

Matrix = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Part = tuple[Matrix, Mask]


class Encoded(NamedTuple):
    batch: RecordBatch
    timestamp_ms: int  # that it must be sent with
    value_bytes: int  # of all its values together


def batches(
    work: Workload, kind: int, partition: int, records_max: int = RECORDS_MAX
) -> Iterator[Encoded]:
    """Everything of one topic partition, in order."""
    chosen = np.flatnonzero((work.kind == kind) & (work.partition == partition))
    event_id = work.event_id
    for begin in range(0, len(chosen), records_max):
        rows = chosen[begin : begin + records_max]
        records, value_bytes = _records(work, event_id, kind, rows)
        timestamp_ms = int(work.event_time_ms[rows[0]])
        yield Encoded(RecordBatch(records, len(rows)), timestamp_ms, value_bytes)


def _records(work: Workload, event_id: Int64s, kind: int, rows: Int64s) -> tuple[bytes, int]:
    (record, there), value_bytes = record_matrix(work, event_id, kind, rows, np.zeros_like(rows))
    return record[there].tobytes(), value_bytes


def record_matrix(
    work: Workload, event_id: Int64s, kind: int, rows: Int64s, first: Int64s
) -> tuple[Part, int]:
    """One record of each of `rows`, and the bytes of all values; `first[i]` says at which place of
    `rows` the batch of record i begins.
    """
    count = len(rows)

    def text(literal: bytes) -> Part:
        return _all_there(np.broadcast_to(np.frombuffer(literal, np.uint8), (count, len(literal))))

    sku = _digits(work.sku[rows], SKU_DIGITS)
    parts = [
        text(b'{"event_id":"'),
        _hexadecimal(event_id[rows]),
        text(b'","sku":"S'),
        _all_there(sku),
        text(b'","user_id":"u'),
        _number(work.user[rows], USER_DIGITS),
        text(b'","event_time_ms":'),
        _number(work.event_time_ms[rows], TIME_DIGITS),
        text(b',"price_cents":'),
        _number(work.price_cents[rows], PRICE_DIGITS),
    ]
    if TOPICS[kind] != "clicks":
        parts += [text(b',"quantity":'), _number(work.quantity[rows], 1)]
    value, there = _joined([*parts, text(b"}")])
    key = [text(_varint(1 + SKU_DIGITS) + b"S"), _all_there(sku)]
    times_ms = work.event_time_ms[rows]
    framing = [
        text(b"\0"),
        _varints(times_ms - times_ms[first]),
        _varints(np.arange(count) - first),
    ]
    body, body_there = _joined(
        [*framing, *key, _varints(there.sum(axis=1)), (value, there), text(b"\0")]
    )
    return _joined([_varints(body_there.sum(axis=1)), (body, body_there)]), int(there.sum())


def _joined(parts: list[Part]) -> Part:
    return np.hstack([matrix for matrix, _ in parts]), np.hstack([mask for _, mask in parts])


def _all_there(matrix: Matrix) -> Part:
    return matrix, np.ones(matrix.shape, np.bool_)


def _digits(values: Int64s, width: int) -> Matrix:
    """Decimal, with leading zeros: uint8 [n, width]."""
    powers = 10 ** np.arange(width - 1, -1, -1)
    return (values[:, None] // powers % 10 + ord("0")).astype(np.uint8)


def _number(values: Int64s, width: int) -> Part:
    """Decimal, as JSON has it: without leading zeros."""
    powers = 10 ** np.arange(width - 1, -1, -1)
    there = (values[:, None] >= powers) | (powers == 1)
    return _digits(values, width), there


def _hexadecimal(values: Int64s) -> Part:
    shifts = 4 * np.arange(ID_DIGITS - 1, -1, -1)
    return _all_there(HEX[values[:, None] >> shifts & 15])


def _varints(values: Int64s) -> Part:
    """Zigzag varints of numbers from 0 to 1,048,575: one to three bytes."""
    groups = (2 * values)[:, None] >> np.array([0, 7, 14])
    goes_on = groups > 127
    matrix = (groups & 127 | goes_on * 128).astype(np.uint8)
    return matrix, np.hstack([np.ones((len(values), 1), np.bool_), goes_on[:, :2]])


def _varint(value: int) -> bytes:
    assert 0 <= value < 64
    return bytes([2 * value])
