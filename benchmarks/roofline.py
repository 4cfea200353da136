"""What the CUDA path can cost at best, by counting: `python -m benchmarks.roofline`.

Counts the bytes that a fixed batch moves over the link and through device memory, and the
operations of its products, and divides them by what the vendors' data sheets promise. Real devices
reach a part of that; a batch this small is also held up by the start of its kernels, of which a
graph still has some dozens: they are counted too, at an assumed 2 us each that is in no data sheet.
What lies between two kernels is left out of the bytes: it fits the second-level cache.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from models.chunks import Chunk
from models.cuda_runner import BATCH_SIZES, CudaRunner
from models.features import ASKED, HORIZONS, INTERVAL, LOAD_LEADS, QUERY
from models.forecaster import Forecaster
from models.gru import ANSWERS, Cell, Network, NetworkConfig
from models.heads import BRANCH, TRUNK
from models.memory import ForecastMemory

KERNEL_US: Final = 2.0
FLOAT: Final = 4
BF16: Final = 2
INDEX: Final = 8
VIEWS: Final = frozenset(
    ("detach", "t", "transpose", "view", "reshape", "_unsafe_view", "slice", "select", "split",
     "split_with_sizes", "unsqueeze", "expand", "alias", "squeeze", "unflatten", "permute")
)  # fmt: skip


@dataclass(frozen=True)
class Gpu:
    """From the data sheet; matrix products without sparsity, the link one way (half of the sheet's
    figure, which is for both).
    """

    name: str
    memory_gb_s: float
    bf16_tflops: float
    float32_tflops: float
    link_gb_s: float


GPUS: Final = (
    Gpu("NVIDIA L4", 300, 121, 30.3, 32),  # PCIe Gen4 x16
    Gpu("NVIDIA A100 80GB PCIe", 1_935, 312, 19.5, 32),  # PCIe Gen4 x16
    Gpu("NVIDIA H100 SXM", 3_350, 989, 67, 64),  # PCIe Gen5 x16
)


@dataclass(frozen=True)
class Work:
    """Of one batch of a fixed size."""

    rows: int
    up_bytes: int
    down_bytes: int
    memory_bytes: int
    bf16_operations: int
    float32_operations: int
    kernels: int


@dataclass(frozen=True)
class Expected:
    """Microseconds at best: the two ways over the link, the graph, and all of it in turn."""

    transfer_us: float
    memory_us: float
    operations_us: float
    kernels_us: float

    @property
    def graph_us(self) -> float:
        """Whichever of the three holds it up."""
        return max(self.memory_us, self.operations_us, self.kernels_us)

    @property
    def whole_us(self) -> float:
        """Nothing overlaps within a batch: features come before the products, answers after."""
        return self.transfer_us + self.graph_us


def step_work(config: NetworkConfig, rows: int, kernels: int) -> Work:
    """Of a cell step: features and row numbers up, a flag a row down; hidden states gathered (read,
    written), read by the step, written, and scattered (read, written).
    """
    features, hidden = config.features, config.hidden_size
    weights = (features + hidden) * 3 * hidden * BF16 + 2 * 3 * hidden * FLOAT
    up = rows * (features * FLOAT + INDEX)
    return Work(
        rows=rows,
        up_bytes=up,
        down_bytes=rows,
        memory_bytes=2 * up + rows * 6 * hidden * FLOAT + weights + 2 * rows,
        bf16_operations=2 * rows * (features + hidden) * 3 * hidden,
        float32_operations=0,
        kernels=kernels,
    )


def heads_work(config: NetworkConfig, rows: int, kernels: int) -> Work:
    """Of the heads: what is asked and row numbers up, answers down; hidden states gathered (read,
    written) and read. Products in float32.
    """
    hidden = config.hidden_size
    up = rows * (ASKED * FLOAT + INDEX)
    down = rows * ANSWERS * FLOAT
    shared = 2 * (hidden + len(QUERY)) * TRUNK  # of both trunks
    network = Network(config)
    widths = (
        (HORIZONS, network.demand.out.out_features),
        (LOAD_LEADS, network.load.out.out_features),
    )
    stretches = sum(
        count * (len(INTERVAL) * TRUNK + TRUNK * BRANCH + BRANCH * out) for count, out in widths
    )
    weights = FLOAT * sum(
        one.numel() for head in (network.demand, network.load) for one in head.parameters()
    )
    return Work(
        rows=rows,
        up_bytes=up,
        down_bytes=down,
        memory_bytes=2 * up + 2 * down + rows * 3 * hidden * FLOAT + weights,
        bf16_operations=0,
        float32_operations=2 * rows * (shared + stretches),
        kernels=kernels,
    )


def expected(work: Work, gpu: Gpu) -> Expected:
    """The work at the data sheet's speeds."""
    operations_s = work.bf16_operations / (gpu.bf16_tflops * 1e12)
    operations_s += work.float32_operations / (gpu.float32_tflops * 1e12)
    return Expected(
        transfer_us=(work.up_bytes + work.down_bytes) / (gpu.link_gb_s * 1e3),
        memory_us=work.memory_bytes / (gpu.memory_gb_s * 1e3),
        operations_us=1e6 * operations_s,
        kernels_us=work.kernels * KERNEL_US,
    )


