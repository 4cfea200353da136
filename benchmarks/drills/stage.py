"""Everything that one drill runs on: broker, topics, load, workers, and eyes on them.

with Stage(drill, cluster, ...) as stage:     topics made, assortment published, nothing running
    drill.faults(stage)                        starts workers and load, breaks things
    stage.settle()                             the load ends; workers finish what is there
"""

import contextlib
import random
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError

from benchmarks.drills.brokers import Cluster, Foreign
from benchmarks.drills.drill import Drill
from benchmarks.drills.errors import DrillError
from benchmarks.drills.fleet import Fleet
from benchmarks.drills.load import Load
from benchmarks.drills.observer import Observer
from benchmarks.drills.transactions import TransactionView
from benchmarks.drills.waiting import until
from streams import topic_admin
from streams.settings import Settings

RESUME_TIMEOUT_S = 150.0


class Stage:
    """`note` adds figures to the drill's row; `chance` is the drill's only source of chance."""

    def __init__(
        self, drill: Drill, cluster: Cluster | Foreign, directory: Path, seed: int, quick: bool
    ) -> None:
        self.drill = drill
        self.workload = drill.workload.as_of(time.time_ns() // 1_000_000)
        self.quick = quick
        self.seed = seed
        self.directory = directory
        self.chance = random.Random(seed)
        self.resumes_s: list[float] = []
        self.notes: dict[str, Any] = {}
        self._began_s = time.monotonic()
        self.brokers = cluster
        self._closing = contextlib.ExitStack()
        values: dict[str, Any] = {
            "bootstrap_servers": cluster.bootstrap_servers,
            "topic_prefix": f"{drill.name}-{seed}-{time.time_ns() // 1_000_000 % 10**8}-",
            "partitions": drill.workload.partitions,
            "processing_guarantee": drill.guarantee,
            "idle_timeout_ms": 1_000,
            "session_timeout_ms": 6_000,
            "clock": "event",
            "checkpoint_interval_ms": 1_000,  # more to fail in the middle of
        }
        self.settings = Settings(**(values | drill.settings))

    def __enter__(self) -> "Stage":
        with self._closing:  # undone, should anything below fail
            topic_admin.create(self.settings, min(self.brokers.brokers, 3))
            self.load = Load(
                self.settings.bootstrap_servers,
                self.settings.topic_prefix,
                self.workload,
                self.seed,
            )
            self._closing.callback(self.load.close)
            self.load.publish_references()
            self.observer = Observer(
                self.settings.bootstrap_servers,
                self.settings.topic("changelog"),
                self.settings.partitions,
                self.drill.guarantee == "exactly_once",
            )
            self._closing.callback(self.observer.stop)
            self.observer.start()
            self.fleet = Fleet(self.settings, self.directory, self.drill.static_members)
            self._closing.callback(self.fleet.close)
            self._closing = self._closing.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    # -- what faults are made of

    @property
    def cluster(self) -> Cluster:
        """The drill's own brokers."""
        assert isinstance(self.brokers, Cluster), f"{self.drill.name} must say how many brokers"
        return self.brokers

    def begin(self, workers: int, variables: Mapping[str, str] | None = None) -> None:
        """Workers, with `variables` in their environment, and load; returns when every partition
        has made its first checkpoint.
        """
        for place in range(workers):
            self.fleet.start(place, variables)
        self.fleet.wait_until_ready()
        self.load.start()
        until(lambda: self.observer.resumed(0), RESUME_TIMEOUT_S, "a checkpoint of each partition")
        self.notes["started_s"] = round(time.monotonic() - self._began_s, 1)

    def pause(self, low_s: float, high_s: float) -> None:
        """The load and the workers go on; how long is chance's."""
        time.sleep(self.chance.uniform(low_s, high_s))

    def resume(
        self, since: "Moment", partitions: Iterable[int] | None = None, timeout_s: float = 0.0
    ) -> float:
        """Wait until each partition affected (all, unless named) has a checkpoint that was begun
        after the fault and is visible to subscribers; the seconds from the fault until then.
        """
        timeout_s = timeout_s or RESUME_TIMEOUT_S
        seen_s = until(
            lambda: self.observer.resumed(since.wall_ms, partitions),
            timeout_s,
            f"checkpoints of every partition again; running: {len(self.fleet.running())} workers",
        )
        self.resumes_s.append(seen_s - since.monotonic_s)
        return self.resumes_s[-1]

    def afterwards(self, undo: Callable[[], object]) -> None:
        """Called when the drill is over, whatever became of it."""
        self._closing.callback(undo)

    def transactional_ids(self) -> list[str]:
        """Of every partition's checkpoints."""
        return [self.settings.transactional_id(f"p{n}") for n in range(self.settings.partitions)]

    def transactions(self) -> TransactionView:
        """A view of the transactions; to be closed."""
        return TransactionView(self.settings.bootstrap_servers)

    def note(self, **figures: Any) -> None:
        """Figures for the row; numbers under one name add up."""
        for name, figure in figures.items():
            counted = isinstance(figure, int) and not isinstance(figure, bool)
            self.notes[name] = self.notes.get(name, 0) + figure if counted else figure

    # -- the end

    def settle(self) -> None:
        """End the load. Workers must still be there to process the rest."""
        self.load.finish()
        self.notes["settled_s"] = round(time.monotonic() - self._began_s, 1)
        if not self.fleet.running():
            raise DrillError("no worker is left: " + self._last_words())

    def _last_words(self) -> str:
        return " | ".join(worker.said()[-400:] for _, worker in sorted(self.fleet.at.items()))

    def remove_topics(self) -> None:
        """So that the broker can be used again."""
        with contextlib.suppress(KafkaError):
            admin = KafkaAdminClient(bootstrap_servers=self.settings.bootstrap_servers)
            prefix = self.settings.topic_prefix
            admin.delete_topics([name for name in admin.list_topics() if name.startswith(prefix)])
            admin.close()


class Moment:
    """When a fault began, by both clocks: make one just before it."""

    def __init__(self) -> None:
        self.wall_ms = time.time_ns() // 1_000_000 + 1
        self.monotonic_s = time.monotonic()
