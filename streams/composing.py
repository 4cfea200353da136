"""A checkpoint as the batches that are sent: few of them, since those of one topic partition go one
request after the other, and small.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal

from streams import topics
from streams.checkpoint import Checkpoint, Output
from streams.codec.compression import compressed
from streams.codec.write import BYTES_MAX
from streams.merging import merged, with_last
from streams.state import changelog

BULKY: Final = (topics.DEMAND_WINDOWS, topics.DEMAND_FORECASTS, topics.CHANGELOG)
# The broker limits what a batch has when compressed. How far rows shrink changes little from one
# checkpoint to the next.
SHRINK_MAX: Final = 8.0
MARGIN: Final = 0.9
TELLING_BYTES: Final = 100_000  # a few rows say nothing about many

Steps = list[list[Output]]


class Composer:
    """Of one emitter. `marker_apart`: the marker is a step of its own, after the rows."""

    def __init__(self, compression: Literal["none", "lz4", "zstd"], *, marker_apart: bool) -> None:
        self._compression = compression
        self._marker_apart = marker_apart
        self._rows_bytes_max = BYTES_MAX  # of a batch before it is compressed

    def steps(
        self, checkpoint: Checkpoint, forgotten: Sequence[bytes], identity: bytes | None
    ) -> Steps:
        """In the order of a delivery: head of the changelog, outputs, rows and marker. Arguments
        as of `changelog.encode`.
        """
        encoded, rows, packed = self._rows(checkpoint, forgotten, identity, self._rows_bytes_max)
        if self._rows_bytes_max > BYTES_MAX and _size(max, packed) > BYTES_MAX:  # shrank less now
            encoded, rows, packed = self._rows(checkpoint, forgotten, identity, BYTES_MAX)
        if _size(sum, rows) > TELLING_BYTES:
            shrunk = MARGIN * _size(sum, rows) / _size(sum, packed)
            self._rows_bytes_max = int(BYTES_MAX * min(max(shrunk, 1.0), SHRINK_MAX))
        head = [Output(topics.CHANGELOG, batch) for batch in encoded.head]
        return [*self._compressed([head, merged(checkpoint.outputs)]), *packed]

    def _rows(
        self,
        checkpoint: Checkpoint,
        forgotten: Sequence[bytes],
        identity: bytes | None,
        bytes_max: int,
    ) -> tuple[changelog.Encoded, Steps, Steps]:
        """The changelog's records; rows and marker as steps, and these compressed."""
        encoded = changelog.encode(checkpoint, forgotten, identity, bytes_max)
        if self._marker_apart:
            batches = [encoded.rows, [encoded.marker]]
        else:
            batches = [with_last(encoded.rows, encoded.marker, bytes_max)]
        rows = [[Output(topics.CHANGELOG, batch) for batch in step] for step in batches]
        return encoded, rows, self._compressed(rows)

    def _compressed(self, steps: Iterable[Iterable[Output]]) -> Steps:
        return [[self._one(output) for output in step] for step in steps]

    def _one(self, output: Output) -> Output:
        if output.topic not in BULKY:
            return output
        return Output(output.topic, compressed(output.batch, self._compression))


def _size(of: Callable[[Iterable[int]], int], steps: Steps) -> int:
    """The sum or maximum of all batches, in bytes."""
    return of(output.batch.size_bytes for step in steps for output in step)
