"""Workers as operators run them: processes with an environment, signals and an exit code."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from benchmarks.drills.waiting import until
from streams.settings import NOT_SETTINGS, Settings, variable_of

ROOT = Path(__file__).resolve().parents[2]
SAMPLE_S = 0.1
GRACE_S = 20.0
READY_TIMEOUT_S = 120.0


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def environment(settings: Settings) -> dict[str, str]:
    """That of a process which is to load these very settings and no others."""
    variables = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("FLASHCAST_", "KAFKA_")) or name in NOT_SETTINGS
    }
    for field in settings.model_fields_set:
        value = getattr(settings, field)
        if value is not None:
            told = json.dumps(value) if isinstance(value, list | tuple | dict) else str(value)
            variables[variable_of(field)] = told
    return variables | {"PYTHONPATH": str(ROOT)}


class Worker:
    """One process. It may be killed, stopped and replaced; its log and its disk stay."""

    def __init__(self, settings: Settings, log: Path, variables: Mapping[str, str]) -> None:
        self.settings = settings
        self.log = log
        self.port = free_port()
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "streams.cli", "worker"],
                env=environment(settings) | {"FLASHCAST_WEB_PORT": str(self.port)} | variables,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=ROOT,
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        """SIGKILL, gone when this returns."""
        self.process.kill()
        self.process.wait(GRACE_S)

    def stop(self) -> None:
        """SIGSTOP: it holds on to all it has and does nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT."""
        self.process.send_signal(signal.SIGCONT)

    def terminate(self) -> int:
        """SIGTERM; the exit code, once it is gone."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(GRACE_S)

    def said(self) -> str:
        """Everything that was logged in its place."""
        return self.log.read_text(errors="replace")

    def probe(self, path: str) -> int:
        """The status that its web answers with; 0: none."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=2) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def metrics(self) -> list[str]:
        """The lines of `/metrics`; none when it cannot be asked."""
        try:
            url = f"http://127.0.0.1:{self.port}/metrics"
            with urllib.request.urlopen(url, timeout=2) as answer:
                return list(answer.read().decode().splitlines())
        except OSError:
            return []

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels; 0 when it cannot be asked."""
        lines = self.metrics()
        return sum(
            float(line.split()[-1]) for line in lines if line.startswith((name + "{", name + " "))
        )

    def rss_peak_mb(self) -> float:
        """The greatest resident set so far, as the kernel keeps it; 0 once the process is gone."""
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) / 1_024
        return 0.0


class Fleet:
    """The workers of a drill by place: place i has a disk, a log and at most one process. A static
    fleet gives each place a group instance id.
    """

    def __init__(self, settings: Settings, directory: Path, static: bool = False) -> None:
        self._settings = settings
        self._directory = directory
        self._static = static
        self._started: list[Worker] = []
        self.at: dict[int, Worker] = {}
        self.rss_peak_mb = 0.0
        self._stop = threading.Event()
        self._sampler = threading.Thread(target=self._sample, name="memory", daemon=True)
        self._sampler.start()

    def start(self, place: int, variables: Mapping[str, str] | None = None) -> Worker:
        """A process in a place that has none running; `variables` override its environment."""
        assert place not in self.at or not self.at[place].running, "one process a place"
        changes: dict[str, object] = {"data_dir": self._directory / f"data-{place}"}
        if self._static:
            changes["group_instance_id"] = f"place-{place}"
        values = self._settings.model_dump(exclude_unset=True) | changes
        worker = Worker(
            Settings(**values), self._directory / f"worker-{place}.log", variables or {}
        )
        self.at[place] = worker
        self._started.append(worker)
        return worker

    def wait_until_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Every running worker has what it was assigned."""
        until(
            lambda: all(one.probe("/readyz") == 200 for one in self.running()),
            timeout_s,
            "all workers ready",
        )

    def running(self) -> list[Worker]:
        return [worker for _, worker in sorted(self.at.items()) if worker.running]

    def leave(self) -> list[int]:
        """SIGTERM to all; their exit codes."""
        several = self.running()
        for worker in several:
            worker.go_on()
            worker.process.send_signal(signal.SIGTERM)
        return [worker.process.wait(GRACE_S) for worker in several]

    def close(self) -> None:
        """Nothing of it is left when this returns."""
        for worker in self._started:
            if worker.running:
                worker.kill()
        self._stop.set()
        self._sampler.join(5)

    def _sample(self) -> None:
        while not self._stop.wait(SAMPLE_S):
            for worker in list(self._started):
                self.rss_peak_mb = max(self.rss_peak_mb, worker.rss_peak_mb())
