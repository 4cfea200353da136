"""How long a partition stands still when its worker dies: `python -m benchmarks.takeover`.

One partition with 200,000 SKUs and 1,000,000 remembered events (`--skus`, `--events`), on Apache
Kafka: `KAFKA_BOOTSTRAP_SERVERS`, or one that the launcher named by `FLASHCAST_TEST_KAFKA` starts.

- restore: `Opening.open` alone, from the changelog, from a fresh local copy, from a standby; each
  must find every SKU, and the same marker.
- takeover: two worker processes, the owner gets SIGKILL. Detection is up to the assignment at the
  other (the group's session time-out, FLASHCAST_SESSION_TIMEOUT_MS, and the rebalance), restore
  from there until it consumes.

Prints a table and writes benchmarks/results/takeover.json.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from kafka.admin import KafkaAdminClient, NewTopic

from streams import topics
from streams.cluster import Cluster
from streams.core_thread import CoreThread
from streams.fetch_seam import seam_problem
from streams.monitor import Monitor
from streams.opening import Opening, load_forecaster
from streams.owned import Owned
from streams.publish import Publisher
from streams.settings import Settings, load
from streams.standby import Standbys

RESULTS = Path(__file__).with_name("results") / "takeover.json"
SEED = 7
SPAN_MS = 20_000
HASH_KEY = (5, 7)
WAIT_S = 600.0
PROGRAM = (
    "import sys; from streams.app import run_worker; from streams.settings import load; "
    "sys.exit(run_worker(load()))"
)


@contextlib.contextmanager
def broker(folder: Path) -> Iterator[str]:
    """The address of one that is there, or of one that is started for this."""
    if named := os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        yield named
        return
    launcher = os.environ["FLASHCAST_TEST_KAFKA"]
    command = [launcher, "start", "--dir", str(folder / "kafka")]
    try:
        for _ in range(3):  # starting again brings up what is down
            started = subprocess.run(command, capture_output=True, text=True)
            if started.returncode == 0:
                break
        assert started.returncode == 0, started.stderr
        yield json.loads(started.stdout)["bootstrap_servers"]
    finally:
        stop = [launcher, "stop", "--dir", str(folder / "kafka"), "--kill"]
        subprocess.run(stop, capture_output=True, check=True)


async def publish(settings: Settings, skus: int, events: int) -> None:
    """Nine clicks to a cart or order; every SKU once at least, the others at random."""
    chance = random.Random(SEED)
    start_ms = time.time_ns() // 1_000_000 - 10 * SPAN_MS
    async with Publisher(settings) as publisher:
        for begin in range(0, events, 5_000):
            batches: dict[str, list[tuple[bytes | None, bytes | None]]] = {
                topic: [] for topic in topics.EVENT_TOPICS
            }
            for number in range(begin, min(begin + 5_000, events)):
                topic = chance.choices(topics.EVENT_TOPICS, (80, 10, 10))[0]
                sku = f"SKU-{number if number < skus else chance.randrange(skus):06d}"
                body: dict[str, object] = {
                    "event_id": f"{number:032x}",
                    "sku": sku,
                    "user_id": f"u{number % 9_999}",
                    "event_time_ms": start_ms + SPAN_MS * number // events,
                    "price_cents": 1_999,
                }
                if topic != topics.CLICKS:
                    body["quantity"] = 1
                batches[topic].append((sku.encode(), msgspec.json.encode(body)))
            for topic, records in batches.items():
                await publisher.publish(topic, records)
        await publisher.flush()


def until(reached: Callable[[], Any], what: str) -> float:
    """The monotonic time at which it was."""
    deadline = time.monotonic() + WAIT_S
    while not reached():
        assert time.monotonic() < deadline, f"{what}: not within {WAIT_S} s"
        time.sleep(0.02)
    return time.monotonic()


class WorkerProcess:
    """One `flashcast worker` with a disk of its own."""

    def __init__(self, settings: Settings, name: str, port: int, standbys: int) -> None:
        self._url = f"http://127.0.0.1:{port}/metrics"
        self._log = (settings.data_dir / f"{name}.log").open("ab")
        environment = {
            **os.environ,
            "KAFKA_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
            "FLASHCAST_TOPIC_PREFIX": settings.topic_prefix,
            "FLASHCAST_DATA_DIR": str(settings.data_dir / name),
            "FLASHCAST_WEB_PORT": str(port),
            "FLASHCAST_STANDBY_REPLICAS": str(standbys),
            "FLASHCAST_SKUS_MAX": str(settings.skus_max),
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM], env=environment, stdout=self._log, stderr=self._log
        )

    def metric(self, name: str) -> float:
        """Summed over labels; 0 while it cannot be asked."""
        try:
            with urllib.request.urlopen(self._url, timeout=5) as answer:
                lines = answer.read().decode().splitlines()
        except OSError:
            return 0.0
        return sum(
            float(one.split()[-1]) for one in lines if one.startswith((name + "{", name + " "))
        )

    def end(self, kill: bool = False) -> None:
        self.process.kill() if kill else self.process.terminate()
        self.process.wait(30)
        self._log.close()


def processed(worker: WorkerProcess, events: int) -> bool:
    counted = worker.metric("flashcast_events_total")
    waits = worker.metric("flashcast_checkpoint_age_seconds")
    return counted >= events and waits == 0 and worker.metric("flashcast_checkpoints_total") > 0


async def opened(opening: Opening) -> tuple[Owned, float]:
    began = time.perf_counter()
    owned = await opening.open(0)
    return owned, time.perf_counter() - began


@contextlib.asynccontextmanager
async def parts(
    settings: Settings, partitions: int = 1
) -> AsyncIterator[tuple[Opening, Standbys, Monitor]]:
    """What a worker process opens its partitions with."""
    core, monitor, cluster = CoreThread(), Monitor(process=False), Cluster(settings)
    standbys = Standbys(settings, cluster, partitions, HASH_KEY, monitor)
    forecaster = load_forecaster(settings)
    yield (
        Opening(settings, cluster, partitions, forecaster, HASH_KEY, core, monitor, standbys),
        standbys,
        monitor,
    )
    await standbys.close()
    core.close()


async def restores(settings: Settings, skus: int) -> dict[str, dict[str, float]]:
    """Seconds and rows a second of each kind of restore, checked against one another."""
    found: dict[str, dict[str, float]] = {}
    answers = []
    async with parts(settings) as (opening, standbys, monitor):

        def has_caught_up() -> bool:
            return bool(monitor.standby_catch_ups._value.get() >= 2)

        for kind in ("warm-up", "changelog", "local copy", "standby"):
            if kind in ("warm-up", "changelog"):
                shutil.rmtree(settings.data_dir / "state", ignore_errors=True)
            if kind == "standby":
                began = time.perf_counter()
                await standbys.keep({0})
                await asyncio.to_thread(until, has_caught_up, "the standby")
                print(f"a standby has caught up after {time.perf_counter() - began:.1f} s")
            owned, seconds = await opened(opening)
            answers.append((len(owned.pipeline.skus), owned.committed))
            await owned.emitter.stop()
            found[kind] = {"seconds": round(seconds, 2), "rows_per_s": round(skus / seconds)}
    assert all(answer == answers[0] for answer in answers) and answers[0][0] == skus, answers
    del found["warm-up"]
    return found


def takeover(settings: Settings, standbys: int, ports: tuple[int, int]) -> dict[str, float]:
    """Seconds from SIGKILL of the owner to the assignment, and from there until it is ready."""
    first = WorkerProcess(settings, f"first-{standbys}", ports[0], standbys)
    try:
        until(lambda: first.metric("flashcast_partitions_ready") == 1, "the owner")
        second = WorkerProcess(settings, f"second-{standbys}", ports[1], standbys)
        try:
            until(lambda: second.metric("flashcast_rebalances_total") >= 1, "the other is in")
            if standbys:
                until(lambda: second.metric("flashcast_standby_catch_ups_total") >= 2, "caught up")
            workers = [first, second]
            owner = next(w for w in workers if w.metric("flashcast_partitions_ready") == 1)
            other = next(w for w in workers if w is not owner)
            before = other.metric("flashcast_rebalances_total")
            killed = time.monotonic()
            owner.process.kill()
            assigned = until(
                lambda: other.metric("flashcast_rebalances_total") > before, "the assignment"
            )
            ready = until(lambda: other.metric("flashcast_partitions_ready") == 1, "ready")
            return {
                "detection_s": round(assigned - killed, 2),
                "restore_s": round(ready - assigned, 2),
            }
        finally:
            second.end(kill=True)
    finally:
        first.end(kill=True)


def measure(settings: Settings, skus: int, events: int) -> dict[str, Any]:
    """Everything, on topics of its own."""
    asyncio.run(publish(settings, skus, events))
    worker = WorkerProcess(settings, "builder", 17_101, 0)
    try:
        until(lambda: processed(worker, events), "the state is made")
    finally:
        worker.end()
    result: dict[str, Any] = {"skus": skus, "events": events}
    result["session_timeout_ms"] = settings.session_timeout_ms
    result["restore"] = asyncio.run(restores(settings, skus))
    result["takeover"] = {
        "without standby": takeover(settings, 0, (17_102, 17_103)),
        "with standby": takeover(settings, 1, (17_104, 17_105)),
    }
    return result


def table(result: dict[str, Any]) -> Iterator[str]:
    yield f"one partition, {result['skus']:,} SKUs, {result['events']:,} events remembered"
    for kind, one in result["restore"].items():
        yield f"restore from {kind:11s} {one['seconds']:7.2f} s {one['rows_per_s']:10,d} rows/s"
    for kind, one in result["takeover"].items():
        yield (
            f"takeover {kind:15s} detection {one['detection_s']:6.2f} s (session time-out "
            f"{result['session_timeout_ms'] / 1_000:g} s), restore {one['restore_s']:6.2f} s"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--skus", type=int, default=200_000)
    parser.add_argument("--events", type=int, default=1_000_000)
    chosen = parser.parse_args()
    if not {"KAFKA_BOOTSTRAP_SERVERS", "FLASHCAST_TEST_KAFKA"} & os.environ.keys():
        print("left out: neither KAFKA_BOOTSTRAP_SERVERS nor FLASHCAST_TEST_KAFKA is set")
        return
    if problem := seam_problem():
        print(f"raw answers cannot be had, restores are slower: {problem}")
    with tempfile.TemporaryDirectory() as name, broker(Path(name)) as address:
        settings = load(
            bootstrap_servers=address,
            topic_prefix=f"bench-{os.getpid()}-",
            data_dir=Path(name),
            standby_replicas=1,
            skus_max=5 * chosen.skus,  # SKUs without a catalog entry are given a quarter of it
        )
        admin = KafkaAdminClient(bootstrap_servers=address)
        plans = topics.plans(settings.topic_prefix)
        admin.create_topics([NewTopic(one.name, 1, 1, topic_configs=one.config) for one in plans])
        try:
            result = measure(settings, chosen.skus, chosen.events)
        finally:
            admin.delete_topics([one.name for one in plans])
            admin.close()
    print("\n".join(table(result)))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
