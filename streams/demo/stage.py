"""Sets the stage of a demo: broker, topics, worker and live page; whatever it starts, it stops."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from streams import topic_admin
from streams.embedded import EmbeddedBroker
from streams.errors import BrokerError, FlashcastError
from streams.settings import Settings, load

READY_TIMEOUT_S: Final = 120.0
STOP_TIMEOUT_S: Final = 12.0
POLL_S: Final = 0.1
LOOPBACK: Final = "127.0.0.1"

Say = Callable[[str], None]


class Stage:
    """`with Stage(say) as stage:` everything runs, and the worker is ready.

    With KAFKA_BOOTSTRAP_SERVERS set that broker is used, under a topic prefix and application of
    this run's own, with transactions; else the embedded one, in a fresh directory.
    """

    def __init__(self, say: Say) -> None:
        self._say = say
        self._own_broker = not os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
        self._folder = Path(tempfile.mkdtemp(prefix="flashcast-demo-"))
        self._broker: EmbeddedBroker | None = None
        self._processes: list[tuple[str, subprocess.Popen[bytes]]] = []
        self.settings = load()
        self.page_url = ""

    def __enter__(self) -> Self:
        try:
            self._raise_curtain()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def worker_url(self) -> str:
        return f"http://{LOOPBACK}:{self.settings.web_port}"

    @property
    def broker_name(self) -> str:
        return "the embedded broker" if self._own_broker else self.settings.bootstrap_servers

    def _raise_curtain(self) -> None:
        run = f"demo-{int(time.time())}-"
        overrides: dict[str, Any] = {
            "data_dir": self._folder / "state",
            "clock": "event",  # two hours pass in minutes: decisions are never out of date
            "web_port": _free_port(),
            "topic_prefix": run,
            "application": f"{run}worker",
        }
        if self._own_broker:
            self._say("starting the embedded broker")
            self._broker = EmbeddedBroker(self._folder / "broker")
            self._broker.start()
            overrides |= {
                "bootstrap_servers": self._broker.bootstrap_servers,
                "processing_guarantee": "at_least_once",
                "group_instance_id": "demo",
            }
        self.settings = load(**overrides)
        self._say(f"creating topics on {self.broker_name}")
        topic_admin.create(self.settings)
        self._start("worker", ["worker"], self.settings.web_port)
        page_port = _free_port()
        self._start("dashboard", ["dashboard"], page_port)
        self.page_url = f"http://{LOOPBACK}:{page_port}/"
        self._say("waiting for the worker to be ready")
        self._await_ready()

    def _start(self, name: str, command: list[str], web_port: int) -> None:
        told = _environment(self.settings)
        environment = {**os.environ, **told, "FLASHCAST_WEB_PORT": str(web_port)}
        with self.log_of(name).open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "streams.cli", *command],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches us alone; we stop them in order
            )
        self._processes.append((name, process))

    def log_of(self, name: str) -> Path:
        """Where a process writes its log."""
        return self._folder / f"{name}.log"

    def check(self) -> None:
        """Raises FlashcastError with the end of its log when a process has ended."""
        for name, process in self._processes:
            if process.poll() is not None:
                tail = self.log_of(name).read_text(errors="replace").splitlines()[-12:]
                raise FlashcastError(
                    f"the {name} ended with code {process.returncode}:\n" + "\n".join(tail)
                )

    def _await_ready(self) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not _answers_ok(f"{self.worker_url}/readyz"):
            self.check()
            if time.monotonic() > deadline:
                raise BrokerError(
                    f"the worker was not ready within {READY_TIMEOUT_S:.0f} s; "
                    f"its log: {self.log_of('worker')}"
                )
            time.sleep(POLL_S)

    def close(self) -> None:
        """Stop everything, the worker first, so that it can commit; remove what was written."""
        for _, process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for _, process in self._processes:
            try:
                process.wait(max(deadline - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()
        if self._broker is not None:
            self._broker.stop()
            self._broker = None
        elif not self._own_broker and self.settings.topic_prefix.startswith("demo-"):
            with contextlib.suppress(FlashcastError):
                topic_admin.delete(self.settings)
        shutil.rmtree(self._folder, ignore_errors=True)


def _environment(settings: Settings) -> dict[str, str]:
    """What a child process must be told; connection secrets it inherits as we did."""
    return {
        "KAFKA_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "FLASHCAST_DATA_DIR": str(settings.data_dir),
        "FLASHCAST_CLOCK": settings.clock,
        "FLASHCAST_TOPIC_PREFIX": settings.topic_prefix,
        "FLASHCAST_APPLICATION": settings.application,
        "FLASHCAST_PROCESSING_GUARANTEE": settings.processing_guarantee,
        "FLASHCAST_GROUP_INSTANCE_ID": settings.group_instance_id or "",
    }


def _free_port() -> int:
    with socket.socket() as one:
        one.bind((LOOPBACK, 0))
        return int(one.getsockname()[1])


def _answers_ok(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:
            return int(answer.status) == 200
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return False
