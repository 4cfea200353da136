"""What one step of the forecaster costs: SKU-steps a second, one thread.

    python benchmarks/inference.py [--skus 100000] [--seed 1]

Compares carrying the hidden state (our cell, in chunks) with torch's GRUCell and with running the
last 64 buckets again; then the whole `Forecaster.step` (levels and features too) and `predict`.
Every way must give the same hidden states before it is timed. Warm-up is left out.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

from models.cell_runner import CHUNK_ROWS
from models.features import BucketInputs
from models.forecaster import Forecaster
from models.gru import Cell
from models.memory import ForecastMemory

WINDOW = 64
START_MS = 1_700_000_000_000
BUCKET_MS = 10_000
REPEATS = 5


def main(skus: int, seed: int) -> dict[str, float]:
    """SKU-steps a second by way."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    forecaster = Forecaster.load(None, "cpu")
    network = forecaster.network
    window = torch.randn(CHUNK_ROWS, WINDOW, network.config.features)
    reference = torch.nn.GRUCell(network.config.features, network.config.hidden_size)
    reference.load_state_dict(
        {name.removesuffix("_l0"): value for name, value in network.gru.state_dict().items()}
    )
    results = {}
    with torch.inference_mode():
        hidden = network(window)[:, -2]
        wanted = network(window)[:, -1]
        last = window[:, -1]
        ways: dict[str, Callable[[], torch.Tensor]] = {
            "our cell, float32": lambda: forecaster.runner.cell.step(last, hidden),
            "torch GRUCell": lambda: reference(network.normalised(last), hidden),
            f"the last {WINDOW} buckets again": lambda: network(window)[:, -1],
        }
        for name, way in ways.items():
            torch.testing.assert_close(way(), wanted, rtol=0, atol=1e-5)
            results[name] = CHUNK_ROWS / _seconds(way)
        rough = Cell(network, products=torch.bfloat16)
        results["our cell, bf16 products"] = CHUNK_ROWS / _seconds(lambda: rough.step(last, hidden))
    results |= _whole(forecaster, skus, seed)
    return results


def _whole(forecaster: Forecaster, skus: int, seed: int) -> dict[str, float]:
    random = np.random.default_rng(seed)
    memory = ForecastMemory(forecaster, skus)
    rows = random.permutation(skus)
    inputs = [_inputs(random, skus, bucket) for bucket in range(REPEATS + 4)]
    for one in inputs[:4]:
        forecaster.step([(memory, rows, one)])
    began = time.perf_counter()
    for one in inputs[4:]:
        forecaster.step([(memory, rows, one)])
    step_s = (time.perf_counter() - began) / REPEATS
    origin_ms = START_MS + len(inputs) * BUCKET_MS
    began = time.perf_counter()
    forecaster.predict([(memory, rows, origin_ms, np.full(skus, 6_000_000))])
    return {
        "Forecaster.step": skus / step_s,
        "Forecaster.predict": skus / (time.perf_counter() - began),
    }


def _inputs(random: np.random.Generator, n: int, bucket: int) -> BucketInputs:
    units = random.poisson(1.0, n)
    return BucketInputs(
        bucket_start_ms=START_MS + bucket * BUCKET_MS,
        bucket_ms=BUCKET_MS,
        clicks=random.poisson(8.0, n) + 1,
        carts=random.poisson(2.0, n),
        orders=units,
        units=units,
        price_cents=np.full(n, 9_900),
        list_price_cents=np.full(n, 12_000),
        competitor_price_cents=np.full(n, 10_000),
        in_stock_share=np.ones(n),
        sale_phase=np.full(n, bucket / 720),
        time_left_ms=np.full(n, (720 - bucket) * BUCKET_MS),
        category_level=np.zeros(n),
        sale_level=np.zeros(n),
    )


def _seconds(way: Callable[[], torch.Tensor]) -> float:
    """Best of some, after a warm-up."""
    way()
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        way()
        times.append(time.perf_counter() - began)
    return min(times)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--skus", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}, torch {torch.__version__}, one thread")
    for name, rate in main(arguments.skus, arguments.seed).items():
        print(f"{name:32s} {rate:14,.0f} SKU-steps/s")
