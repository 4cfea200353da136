"""One program, one round: fresh topics, a process, its answers, and what it took."""

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.drills.fleet import ROOT, free_port
from benchmarks.throughput import topics
from benchmarks.throughput.answers import (
    Stretch,
    Windows,
    closable_windows,
    judged,
    stretch,
)
from benchmarks.throughput.catalogue import Program, flink_connector
from benchmarks.throughput.processes import Process
from benchmarks.throughput.reading import read_windows
from benchmarks.throughput.workload import Int64s, workload
from streams import topic_admin
from streams.settings import Settings

POLL_S = 0.25
QUIET_S = 3.0  # with all windows there and nothing more to come
STALL_S = 60.0  # nothing new: it will not come any more
START_TIMEOUT_S = 300.0  # until the first window
RUN_TIMEOUT_S = 1_200.0
CALIBRATION_STEPS = 3_000_000

Row = dict[str, Any]


def calibration_s() -> float:
    """How long this machine takes for the same piece of work, now."""
    began = time.perf_counter()
    state = 1
    for _ in range(CALIBRATION_STEPS):
        state = state * 1_103_515_245 + 12_345 & 0x7FFF_FFFF
    return time.perf_counter() - began


@dataclass(frozen=True)
class Inputs:
    """Loaded topics under a prefix, and the right answer."""

    prefix: str
    events: int
    right: Int64s
    value_bytes: int
    price_sum: int


class Bench:
    """Programs on one broker; inputs are loaded when a program first needs them, and stay."""

    def __init__(self, bootstrap_servers: str, folder: Path) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._folder = folder
        self._stamp = f"bench-{time.time_ns() // 1_000_000 % 10**8}"
        self._inputs: dict[str, Inputs] = {}

    def run(self, program: Program, events: int, round_: int, shape: str = "plain") -> Row:
        """`shape`: a name in SHAPES. Raises InstallError and NotAvailableError; anything that it
        does wrong is in its row.
        """
        command = program.command()
        inputs = self._loaded(min(events, program.events_max), program.name, shape)
        group = f"{self._stamp}-{program.name}-{shape}-{round_}"
        output = inputs.prefix + "demand-windows" if program.is_flashcast else f"{group}-windows"
        folder = self._folder / group
        folder.mkdir()
        self._make_outputs(program, inputs, group, output)
        calibrated_s, load = calibration_s(), os.getloadavg()[0]
        variables = {
            "BENCH_BOOTSTRAP": self._bootstrap_servers,
            "BENCH_PREFIX": inputs.prefix,
            "BENCH_OUTPUT": output,
            "BENCH_GROUP": group,
            "BENCH_STATE": str(folder),
            "BENCH_EVENTS": str(inputs.events),
            "BENCH_WEB_PORT": str(free_port()),
            "BENCH_FLINK_CONNECTOR": flink_connector(),
        }
        if program.is_flashcast:
            variables["PYTHONPATH"] = str(ROOT)
        process = Process(command, variables | program.variables, folder / "program.log")
        row: Row = {
            "events": inputs.events,
            "calibration_s": round(calibrated_s, 3),
            "load": round(load, 2),
        }
        try:
            if program.answers:
                found = self._wait(process, output, inputs, program.buckets)
                verdict = judged(found, inputs.right, program.buckets)
                part = stretch(found, inputs.right, program.buckets)
                right, told = verdict.right, str(verdict)
                row["windows"] = len(found.window)
            else:
                right, part, told = _self_timed(process, inputs, "orjson" in program.arguments)
        finally:
            process.end()
        row["answer_right"] = right
        if not right:
            row["problem"] = f"{told}; exit code {process.exit_code}; {process.said()}"
        if program.is_flashcast:
            row["outputs"] = self._outputs(inputs)
        topics.delete(
            self._bootstrap_servers, [*topics.containing(self._bootstrap_servers, group), output]
        )
        return row | _figures(process, part)

    def _loaded(self, events: int, name: str, shape: str) -> Inputs:
        """Forecasts and decisions need a catalog beside the events, others must not have one."""
        decides = name == "flashcast-decisions"
        prefix = f"{self._stamp}-{events}-{shape}{'-decisions' if decides else ''}-"
        if prefix not in self._inputs:
            work = workload(events)
            value_bytes = topics.load(self._bootstrap_servers, prefix, work, topics.SHAPES[shape])
            if decides:
                settings = Settings(bootstrap_servers=self._bootstrap_servers, topic_prefix=prefix)
                topic_admin.create(settings)
                topics.load_references(settings)
            self._inputs[prefix] = Inputs(
                prefix, events, work.windows(), value_bytes, int(work.price_cents.sum())
            )
        return self._inputs[prefix]

    def _make_outputs(self, program: Program, inputs: Inputs, group: str, output: str) -> None:
        if not program.answers:
            return
        if program.is_flashcast:
            settings = self._settings(inputs, group)
            names = [settings.topic(name) for name in topics.OUTPUTS]
            topics.delete(self._bootstrap_servers, names)
            topics.create_anew(self._bootstrap_servers, output)
            topics.create_rest(settings)
        else:
            topics.create_anew(self._bootstrap_servers, output)

    def _settings(self, inputs: Inputs, group: str = "flashcast") -> Settings:
        return Settings(
            bootstrap_servers=self._bootstrap_servers,
            topic_prefix=inputs.prefix,
            application=group,
        )

    def _wait(self, process: Process, output: str, inputs: Inputs, buckets: int) -> Windows:
        """Until all windows are there, or no more come."""
        expected = closable_windows(inputs.right, buckets)
        ends = topics.EndOffsets(self._bootstrap_servers, output)
        began_s = changed_s = time.monotonic()
        total = read_at = 0
        try:
            while process.running and time.monotonic() - began_s < RUN_TIMEOUT_S:
                time.sleep(POLL_S)
                if (now_total := ends.total()) != total:
                    total, changed_s = now_total, time.monotonic()
                quiet_s = time.monotonic() - changed_s
                if quiet_s > (STALL_S if total else START_TIMEOUT_S):
                    break
                # markers of transactions count too, so it may not be complete yet
                if total >= expected and quiet_s > QUIET_S and total != read_at:
                    read_at = total
                    found = read_windows(self._bootstrap_servers, output)
                    if judged(found, inputs.right, buckets).missing == 0:
                        return found
        finally:
            ends.close()
        return read_windows(self._bootstrap_servers, output)

    def _outputs(self, inputs: Inputs) -> dict[str, int]:
        """How much there is of what flashcast writes beside the windows."""
        counts = {}
        for name in topics.OUTPUTS:
            ends = topics.EndOffsets(self._bootstrap_servers, inputs.prefix + name)
            counts[name] = ends.total()
            ends.close()
        return counts


