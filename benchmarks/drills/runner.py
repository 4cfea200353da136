"""Runs drills one after the other, and leaves nothing behind: brokers, workers, files."""

import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

from benchmarks.drills.brokers import LAUNCHER, Cluster, Foreign
from benchmarks.drills.drill import Drill, Row
from benchmarks.drills.errors import DrillError, SkippedError
from benchmarks.drills.stage import Stage
from benchmarks.drills.verdict import judged

Broker = Cluster | Foreign


class Runner:
    """`with Runner(...) as runner:`; one broker is shared by the drills that leave it in peace.

    Logs and data of drills that were not exact stay; with `keep`, all of them.
    """

    def __init__(self, quick: bool, keep: bool) -> None:
        self._quick = quick
        self._keep = keep
        self.kept = keep
        self._folder = Path(tempfile.mkdtemp(prefix="flashcast-drills-"))
        self._shared: Broker | None = None
        self._clusters: list[Cluster] = []

    def __enter__(self) -> "Runner":
        return self

    def __exit__(self, *_: object) -> None:
        for cluster in self._clusters:
            with contextlib.suppress(DrillError):
                cluster.stop(kill=True)
        if not self.kept:
            shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def folder(self) -> Path:
        """Logs of workers and brokers, and their data."""
        return self._folder

    def run(self, drill: Drill, seed: int) -> Row:
        """The drill's row, whatever happens: what kept it from a verdict is its cause."""
        began_s = time.monotonic()
        folder = self._folder / drill.name
        folder.mkdir()
        try:
            with _bounded(drill.bound_s), self._broker(drill) as broker:
                row = self._on(broker, drill, folder, seed, began_s)
        except SkippedError as error:
            row = _unfinished(drill, seed, f"skipped: {error}", began_s) | {"exact": None}
        except Exception as error:
            row = _unfinished(drill, seed, f"{type(error).__name__}: {error}", began_s)
        if row["exact"] is False:
            self.kept = True
        elif not self._keep:
            shutil.rmtree(folder, ignore_errors=True)
        return row

    def _on(self, broker: Broker, drill: Drill, folder: Path, seed: int, began_s: float) -> Row:
        with Stage(drill, broker, folder, seed, self._quick) as stage:
            drill.faults(stage)
            stage.settle()
            row = judged(stage, began_s)
            if row["exact"]:  # else they are the evidence
                stage.remove_topics()
        return row

    @contextlib.contextmanager
    def _broker(self, drill: Drill) -> Iterator[Broker]:
        """The shared one, or one of the drill's own that is gone afterwards."""
        if not drill.brokers:
            if self._shared is None:
                self._shared = self._shared_broker()
            yield self._shared
            return
        cluster = self._started(f"{drill.name}-kafka", drill.brokers, drill.broker_settings)
        try:
            yield cluster
        finally:
            for node in range(drill.brokers):
                with contextlib.suppress(OSError):
                    cluster.thaw(node)
            cluster.stop(kill=True)

    def _shared_broker(self) -> Broker:
        named = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
        return Foreign(named) if named else self._started("kafka", 1, ())

    def _started(self, name: str, brokers: int, settings: tuple[str, ...]) -> Cluster:
        if not LAUNCHER:
            raise DrillError("needs brokers of its own: FLASHCAST_TEST_KAFKA names no launcher")
        cluster = Cluster(self._folder / name, brokers, settings)
        self._clusters.append(cluster)
        cluster.start()
        return cluster


@contextlib.contextmanager
def _bounded(bound_s: float) -> Iterator[None]:
    """Whatever hangs inside is interrupted."""

    def too_long(number: int, frame: FrameType | None) -> NoReturn:
        raise DrillError(f"the drill took longer than {bound_s:g} s")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, bound_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _unfinished(drill: Drill, seed: int, cause: str, began_s: float) -> Row:
    figures = (
        "accepted", "lost", "double", "dead_letters_expected", "dead_letters_found",
        "decisions_lost", "decisions_changed", "resume_s", "rss_peak_mb",
    )  # fmt: skip
    return {
        "name": drill.name,
        "seed": seed,
        **dict.fromkeys(figures),
        "exact": False,
        "cause": cause,
        "guarantee": drill.guarantee,
        "seconds": round(time.monotonic() - began_s, 1),
    }
