"""A program as a process with all that it starts, watched from outside through /proc."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

SAMPLE_S = 0.1
SEARCH_EVERY = 5  # samples between two looks for new processes
GRACE_S = 20.0
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
KEPT_VARIABLES = ("PATH", "HOME", "LANG", "JAVA_HOME", "TMPDIR", "NUMBA_CACHE_DIR")


class Process:
    """A session of its own; every process in it belongs to the program."""

    def __init__(self, command: Sequence[str], variables: Mapping[str, str], log: Path) -> None:
        kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
        self.log = log
        self.started_s = time.time()
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                env=kept | dict(variables),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=log.parent,
                start_new_session=True,
            )
        self.usage = Usage(self._process.pid)

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

    def said(self, lines: int = 12) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def end(self) -> None:
        """SIGTERM, and SIGKILL to what is left of the session; nothing is when this returns."""
        self.usage.stop()
        if self.running:
            self._process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(GRACE_S)
        for pid in _session(self._process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()


class Usage:
    """CPU time and memory of a session, sampled; what ended counts through its parent."""

    def __init__(self, session: int) -> None:
        self._session = session
        self._samples: list[tuple[float, float]] = []  # wall time, CPU seconds
        self.rss_peak_bytes = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="usage", daemon=True)
        self._thread.start()

    def cpu_s(self, begin_s: float, end_s: float) -> float:
        """CPU seconds between two wall times, interpolated between samples."""
        wall, cpu = np.array(self._samples).T
        begin, end = np.interp([begin_s, end_s], wall, cpu)
        return float(end - begin)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        members: list[int] = []
        count = 0
        while True:
            if count % SEARCH_EVERY == 0:
                members = _session(self._session)
            count += 1
            cpu_s, rss_bytes = 0.0, 0
            for pid in members:
                stat = _stat(pid)
                if stat:
                    cpu_s += sum(map(int, stat[11:15])) / TICKS_PER_S
                    rss_bytes += int(stat[21]) * PAGE_BYTES
            if not self._samples or cpu_s >= self._samples[-1][1]:
                self._samples.append((time.time(), cpu_s))
            self.rss_peak_bytes = max(self.rss_peak_bytes, rss_bytes)
            if self._stop.wait(SAMPLE_S):
                return


def _session(session: int) -> list[int]:
    """Process ids that belong to it."""
    found = []
    for name in os.listdir("/proc"):  # noqa: PTH208  names alone, several times a second
        if name.isdigit():
            stat = _stat(int(name))
            if stat and int(stat[3]) == session:
                found.append(int(name))
    return found


def _stat(pid: int) -> list[str]:
    """From the state on, which is the third field of /proc/PID/stat; empty: it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return []
