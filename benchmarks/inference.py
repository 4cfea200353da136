"""What the forecaster costs: `python -m benchmarks.inference [--device cpu|cuda|auto] [--json]`.

1. A carried step (gather, cell, scatter) of 4,096 SKUs against torch's GRUCell and against running
   the last 64 buckets again; every way must give the same hidden states.
2. `Forecaster.step` and `Forecaster.predict` of whole buckets over 4 partitions, and where the time
   goes: whole calls and their parts one by one take turns in the same sale. Every sixth bucket is
   predicted after, as by default, so that forecasts of one minute are judged before the next.
3. On CUDA each fixed batch size: transfer, graph, whole call, beside what bytes and operations
   allow (benchmarks/roofline.py). Without a GPU the expectation alone is shown.

Rounds are interleaved; medians, with the quickest and the slowest round; warm-up is left out. On
the CPU times are processor time of the one thread that works, so that other work disturbs them
less; on CUDA wall time up to the wait at the end of a call. Writes
benchmarks/results/inference.json unless `--quick`.
"""

import argparse
import json
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numba
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import roofline
from benchmarks.throughput.report import machine
from models.features import ASKED, FEATURES, BucketInputs
from models.forecaster import Forecaster
from models.memory import ForecastMemory
from models.negative_binomial import nb_quantile_at

RESULTS = Path(__file__).parent / "results" / "inference.json"
START_MS = 1_700_000_000_000
BUCKET_MS = 10_000
LEFT_MS = 6_000_000
WINDOW = 64
BATCH = 4_096
PARTITIONS = 4
BUCKETS_AN_ORIGIN = 6
SIZES: Final = (100, 1_000, 10_000, 100_000)
CELL = "our step"
BF16_TOLERANCE = 2e-2

Array = NDArray[Any]
Row = dict[str, Any]
Step = tuple[ForecastMemory, Array, BucketInputs]
Question = tuple[ForecastMemory, Array, int, Array]


