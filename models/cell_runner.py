"""How a chunk of rows goes through the cell on the device at hand.

On the CPU as it is. On CUDA in batches of a few fixed sizes, padded, each recorded once as a CUDA
graph: bf16 products, float32 state, features copied from a pinned buffer, no wait per SKU.
"""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from models.gru import Cell, Network

CHUNK_ROWS: Final = 4_096
BATCH_SIZES: Final = (256, 1_024, CHUNK_ROWS)


@dataclass
class _Recorded:
    """A graph with the buffers that it reads and writes."""

    graph: "torch.cuda.CUDAGraph"
    staging: Tensor  # pinned
    features: Tensor
    hidden: Tensor
    after: Tensor


class CellRunner:
    """Steps chunks of at most CHUNK_ROWS rows."""

    def __init__(self, network: Network, device: torch.device) -> None:
        self.device = device
        on_cuda = device.type == "cuda"
        self.cell = Cell(network, torch.bfloat16 if on_cuda else torch.float32)
        self._recorded: dict[int, _Recorded] = {}
        self.padded = on_cuda

    def step(self, features: Tensor, hidden: Tensor) -> Tensor:
        """The next hidden state f32[n, H] on the device, of features f32[n, F] on the host."""
        if not self.padded:
            return self.cell.step(features, hidden)
        n = len(features)
        size = batch_size(n)
        if self.device.type != "cuda":
            return self.cell.step(_padded(features, size), _padded(hidden, size))[:n]
        recorded = self._recorded.get(size)
        if recorded is None:
            recorded = self._recorded[size] = self._record(size, features.shape[1], hidden.shape[1])
        recorded.staging[:n] = features  # free: the caller has waited for the chunk before
        recorded.features.copy_(recorded.staging, non_blocking=True)
        recorded.hidden[:n] = hidden
        recorded.graph.replay()
        return recorded.after[:n].clone()

    def _record(self, size: int, features: int, hidden: int) -> _Recorded:
        staging = torch.zeros(size, features).pin_memory()
        inputs = torch.zeros(size, features, device=self.device)
        state = torch.zeros(size, hidden, device=self.device)
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self.cell.step(inputs, state)  # a warm-up, outside the graph
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            after = self.cell.step(inputs, state)
        return _Recorded(graph, staging, inputs, state, after)


def batch_size(rows: int) -> int:
    """The smallest fixed size that holds `rows`."""
    return next(size for size in BATCH_SIZES if size >= rows)


def _padded(rows: Tensor, size: int) -> Tensor:
    return torch.cat((rows, rows.new_zeros(size - len(rows), rows.shape[1])))
