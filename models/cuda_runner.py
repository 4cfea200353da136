"""How a batch of rows goes through the network on CUDA: padded to a few fixed sizes, recorded.

Each size is one CUDA graph for the step and one for the heads: bf16 products in the cell, float32
state. What the host gives lies in pinned buffers that hold the whole batch, so no chunk writes over
what another still sends; hidden states never leave the device; the host waits once, at the end of
the batch, for the few bytes a row that come back.

        pinned features, index --copy--> graph's buffers --replay--> next state, failed
        hidden states of memories --gather--^                |--scatter--> the same memories
                                                             '--copy--> pinned, then the wait
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.chunks import Chunk, Part, chunks
from models.features import ASKED
from models.gru import ANSWERS, Cell, Network

Array = NDArray[Any]

BATCH_SIZES: Final = (256, 1_024, 4_096, 16_384)  # rising
WARM_UPS: Final = 3  # before a graph is recorded: the libraries take their working room


class Program:
    """A function of inputs f32[size, columns] and hidden f32[size, H], with its buffers.

    On CUDA recorded as a graph when it is made; elsewhere (in tests) called as it is.
    """

    def __init__(
        self,
        function: Callable[[Tensor, Tensor], tuple[Tensor, ...]],
        size: int,
        columns: int,
        hidden_size: int,
        device: torch.device,
    ) -> None:
        self._function = function
        self.inputs = torch.zeros(size, columns, device=device)
        self.hidden = torch.zeros(size, hidden_size, device=device)
        self.index = torch.zeros(size, dtype=torch.int64, device=device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._results: tuple[Tensor, ...] = ()
        if device.type == "cuda":
            self._record()

    def _record(self) -> None:
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                self._function(self.inputs, self.hidden)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._results = self._function(self.inputs, self.hidden)
        self._graph = graph

    def load(self, chunk: Chunk, inputs: Tensor, index: Tensor) -> None:
        """Copies the chunk's inputs and row numbers from the host, gathers its hidden states."""
        self.inputs[: chunk.rows].copy_(inputs[chunk.span], non_blocking=True)
        self.index[: chunk.rows].copy_(index[chunk.span], non_blocking=True)
        for hidden, _, at in chunk.pieces:
            torch.index_select(hidden, 0, self.index[at], out=self.hidden[at])

    def run(self) -> tuple[Tensor, ...]:
        """What the function makes of the buffers; on CUDA it lasts until the next run."""
        if self._graph is None:
            return self._function(self.inputs, self.hidden)
        self._graph.replay()
        return self._results


class CudaRunner:
    """Programs of all sizes, and the pinned buffers of a batch. For one thread at a time."""

    def __init__(
        self, network: Network, device: torch.device, sizes: Sequence[int] = BATCH_SIZES
    ) -> None:
        self.sizes = tuple(sizes)
        self._on_cuda = device.type == "cuda"
        self.cell = Cell(network, torch.bfloat16 if self._on_cuda else torch.float32)
        self._rooms: dict[str, Tensor] = {}
        config = network.config

        def answers(asked: Tensor, hidden: Tensor) -> tuple[Tensor, ...]:
            return (network.answers(asked, hidden),)

        with torch.inference_mode():
            self.steps, self.heads = (
                {size: Program(what, size, width, config.hidden_size, device) for size in sizes}
                for what, width in (
                    (self.cell.checked_step, config.features),
                    (answers, ASKED),
                )
            )

    def room(self, name: str, rows: int, columns: int) -> Array:
        """Pinned f4[rows, columns] to be filled with what a call takes; free after that call."""
        return self._room(name, rows, columns, torch.float32).numpy()

    def step(self, parts: Sequence[Part], features: Array) -> Array:
        """Takes features f4[n, F], in a `room`, of all rows of `parts` into their hidden states;
        b1[n] whose state failed and starts anew.
        """
        failed = self._room("failed", len(features), 1, torch.bool)[:, 0]
        try:
            for chunk, program in self._loaded(self.steps, parts, features):
                after, bad = program.run()
                for hidden, _, at in chunk.pieces:
                    hidden.index_copy_(0, program.index[at], after[at])
                failed[chunk.span].copy_(bad[: chunk.rows], non_blocking=True)
        finally:
            self._wait()
        return np.array(failed.numpy())

    def answers(self, parts: Sequence[Part], asked: Array) -> Array:
        """f4[n, ANSWERS] to what is asked f4[n, ASKED], in a `room`, of all rows of `parts`."""
        out = self._room("answers", len(asked), ANSWERS, torch.float32)
        try:
            for chunk, program in self._loaded(self.heads, parts, asked):
                out[chunk.span].copy_(program.run()[0][: chunk.rows], non_blocking=True)
        finally:
            self._wait()
        return np.array(out.numpy())

    def _loaded(
        self, programs: dict[int, Program], parts: Sequence[Part], inputs: Array
    ) -> Iterator[tuple[Chunk, Program]]:
        """Each chunk with the smallest program that holds it, ready to run."""
        pinned = torch.from_numpy(inputs)
        index = self._room("index", len(inputs), 1, torch.int64)[:, 0]
        np.concatenate([rows for _, rows in parts], out=index.numpy())
        for chunk in chunks(parts, self.sizes[-1]):
            program = programs[next(size for size in self.sizes if size >= chunk.rows)]
            program.load(chunk, pinned, index)
            yield chunk, program

    def _room(self, name: str, rows: int, columns: int, dtype: torch.dtype) -> Tensor:
        """A view of a pinned buffer that grows; nothing is in flight when it is asked for."""
        room = self._rooms.get(name)
        if room is None or len(room) < rows:
            rows_max = 1 << max(rows - 1, 0).bit_length()
            room = torch.empty(rows_max, columns, dtype=dtype, pin_memory=self._on_cuda)
            self._rooms[name] = room
        return room[:rows]

    def _wait(self) -> None:
        if self._on_cuda:
            torch.cuda.current_stream().synchronize()
