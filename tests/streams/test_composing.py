"""A checkpoint's batches: all of it, in order, in as few as the broker takes."""

import numpy as np
import pytest

from streams.checkpoint import Checkpoint
from streams.codec.batches import read_batches
from streams.codec.decode import Fetch
from streams.codec.write import BYTES_MAX
from streams.composing import SHRINK_MAX, TELLING_BYTES, Composer, Steps
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


def records(steps: Steps) -> list[tuple[bytes | None, bytes | None]]:
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
def test_what_is_sent_is_the_checkpoint_whatever_was_sent_before(
    compression: str, marker_apart: bool
) -> None:
    composer = Composer(compression, marker_apart=marker_apart)
    for one in (dull(4_000), noisy(4_000), dull(20_000), dull(0)):
        steps = composer.steps(one, [b"gone"], b"which log")
        found = records(steps)
        rows = [(name, row.tobytes()) for name, row in zip(one.names, one.rows, strict=True)]
        assert found[:2] == [(IDENTITY_KEY, b"which log"), (b"gone", None)]
        assert found[2:-1] == rows
        assert found[-1][0] == MARKER_KEY
        assert len(steps) == 3 + marker_apart
        assert (steps[-1][-1].batch.count == 1) or not marker_apart
        assert max(output.batch.size_bytes for step in steps for output in step) <= BYTES_MAX


def test_rows_go_in_one_batch_once_it_is_known_how_far_they_shrink() -> None:
    composer = Composer("lz4", marker_apart=False)
    count = 3 * BYTES_MAX // WIDTH
    assert len(composer.steps(dull(count), [], None)[2]) == 4
    assert len(composer.steps(dull(3), [], None)[2]) == 1
    assert 3 * WIDTH < TELLING_BYTES, "and a few rows in between change nothing"
    assert len(composer.steps(dull(count), [], None)[2]) == 1
    many = int(SHRINK_MAX) * 2 * BYTES_MAX // WIDTH
    assert len(composer.steps(dull(many), [], None)[2]) == 3, "what one may unpack to is bounded"
    assert len(composer.steps(noisy(count), [], None)[2]) == 4
    assert len(composer.steps(dull(count), [], None)[2]) == 4


def test_nothing_is_put_together_where_nothing_is_compressed() -> None:
    composer = Composer("none", marker_apart=False)
    count = 3 * BYTES_MAX // WIDTH
    for _ in range(2):
        assert len(composer.steps(dull(count), [], None)[2]) == 4