class Watch:
    """Seconds by name, round after round."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.clock = time.thread_time if device.type == "cpu" else time.perf_counter
        self.seconds: dict[str, list[float]] = defaultdict(list)

    def time(self, name: str, work: Callable[[], Any]) -> Any:
        """Does the work and adds what it took."""
        self._wait()
        began = self.clock()
        done = work()
        self._wait()
        self.seconds[name].append(self.clock() - began)
        return done

    def rows(self, count: int) -> list[Row]:
        """One a name, of work on `count` SKUs."""
        return [
            {
                "what": name,
                "skus": count,
                "us_a_sku": round(1e6 * statistics.median(took) / count, 4),
                "quickest": round(1e6 * min(took) / count, 4),
                "slowest": round(1e6 * max(took) / count, 4),
                "skus_a_s": round(count / statistics.median(took)),
            }
            for name, took in self.seconds.items()
        ]

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def cells(forecaster: Forecaster, rounds: int, seed: int) -> list[Row]:
    """One step of BATCH SKUs in three ways."""
    torch.manual_seed(seed)
    device, network = forecaster.device, forecaster.network
    reference = torch.nn.GRUCell(network.config.features, network.config.hidden_size)
    reference.load_state_dict(
        {name.removesuffix("_l0"): value for name, value in network.gru.state_dict().items()}
    )
    reference.to(device)
    watch = Watch(device)
    with torch.inference_mode():
        window = torch.randn(BATCH, WINDOW, network.config.features).to(device)
        states = network(window)
        before, wanted, last = states[:, -2].clone(), states[:, -1], window[:, -1].contiguous()
        features = forecaster.runner.room("features", BATCH, len(FEATURES))
        features[:] = last.cpu().numpy()
        memory = ForecastMemory(forecaster, BATCH)
        rows = np.random.default_rng(seed).permutation(BATCH)
        at = torch.from_numpy(rows).to(device)

        def ours() -> torch.Tensor:
            forecaster.runner.step([(memory.hidden, rows)], features)
            return memory.hidden

        ways: dict[str, Callable[[], torch.Tensor]] = {
            CELL: ours,
            "torch GRUCell": lambda: reference(network.normalised(last), before),
            f"the last {WINDOW} buckets again": lambda: network(window)[:, -1],
        }
        for turn in range(rounds + 1):
            for name, way in ways.items():
                way()  # untimed: each finds the room and the caches as its own last call left them
                memory.hidden[at] = before
                found = watch.time(name, way)
                if turn == 0:
                    found = found[at] if name == CELL else found
                    rough = name == CELL and device.type == "cuda"
                    exact = BF16_TOLERANCE if rough else 1e-5
                    torch.testing.assert_close(found, wanted, rtol=0, atol=exact)
                    watch.seconds[name].clear()  # the warm-up
    return watch.rows(BATCH)


def against(found: list[Row]) -> dict[str, float]:
    """How many times as fast as each other way ours is."""
    took = {row["what"]: row["us_a_sku"] for row in found}
    return {name: round(other / took[CELL], 3) for name, other in took.items() if name != CELL}


class Sale:
    """One bucket after the other of `skus` SKUs, spread over the partitions."""

    def __init__(self, forecaster: Forecaster, skus: int, seed: int) -> None:
        random = np.random.default_rng(seed)
        share = max(skus // PARTITIONS, 1)
        self.forecaster, self.bucket = forecaster, 0
        self.memories = [ForecastMemory(forecaster, share) for _ in range(PARTITIONS)]
        self.rows = [random.permutation(share) for _ in self.memories]
        self.skus = share * PARTITIONS
        self.seen = [_inputs(random, share) for _ in range(3)]

    def inputs(self) -> list[Step]:
        """Of the next bucket."""
        seen, bucket = self.seen[self.bucket % len(self.seen)], self.bucket
        left_ms = np.full(len(self.rows[0]), LEFT_MS - bucket * BUCKET_MS)
        now = replace(
            seen, bucket_start_ms=START_MS + bucket * BUCKET_MS, time_left_ms=left_ms,
            sale_phase=1 - left_ms / 7_200_000,
        )  # fmt: skip
        self.bucket += 1
        return [(m, rows, now) for m, rows in zip(self.memories, self.rows, strict=True)]

    def asked(self) -> list[Question]:
        """At the end of the bucket before."""
        at_ms = START_MS + self.bucket * BUCKET_MS
        left_ms = np.full(len(self.rows[0]), LEFT_MS - self.bucket * BUCKET_MS)
        return [(m, rows, at_ms, left_ms) for m, rows in zip(self.memories, self.rows, strict=True)]

    def whole(self, watch: Watch) -> None:
        """Buckets up to an origin, and the forecasts there, as the worker has them."""
        for _ in range(BUCKETS_AN_ORIGIN):
            given = self.inputs()
            watch.time("step", partial(self.forecaster.step, given))
        asked = self.asked()
        made = watch.time("predict", lambda: self.forecaster.predict(asked))
        assert all(np.isfinite(one.mean).all() and not one.fallback.any() for one in made)
        assert self.forecaster.failures == 0

    def parts(self, watch: Watch) -> None:
        """The same, part by part; what is left of the whole is bookkeeping."""
        runner = self.forecaster.runner
        states = [(m.hidden, rows) for m, rows in zip(self.memories, self.rows, strict=True)]
        spans = [slice(i * len(r), (i + 1) * len(r)) for i, r in enumerate(self.rows)]
        with torch.inference_mode():
            for _ in range(BUCKETS_AN_ORIGIN):
                given = self.inputs()
                x = runner.room("features", self.skus, len(FEATURES))
                watch.time("step: levels, features", partial(_observe, given, x, spans))
                watch.time("step: cell", partial(runner.step, states, x))
            asked = self.asked()
            flat = runner.room("asked", self.skus, ASKED)
            watch.time("predict: judging", partial(_judge, asked))
            watch.time("predict: questions", partial(_ask, asked, flat, spans))
            answers = watch.time("predict: heads", lambda: runner.answers(states, flat))
        mean, dispersion = answers[:, :5].astype(np.float64), answers[:, 5:10].astype(np.float64)
        scores = watch.time(
            "predict: calibration",
            lambda: [m.calibrator.at(mean[at], dispersion[at]) for m, at in
                     zip(self.memories, spans, strict=True)],
        )  # fmt: skip
        watch.time("predict: quantiles", lambda: [nb_quantile_at(*one) for one in scores])


def _observe(given: list[Step], x: Array, spans: list[slice]) -> None:
    for (memory, rows, inputs), span in zip(given, spans, strict=True):
        memory.observe(rows, inputs, x[span])


def _judge(asked: list[Question]) -> None:
    for memory, rows, at_ms, _ in asked:
        memory.judge(rows, at_ms)


def _ask(asked: list[Question], flat: Array, spans: list[slice]) -> None:
    for (memory, rows, at_ms, left_ms), span in zip(asked, spans, strict=True):
        memory.ask(rows, at_ms, left_ms, flat[span])


def calls(forecaster: Forecaster, skus: int, rounds: int, seed: int) -> list[Row]:
    sale, warm = Sale(forecaster, skus, seed), Watch(forecaster.device)
    sale.whole(warm)
    sale.parts(warm)
    watch = Watch(forecaster.device)
    for _ in range(rounds):
        sale.whole(watch)
        sale.parts(watch)
    return watch.rows(sale.skus)


def _inputs(random: np.random.Generator, n: int) -> BucketInputs:
    units = random.poisson(1.0, n)
    return BucketInputs(
        bucket_start_ms=0, bucket_ms=BUCKET_MS, clicks=random.poisson(8.0, n) + 1,
        carts=random.poisson(2.0, n), orders=units, units=units, price_cents=np.full(n, 9_900),
        list_price_cents=np.full(n, 12_000), competitor_price_cents=np.full(n, 10_000),
        in_stock_share=np.ones(n), sale_phase=np.zeros(n), time_left_ms=np.zeros(n),
        category_level=np.zeros(n), sale_level=np.zeros(n),
    )  # fmt: skip


def report(found: Row) -> Iterator[str]:
    about = found["machine"]
    yield f"{about['device']}, {about['cpu']}, torch {about['torch']}, load {about['load']:.1f}"
    yield f"{'':34s}{'SKUs':>9s}{'us a SKU':>11s}{'quickest':>11s}{'slowest':>11s}{'SKUs/s':>14s}"
    for row in (*found["cells"], *found["calls"]):
        yield (
            f"{row['what']:34s}{row['skus']:9,d}{row['us_a_sku']:11.3f}{row['quickest']:11.3f}"
            f"{row['slowest']:11.3f}{row['skus_a_s']:14,d}"
        )
    for name, times in found["times_as_fast"].items():
        yield f"{CELL} is {times:.2f} times as fast as: {name}"
    for row in found["cuda"]:
        yield (
            f"{row['what']:8s}{row['rows']:8,d} rows: link {row['link_us']:.1f}, graph "
            f"{row['graph_us']:.1f}, whole call {row['whole_us']:.1f} us"
        )
    unmeasured = "" if found["cuda"] else "nothing was measured on CUDA: no GPU in use; "
    yield f"{unmeasured}what CUDA can cost at best, by counting:"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="auto", choices=("cpu", "cuda", "auto"))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="fewer SKUs, no results kept")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    torch.set_num_threads(1)
    forecaster = Forecaster.load(None, arguments.device)
    device, rounds, seed = forecaster.device, arguments.rounds, arguments.seed
    found: Row = {
        "machine": {
            **machine(), "torch": torch.__version__, "numba": numba.__version__, "threads": 1,
            "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
            "load": load, "seed": seed, "rounds": rounds,
        },
        "cells": cells(forecaster, rounds, seed),
        "calls": [
            row
            for skus in SIZES[: 2 if arguments.quick else None]
            for row in calls(forecaster, skus, rounds, seed)
        ],
        "cuda": roofline.measured(forecaster, rounds) if device.type == "cuda" else [],
    }  # fmt: skip
    found["times_as_fast"] = against(found["cells"])
    if not arguments.quick:
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    lines = (*report(found), *roofline.table(forecaster.network.cpu()))
    print(json.dumps(found) if arguments.json else "\n".join(lines))


if __name__ == "__main__":
    main()