class _Kernels(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operations that do more than look at a tensor in another way."""

    count: int = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        self.count += func.overloadpacket.__name__ not in VIEWS
        return func(*args, **(kwargs or {}))


def kernels_of(function: Callable[[], object]) -> int:
    """How many kernels torch starts for it; found by running it on the CPU."""
    counted = _Kernels()  # type: ignore[no-untyped-call]
    with torch.inference_mode(False), torch.no_grad(), counted:
        function()
    return counted.count


def works(network: Network, rows: int) -> dict[str, Work]:
    """`step` and `heads` of a batch of `rows`; the gather and the scatter are a kernel each."""
    config = network.config
    cell = Cell(network, torch.bfloat16)
    hidden = torch.zeros(1, config.hidden_size)
    step = kernels_of(lambda: cell.checked_step(torch.zeros(1, config.features), hidden))
    heads = kernels_of(lambda: network.answers(torch.zeros(1, ASKED), hidden))
    return {
        "step": step_work(config, rows, step + 2),
        "heads": heads_work(config, rows, heads + 1),
    }


def measured(forecaster: Forecaster, rounds: int) -> list[dict[str, Any]]:
    """On CUDA: median microseconds of each program's link, its graph, and the whole call."""
    runner, made = forecaster.runner, []
    assert isinstance(runner, CudaRunner)
    for name, programs, call in (
        ("step", runner.steps, runner.step),
        ("heads", runner.heads, runner.answers),
    ):
        for size, program in programs.items():
            hidden = ForecastMemory(forecaster, size).hidden
            given = runner.room("given", size, program.inputs.shape[1])
            given[:] = 0.5
            rows = np.arange(size)
            index, part = torch.from_numpy(rows).pin_memory(), [(hidden, rows)]
            link = partial(program.load, Chunk(slice(0, size), []), torch.from_numpy(given), index)
            made.append(
                {
                    "what": name,
                    "rows": size,
                    "link_us": _median_us(link, rounds),
                    "graph_us": _median_us(program.run, rounds),
                    "whole_us": _median_us(partial(call, part, given), rounds),
                }
            )
    return made


def _median_us(work: Callable[[], object], rounds: int) -> float:
    """Up to the end on the device, after a round to warm up."""
    took = []
    with torch.inference_mode():
        for _ in range(rounds + 1):
            torch.cuda.synchronize()
            began = time.perf_counter()
            work()
            torch.cuda.synchronize()
            took.append(1e6 * (time.perf_counter() - began))
    return round(statistics.median(took[1:]), 1)


def table(network: Network) -> Iterator[str]:
    """The expectation, line by line."""
    names = ("link", "memory", "products", "kernels", "whole")
    yield f"{'microseconds':32s}{'rows':>7s}" + "".join(f"{name:>9s}" for name in names)
    for gpu in GPUS:
        for rows in BATCH_SIZES:
            for name, work in works(network, rows).items():
                at = expected(work, gpu)
                yield (
                    f"{gpu.name:24s}{name:8s}{rows:7,d}{at.transfer_us:9.1f}{at.memory_us:9.1f}"
                    f"{at.operations_us:9.1f}{at.kernels_us:9.1f}{at.whole_us:9.1f}"
                )


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    for line in table(Network(NetworkConfig()).eval()):
        print(line)
