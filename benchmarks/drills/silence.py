"""A silent topic while the broker cannot be reached: no answer is not the answer that there is
nothing, so no bucket may be closed over what waits outside.
"""

import time
from collections.abc import Iterable

from benchmarks.drills.aside import Aside
from benchmarks.drills.drill import Drill, Row
from benchmarks.drills.stage import Moment, Stage
from benchmarks.drills.workload import Workload

OUTAGES_S = (3.0, 4.5, 15.0)
OUTAGES_QUICK_S = (4.5,)
EVERY_S = 0.2


def freeze_while_orders_are_silent(stage: Stage) -> None:
    """Orders say nothing until the broker is frozen (SIGSTOP), and then wait outside as clicks and
    carts do; three outages, shorter and longer than the silence that counts.
    """
    stage.begin(2)
    work, number = stage.workload, 0
    with Aside(stage) as aside:
        for outage_s in OUTAGES_QUICK_S if stage.quick else OUTAGES_S:
            stage.pause(3.0, 4.0)
            fault = Moment()
            stage.cluster.freeze(0)
            while time.monotonic() < fault.monotonic_s + outage_s:
                at_ms = work.start_ms + stage.load.sent * work.step_us // 1_000
                sku = stage.chance.randrange(work.skus)
                aside.event(work.one("orders", sku, f"in-outage-{number}", at_ms))
                number += 1
                time.sleep(EVERY_S)
            stage.cluster.thaw(0)
            stage.note(outages=1)
            stage.resume(fault)
    stage.note(orders_in_outages=number)


def _no_cut(stage: Stage, row: Row) -> Iterable[str]:
    if row["late_by_cut"]:
        yield f"{row['late_by_cut']} events are late by a cut that an outage made"
    if not row["cuts"]:
        yield "the silent topic was never cut, so that nothing was tried"


IDLE_IN_OUTAGE = Drill(
    "idle-topic-in-outage",
    "one idle topic while the broker is frozen: what waits outside is not cut off",
    freeze_while_orders_are_silent,
    workload=Workload(silent=("orders",), duplicate_share=0.0),
    brokers=1,
    also=_no_cut,
)
