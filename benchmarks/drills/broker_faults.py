"""Brokers killed, frozen and restarted while workers commit."""

from benchmarks.drills.drill import Drill
from benchmarks.drills.stage import Moment, Stage

ROUNDS, ROUNDS_QUICK = 5, 1


def kill_the_broker(stage: Stage) -> None:
    """The only broker killed (-9) and started again on its data, five times, under load."""
    stage.begin(2)
    for _ in range(ROUNDS_QUICK if stage.quick else ROUNDS):
        stage.pause(1.0, 3.0)
        fault = Moment()
        stage.cluster.kill_at_once(0)
        stage.pause(0.0, 1.5)
        stage.cluster.start()
        stage.note(broker_kills=1)
        stage.resume(fault)


KILL_BROKER = Drill(
    "kill-broker",
    "the only broker killed (-9) and restarted under load, five times",
    kill_the_broker,
    bound_s=900.0,
    brokers=1,
)
