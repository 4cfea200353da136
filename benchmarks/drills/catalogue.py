"""Every drill, in the order in which they run."""

from benchmarks.drills import (
    broker_faults,
    clocks,
    dirty_input,
    foreign_rows,
    leaving,
    local_disk,
    membership,
    refused_outputs,
    silence,
    slowness,
    worker_kills,
)
from benchmarks.drills.drill import Drill

DRILLS: tuple[Drill, ...] = (
    worker_kills.KILLS,
    worker_kills.KILLS_AT_LEAST_ONCE,
    worker_kills.TAKEOVER,
    membership.STORM,
    membership.HUNG,
    broker_faults.KILL_BROKER,
    broker_faults.KILL_WITHIN_COMMITS,
    broker_faults.KILL_COORDINATORS,
    broker_faults.FREEZE,
    dirty_input.DIRT,
    dirty_input.POISON,
    leaving.SIGTERM,
    local_disk.DISK_FULL,
    local_disk.DISK_READ_ONLY,
    local_disk.COPY_DAMAGED,
    foreign_rows.FOREIGN_ROWS,
    refused_outputs.OUTPUT_TOO_LARGE,
    silence.IDLE_IN_OUTAGE,
    clocks.CLOCK_AHEAD,
    clocks.CLOCK_BEHIND,
    slowness.SLOW_WORKER,
    slowness.SLOW_SUBSCRIBER,
)
