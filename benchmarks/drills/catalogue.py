"""Every drill, in the order in which they run."""

from benchmarks.drills import broker_faults, worker_kills
from benchmarks.drills.drill import Drill

DRILLS: tuple[Drill, ...] = (
    worker_kills.KILLS,
    worker_kills.KILLS_AT_LEAST_ONCE,
    worker_kills.TAKEOVER,
    broker_faults.KILL_BROKER,
)
