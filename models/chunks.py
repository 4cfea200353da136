"""Rows of several memories as one batch, cut into chunks of at most so many rows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

Part = tuple[Tensor, NDArray[Any]]  # the hidden states f32[capacity, H] of a memory, rows i8[n]


@dataclass(frozen=True)
class Chunk:
    """Where its rows lie in the batch, and whose they are."""

    span: slice
    pieces: list[tuple[Tensor, NDArray[Any], slice]]  # hidden states, rows, place in the chunk

    @property
    def rows(self) -> int:
        """How many."""
        return int(self.span.stop - self.span.start)


def chunks(parts: Sequence[Part], rows_max: int) -> Iterator[Chunk]:
    """Packs the parts, in order; no chunk is empty."""
    begin = count = 0
    pieces: list[tuple[Tensor, NDArray[Any], slice]] = []
    for hidden, rows in parts:
        at = 0
        while at < len(rows):
            taken = rows[at : at + rows_max - count]
            pieces.append((hidden, taken, slice(count, count + len(taken))))
            at += len(taken)
            count += len(taken)
            if count == rows_max:
                yield Chunk(slice(begin, begin + count), pieces)
                begin, count, pieces = begin + count, 0, []
    if count:
        yield Chunk(slice(begin, begin + count), pieces)
