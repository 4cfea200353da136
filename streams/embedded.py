"""The embedded broker: one binary (noida-db, extra `embedded`) for a first look and quick tests.

It has no transactions, never evicts a dead group member, and a kill of the broker loses recent
data: one worker, `at_least_once`, a fresh data directory each run. Every claim about failover is
made on Apache Kafka.
"""

import importlib.util
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from streams.errors import BrokerError, ConfigurationError

HOST: Final = "127.0.0.1"
_START_TIMEOUT_S: Final = 15.0
_STOP_TIMEOUT_S: Final = 5.0
_POLL_S: Final = 0.01


def binary() -> Path:
    """The broker's program. Raises ConfigurationError when the extra is not installed."""
    found = importlib.util.find_spec("noida_db")
    if found is None or found.origin is None:
        raise ConfigurationError(
            "the embedded broker is not installed: pip install 'flashcast[embedded]', "
            "or set KAFKA_BOOTSTRAP_SERVERS to a Kafka of your own"
        )
    program = Path(found.origin).parent / "noida-db"
    if not program.exists():
        raise ConfigurationError(f"the embedded broker has no program for this system: {program}")
    return program


class EmbeddedBroker:
    """`with EmbeddedBroker(data_dir) as broker:` runs it on loopback, on `port` or a free one."""

    def __init__(self, data_dir: Path, port: int = 0) -> None:
        self._data_dir = data_dir
        self._port = port or _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap_servers(self) -> str:
        return f"{HOST}:{self._port}"

    def start(self) -> None:
        """Returns when it answers. Raises BrokerError with the end of its log when it does not."""
        self._data_dir.mkdir(parents=True, exist_ok=True)
        command = [str(binary()), "start", "--only", "kafka", "--kafka-port", str(self._port)]
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                [*command, "--host", HOST, "--data-dir", str(self._data_dir)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for the worker: it still has to commit
            )
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not _answers(self._port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                tail = self._log.read_text(errors="replace").splitlines()[-5:]
                raise BrokerError("the embedded broker did not start: " + " | ".join(tail))
            time.sleep(_POLL_S)

    def stop(self) -> None:
        """SIGTERM, and SIGKILL if that does not do."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    @property
    def _log(self) -> Path:
        return self._data_dir / "broker.log"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind((HOST, 0))
        return int(one.getsockname()[1])


def _answers(port: int) -> bool:
    with socket.socket() as one:
        one.settimeout(0.5)
        return one.connect_ex((HOST, port)) == 0
