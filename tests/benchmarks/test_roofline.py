"""The counting behind the expectation for CUDA."""

import pytest
import torch

from benchmarks.roofline import Expected, Gpu, Work, expected, heads_work, kernels_of, step_work
from models.gru import NetworkConfig

CONFIG = NetworkConfig(hidden_size=48, features=26)


def test_a_step_is_counted_by_the_row() -> None:
    work = step_work(CONFIG, rows=1_000, kernels=3)
    assert work.bf16_operations == 1_000 * 2 * (26 + 48) * 144
    assert work.up_bytes == 1_000 * (26 * 4 + 8)
    assert work.down_bytes == 1_000
    weights = (26 + 48) * 144 * 2 + 2 * 144 * 4
    by_row = 2 * (26 * 4 + 8) + 6 * 48 * 4 + 2
    assert work.memory_bytes == weights + 1_000 * by_row


def test_heads_are_counted_by_stretch() -> None:
    work = heads_work(CONFIG, rows=10, kernels=3)
    shared = 2 * (48 + 20) * 48
    stretches = 7 * (8 * 48 + 48 * 32) + 5 * 32 * 10 + 2 * 32 * 15
    assert work.float32_operations == 10 * 2 * (shared + stretches)
    assert (work.up_bytes, work.down_bytes) == (10 * 408, 10 * 22 * 4)


def test_whatever_is_slowest_holds_the_graph_up() -> None:
    gpu = Gpu("any", memory_gb_s=100, bf16_tflops=10, float32_tflops=1, link_gb_s=10)
    work = Work(1, 30_000, 10_000, 500_000, 20_000_000, 1_000_000, kernels=2)
    found = expected(work, gpu)
    assert found == Expected(
        pytest.approx(4.0), pytest.approx(5.0), pytest.approx(3.0), pytest.approx(4.0)
    )
    assert found.graph_us == pytest.approx(5.0) and found.whole_us == pytest.approx(9.0)


def test_views_are_no_kernels() -> None:
    a = torch.ones(4, 4)
    assert kernels_of(lambda: (a + a).t()[:2].unsqueeze(0)) == 1
    assert kernels_of(lambda: torch.tanh(a @ a)) == 2
