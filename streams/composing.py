"""A checkpoint as the batches that are sent: few of them, since those of one topic partition go one
request after the other, and small.
"""

from collections.abc import Sequence
from typing import Final

from streams import topics
from streams.checkpoint import Checkpoint, Output
from streams.codec.compression import compressed
from streams.merging import merged, with_last
from streams.settings import Compression
from streams.state import changelog

BULKY: Final = (topics.DEMAND_WINDOWS, topics.DEMAND_FORECASTS, topics.CHANGELOG)


def steps_of(
    checkpoint: Checkpoint,
    forgotten: Sequence[bytes],
    identity: bytes | None,
    compression: Compression,
    *,
    marker_apart: bool,
) -> list[list[Output]]:
    """All that is sent, in the order of a delivery: head of the changelog, outputs, rows and, last
    of all, the marker, as a step of its own where it is `marker_apart`. `forgotten` and `identity`
    as in `changelog.encode`.
    """
    encoded = changelog.encode(checkpoint, forgotten, identity)
    if marker_apart:
        rows = [encoded.rows, [encoded.marker]]
    else:
        rows = [with_last(encoded.rows, encoded.marker)]
    head, *behind = (
        [Output(topics.CHANGELOG, batch) for batch in batches] for batches in (encoded.head, *rows)
    )
    steps = [head, merged(checkpoint.outputs), *behind]
    return [[_compressed(output, compression) for output in step] for step in steps]


def _compressed(output: Output, compression: Compression) -> Output:
    if output.topic not in BULKY:
        return output
    return Output(output.topic, compressed(output.batch, compression))
