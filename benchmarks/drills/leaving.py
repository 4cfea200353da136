"""SIGTERM under load, as every rolling restart sends it."""

import time

from benchmarks.drills.drill import Drill
from benchmarks.drills.errors import DrillError
from benchmarks.drills.stage import Moment, Stage
from benchmarks.drills.waiting import until

ROUNDS, ROUNDS_QUICK = 6, 1
GRACE_S = 10.0
START_TIMEOUT_S = 30.0


def leave_again_and_again(stage: Stage) -> None:
    """One of two workers is asked to leave, six times; the last time both."""
    stage.begin(2)
    slowest_s = 0.0
    rounds = ROUNDS_QUICK if stage.quick else ROUNDS
    for number in range(rounds):
        stage.pause(0.5, 2.5)
        places = [0, 1] if number == rounds - 1 else [stage.chance.randrange(2)]
        for place in places:  # before it has begun, a signal ends the interpreter
            up = stage.fleet.at[place]
            until(lambda one=up: one.probe("/livez"), START_TIMEOUT_S, "a worker begins")
        fault = Moment()
        for place in places:
            began_s = time.monotonic()
            code = stage.fleet.at[place].terminate()
            took_s = time.monotonic() - began_s
            slowest_s = max(slowest_s, took_s)
            if code != 0 or took_s > GRACE_S:
                raise DrillError(f"left after {took_s:.1f} s with exit code {code}")
            stage.note(terminations=1)
        for place in places:
            stage.fleet.start(place)
        stage.resume(fault)
    stage.note(leave_s_max=round(slowest_s, 2))


SIGTERM = Drill(
    "sigterm",
    "workers asked to leave (SIGTERM) under load: exit code 0 within 10 s",
    leave_again_and_again,
)