def _self_timed(
    process: Process, inputs: Inputs, decodes: bool
) -> tuple[bool, Stretch | None, str]:
    """A ceiling's own figures; right: it saw every event and every byte of them."""
    deadline_s = time.monotonic() + RUN_TIMEOUT_S
    while process.running and time.monotonic() < deadline_s:
        time.sleep(POLL_S)
    last = process.said(1)
    if process.exit_code != 0 or not last.startswith("{"):
        return False, None, "it did not end well"
    told = json.loads(last)
    wanted = inputs.price_sum if decodes else inputs.value_bytes
    right = told["seen"] == inputs.events and told["checksum"] == wanted
    part = Stretch(told["begin_s"], told["end_s"], told["events"])
    return right, part, f"{told['seen']} events, checksum {told['checksum']} for {wanted}"


def _figures(process: Process, part: Stretch | None) -> Row:
    row: Row = {"rss_mb": round(process.usage.rss_peak_bytes / 2**20)}
    if part is None:
        return row | {"events_per_s": None, "cpu_s_per_million": None, "startup_s": None}
    cpu_s = process.usage.cpu_s(part.begin_s, part.end_s)
    return row | {
        "events_per_s": round(part.events_per_s),
        "cpu_s_per_million": round(cpu_s / part.events * 1e6, 3),
        "startup_s": round(part.begin_s - process.started_s, 2),
        "measured_s": round(part.end_s - part.begin_s, 3),
        "measured_events": part.events,
    }
