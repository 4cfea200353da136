"""A checkpoint's batches: all of it, in order, none larger than the broker takes."""

import numpy as np
import pytest

from streams.checkpoint import Checkpoint, Output
from streams.codec.batches import read_batches
from streams.codec.decode import Fetch
from streams.codec.write import BYTES_MAX
from streams.composing import steps_of
from streams.settings import Compression
from streams.state.changelog import IDENTITY_KEY
from streams.state.marker import MARKER_KEY, MARKER_VERSION, Marker
from streams.state.partition_reader import log_records

WIDTH = 1_000


def checkpoint(rows: np.ndarray) -> Checkpoint:
    names = [b"S%06d" % number for number in range(len(rows))]
    return Checkpoint(0, [], names, rows, [], Marker(MARKER_VERSION, 0, {"carts": 1}, 0, {}))


def dull(count: int) -> Checkpoint:
    """Rows that shrink as far as any."""
    return checkpoint(np.zeros((count, WIDTH), np.uint8))


def noisy(count: int) -> Checkpoint:
    """Rows that do not shrink."""
    return checkpoint(np.random.default_rng(1).integers(0, 256, (count, WIDTH), dtype=np.uint8))


def records(steps: list[list[Output]]) -> list[tuple[bytes | None, bytes | None]]:
    """Keys and values as a broker would hand them out."""
    found, at = [], 0
    for output in (one for step in steps for one in step):
        raw = output.batch.whole(at, 1_700_000_000_000)
        end = at + output.batch.count
        data, _ = read_batches(raw, at)
        found += [one[1:3] for one in log_records(Fetch("changelog", 0, at, end, data))]
        at = end
    return found


@pytest.mark.parametrize("marker_apart", [False, True])
@pytest.mark.parametrize("compression", ["none", "lz4", "zstd"])
def test_what_is_sent_is_the_checkpoint(compression: Compression, marker_apart: bool) -> None:
    for one in (dull(4_000), noisy(4_000), dull(20_000), dull(0)):
        steps = steps_of(one, [b"gone"], b"which log", compression, marker_apart=marker_apart)
        found = records(steps)
        rows = [(name, row.tobytes()) for name, row in zip(one.names, one.rows, strict=True)]
        assert found[:2] == [(IDENTITY_KEY, b"which log"), (b"gone", None)]
        assert found[2:-1] == rows
        assert found[-1][0] == MARKER_KEY
        assert len(steps) == 3 + marker_apart
        assert (steps[-1][-1].batch.count == 1) or not marker_apart
        assert max(output.batch.size_bytes for step in steps for output in step) <= BYTES_MAX
