"""How a batch of rows goes through the network on the CPU: in chunks that stay in the cache."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.cell_kernel import close_gates
from models.chunks import Chunk, Part, chunks
from models.gru import ANSWERS, Cell, Network
from models.jit import COMPILED

Array = NDArray[Any]

CHUNK_ROWS: Final = 2_048


class HostRunner:
    """Keeps the room that chunks need from one call to the next; for one thread at a time."""

    def __init__(self, network: Network, chunk_rows: int = CHUNK_ROWS) -> None:
        self.network = network
        self.cell = Cell(network)
        self.chunk_rows = chunk_rows
        size = network.config.hidden_size
        self._before = torch.empty(chunk_rows, size)
        self._from_input = torch.empty(chunk_rows, 3 * size)
        self._from_hidden = torch.empty(chunk_rows, 3 * size)

    def room(self, _name: str, rows: int, columns: int) -> Array:
        """f4[rows, columns] to be filled with what a call takes."""
        return np.empty((rows, columns), np.float32)

    def step(self, parts: Sequence[Part], features: Array) -> Array:
        """Takes features f4[n, F] of all rows of `parts` into their hidden states; b1[n] whose
        state failed and starts anew.
        """
        failed = np.zeros(len(features), np.bool_)
        step = self._step_compiled if COMPILED else self._step_plain
        for chunk in chunks(parts, self.chunk_rows):
            step(chunk, torch.from_numpy(features[chunk.span]), failed[chunk.span])
        return failed

    def _step_compiled(self, chunk: Chunk, features: Tensor, failed: Array) -> None:
        cell, before = self.cell, self._gathered(chunk)
        inputs = self.network.normalised(features)
        x = torch.addmm(
            cell.input_bias, inputs, cell.input_weight, out=self._from_input[: chunk.rows]
        ).numpy()
        h = torch.addmm(
            cell.hidden_bias, before, cell.hidden_weight, out=self._from_hidden[: chunk.rows]
        ).numpy()
        old = before.numpy()
        for hidden, rows, at in chunk.pieces:
            close_gates(x[at], h[at], old[at], rows, hidden.numpy(), failed[at])

    def _step_plain(self, chunk: Chunk, features: Tensor, failed: Array) -> None:
        after, bad = self.cell.checked_step(features, self._gathered(chunk))
        for hidden, rows, at in chunk.pieces:
            hidden.index_copy_(0, torch.from_numpy(rows), after[at])
        failed[:] = bad.numpy()

    def answers(self, parts: Sequence[Part], asked: Array) -> Array:
        """f4[n, ANSWERS] to what is asked f4[n, ASKED] of all rows of `parts`."""
        out = np.empty((len(asked), ANSWERS), np.float32)
        for chunk in chunks(parts, self.chunk_rows):
            question = torch.from_numpy(asked[chunk.span])
            out[chunk.span] = self.network.answers(question, self._gathered(chunk)).numpy()
        return out

    def _gathered(self, chunk: Chunk) -> Tensor:
        """Hidden states of the chunk's rows, f32[n, H]."""
        for hidden, rows, at in chunk.pieces:
            torch.index_select(hidden, 0, torch.from_numpy(rows), out=self._before[at])
        return self._before[: chunk.rows]
