"""Apache Kafka in a drill's hands: started, killed, frozen and brought back by the launcher that
FLASHCAST_TEST_KAFKA names; or somebody else's broker, which is left in peace.
"""

import json
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.drills.errors import DrillError

LAUNCHER = os.environ.get("FLASHCAST_TEST_KAFKA", "")
LAUNCH_TIMEOUT_S = 120.0
COLLECTOR = {
    "JAVA_TOOL_OPTIONS": "-XX:MaxGCPauseMillis=20 -XX:InitiatingHeapOccupancyPercent=35 "
    "-XX:G1HeapRegionSize=16M"
}
ATTEMPTS = 3  # on a busy machine a node may miss the launcher's own time-out


class Cluster:
    """Nodes are counted from 0. The data stays in `directory` until somebody removes it. A `heap`
    ("1g") comes with the settings of the garbage collector that Kafka's documentation recommends:
    without them each request above half a megabyte costs a share of a collection.
    """

    def __init__(
        self,
        directory: Path,
        brokers: int = 1,
        settings: Sequence[str] = (),
        heap: str | None = None,
    ) -> None:
        self.directory = directory
        self.brokers = brokers
        self._heap = heap
        self._settings = [part for setting in settings for part in ("--set", setting)]
        self._told: dict[str, Any] = {}

    @property
    def bootstrap_servers(self) -> str:
        return str(self._told["bootstrap_servers"])

    def start(self) -> None:
        """Start whatever is down, and wait until it answers."""
        heap = [] if self._heap is None else ["--heap", self._heap]
        told = self._launch("start", "--brokers", str(self.brokers), *heap, *self._settings)
        self._told = json.loads(told)

    def stop(self, node: int | None = None, kill: bool = False) -> None:
        """One node or all; `kill` is SIGKILL."""
        which = [] if node is None else ["--node", str(node)]
        self._launch("stop", *which, *(["--kill"] if kill else []))

    def node_of(self, node_id: int) -> int:
        """Counted from 0, of the id by which Kafka calls it."""
        return node_id - 1

    def freeze(self, node: int) -> None:
        """SIGSTOP: its sockets stay open, and nothing answers."""
        os.kill(self._pid(node), signal.SIGSTOP)

    def thaw(self, node: int) -> None:
        """SIGCONT."""
        os.kill(self._pid(node), signal.SIGCONT)

    def kill_at_once(self, node: int) -> None:
        """SIGKILL without the launcher's half second; `start` then brings it back."""
        os.kill(self._pid(node), signal.SIGKILL)

    def _pid(self, node: int) -> int:
        return int(self._told["nodes"][node]["pid"])

    def _launch(self, verb: str, *arguments: str) -> str:
        command = [LAUNCHER, verb, "--dir", str(self.directory), *arguments]
        environment = dict(os.environ) if self._heap is None else os.environ | COLLECTOR
        said = ""
        for _ in range(ATTEMPTS):
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=LAUNCH_TIMEOUT_S
            )
            if done.returncode == 0:
                return done.stdout
            said = done.stderr
        raise DrillError(f"the launcher of Kafka cannot {verb}: {said}")


class Foreign:
    """A broker that KAFKA_BOOTSTRAP_SERVERS names and that no drill may touch."""

    directory: Path | None = None
    brokers = 1

    def __init__(self, bootstrap_servers: str) -> None:
        self.bootstrap_servers = bootstrap_servers
