"""Workers that come and go, and transactions that others leave open."""

import json
import time

from kafka import KafkaProducer

from benchmarks.drills.drill import Drill
from benchmarks.drills.stage import Moment, Stage

PLACES = 4
STORM_S, STORM_QUICK_S = 180.0, 20.0
EVERY_S = 5.0
OPEN_MS = 15_000


def rebalance_storm(stage: Stage) -> None:
    """Every five seconds for three minutes one worker leaves (SIGTERM) or another joins."""
    stage.begin(2)
    fault = Moment()
    ends_s = time.monotonic() + (STORM_QUICK_S if stage.quick else STORM_S)
    while time.monotonic() < ends_s:
        stage.pause(EVERY_S, EVERY_S)
        running = [place for place, one in stage.fleet.at.items() if one.running]
        free = [place for place in range(PLACES) if place not in running]
        if free and (len(running) <= 1 or stage.chance.random() < 0.5):
            stage.fleet.start(stage.chance.choice(free))
            stage.note(joins=1)
        else:
            stage.fleet.at[stage.chance.choice(running)].terminate()
            stage.note(leaves=1)
    if len(stage.fleet.running()) < 2:
        free = [place for place in range(PLACES) if not _runs(stage, place)]
        stage.fleet.start(free[0])
    stage.resume(fault)


def hung_transaction(stage: Stage) -> None:
    """Another application writes events within a transaction and dies: what comes behind them
    cannot be read until the broker ends it, and they never count.
    """
    stage.begin(2)
    stage.pause(1.0, 2.0)
    fault = Moment()
    producer = KafkaProducer(
        bootstrap_servers=stage.settings.bootstrap_servers.split(","),
        transactional_id=f"{stage.settings.topic_prefix}another",
        transaction_timeout_ms=OPEN_MS,
    )
    producer.init_transactions()
    producer.begin_transaction()
    for partition in range(stage.workload.partitions):
        body = {
            "event_id": f"never-{partition}",
            "sku": "NEVER",
            "user_id": "u",
            "event_time_ms": time.time_ns() // 1_000_000,
            "price_cents": 1,
        }
        producer.send(
            stage.settings.topic("clicks"), json.dumps(body).encode(), b"NEVER", None, partition
        ).get(20)
    producer.close(0)
    stage.note(open_ms=OPEN_MS)
    stage.pause(OPEN_MS / 1_000, OPEN_MS / 1_000)
    stage.resume(fault)
    stage.resume(Moment())


def _runs(stage: Stage, place: int) -> bool:
    return place in stage.fleet.at and stage.fleet.at[place].running


STORM = Drill(
    "rebalance-storm",
    "a worker joins or leaves every 5 s for 3 minutes",
    rebalance_storm,
    bound_s=900.0,
)
HUNG = Drill(
    "hung-transaction",
    "another application's transaction left open on an input topic",
    hung_transaction,
    bound_s=300.0,
)
