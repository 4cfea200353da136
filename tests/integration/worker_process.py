"""A worker as operators run it: a process with an environment, signals and an exit code."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from kafka import KafkaConsumer, TopicPartition

from streams.reconcile import ReconcileReport, reconcile
from streams.settings import Settings

COMMAND = [sys.executable, "-m", "streams.cli", "worker"]
ROOT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def until(reached: Callable[[], Any], timeout_s: float, what: str) -> Any:
    """What `reached` gives once it is true."""
    deadline = time.monotonic() + timeout_s
    while not (found := reached()):
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s} s"
        time.sleep(0.1)
    return found


class WorkerProcess:
    """`with WorkerProcess(settings, log) as worker:`; killed at the end if it still runs."""

    command: Sequence[str] = COMMAND

    def __init__(self, settings: Settings, log: Path, **variables: str) -> None:
        self.port = free_port()
        self._log = log
        self._environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "KAFKA_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
            "FLASHCAST_TOPIC_PREFIX": settings.topic_prefix,
            "FLASHCAST_DATA_DIR": str(settings.data_dir),
            "FLASHCAST_WEB_PORT": str(self.port),
            "FLASHCAST_FORECASTING": str(settings.forecasting),
            "FLASHCAST_DECIDING": str(settings.deciding),
            "FLASHCAST_PROCESSING_GUARANTEE": settings.processing_guarantee,
            "FLASHCAST_IDLE_TIMEOUT_MS": str(settings.idle_timeout_ms),
            "FLASHCAST_CHECKPOINT_INTERVAL_MS": str(settings.checkpoint_interval_ms),
            "FLASHCAST_SESSION_TIMEOUT_MS": str(settings.session_timeout_ms),
            "FLASHCAST_CLOCK": settings.clock,
            "FLASHCAST_STANDBY_REPLICAS": str(settings.standby_replicas),
            **variables,
        }
        self.process: subprocess.Popen[bytes]

    def __enter__(self) -> Self:
        with self._log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command, env=self._environment, stdout=output, stderr=output
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.kill()
        if kind is not None:
            print(self.said())

    def said(self) -> str:
        """Everything it has logged."""
        return self._log.read_text(errors="replace")

    def probe(self, path: str) -> int:
        """The status that its web answers with; 0: none."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=2) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def wait_until_ready(self, timeout_s: float = 90.0) -> None:
        def ready() -> bool:
            assert self.process.poll() is None, f"the worker ended: {self.said()}"
            return self.probe("/readyz") == 200

        until(ready, timeout_s, "ready")

    def metrics(self) -> str:
        """The text of `/metrics`; nothing when it cannot be asked."""
        url = f"http://127.0.0.1:{self.port}/metrics"
        bearer = {"Authorization": f"Bearer {self._environment.get('FLASHCAST_WEB_TOKEN', '')}"}
        try:
            request = urllib.request.Request(url, headers=bearer)
            with urllib.request.urlopen(request, timeout=2) as answer:
                return str(answer.read().decode())
        except OSError:
            return ""

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels; 0 when it cannot be asked."""
        lines = self.metrics().splitlines()
        return sum(
            float(line.split()[-1]) for line in lines if line.startswith((name + "{", name + " "))
        )

    def terminate(self, timeout_s: float = 20.0) -> tuple[int, float]:
        """SIGTERM: (exit code, seconds until it was gone)."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s), time.monotonic() - began

    def kill(self) -> None:
        """As the kernel does when memory is short."""
        self.process.kill()
        self.process.wait()

    def freeze(self) -> None:
        """As a host does that swaps, or a virtual machine that is moved."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def exit_code(self, timeout_s: float = 60.0) -> int:
        return self.process.wait(timeout_s)


def reconciled(settings: Settings, timeout_s: float = 90.0) -> ReconcileReport:
    """The report, as soon as it is exact; the last one when the time is up."""
    deadline = time.monotonic() + timeout_s
    while True:
        report = asyncio.run(reconcile(settings))
        differs = report.differences and not report.unprocessed
        if report.exact or differs or time.monotonic() > deadline:
            return report
        time.sleep(0.5)


def group_offsets(settings: Settings, topic: str) -> dict[int, int]:
    """What lag tools see of one topic, by partition."""
    consumer = KafkaConsumer(
        bootstrap_servers=settings.bootstrap_servers,
        group_id=settings.topic(settings.application),
        enable_auto_commit=False,
    )
    try:
        numbers = range(settings.partitions)
        places = [TopicPartition(settings.topic(topic), number) for number in numbers]
        return {place.partition: consumer.committed(place) or 0 for place in places}
    finally:
        consumer.close()


def log_ends(settings: Settings, topic: str) -> dict[int, int]:
    """The offset behind the last record, by partition."""
    consumer = KafkaConsumer(bootstrap_servers=settings.bootstrap_servers)
    try:
        numbers = range(settings.partitions)
        places = [TopicPartition(settings.topic(topic), number) for number in numbers]
        return {place.partition: end for place, end in consumer.end_offsets(places).items()}
    finally:
        consumer.close()
