"""Wall clocks an hour off. Event time is the log's, so windows may not care; a decision is only
made while it can be of use, so what a clock ahead takes for expired must be counted.
"""

import shutil
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

from benchmarks.drills.aside import Aside, said
from benchmarks.drills.drill import Drill, Row
from benchmarks.drills.errors import SkippedError
from benchmarks.drills.stage import Stage
from benchmarks.drills.waiting import until
from benchmarks.drills.workload import Workload

HOUR_S = 3_600
FARTHER_S = 2 * HOUR_S  # beyond what a broker accepts
CHECKPOINTS, CHECKPOINTS_TIMEOUT_S = 60, 90.0
LASTS_S, LASTS_QUICK_S = 12.0, 3.0
PRODUCERS_OFF = 30
REFUSED = "set the clock"
SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static long off_by_s(void) {
  const char *told = getenv("CLOCK_OFF_BY_S");
  return told ? atol(told) : 0;
}

int clock_gettime(clockid_t id, struct timespec *at) {
  static int (*real)(clockid_t, struct timespec *);
  if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
  int failed = real(id, at);
  if (!failed && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) at->tv_sec += off_by_s();
  return failed;
}

int gettimeofday(struct timeval *at, void *zone) {
  struct timespec now;
  int failed = clock_gettime(CLOCK_REALTIME, &now);
  at->tv_sec = now.tv_sec;
  at->tv_usec = now.tv_nsec / 1000;
  return failed;
}

time_t time(time_t *at) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (at) *at = now.tv_sec;
  return now.tv_sec;
}
"""


def ahead(stage: Stage) -> None:
    """Both workers an hour ahead, then one two hours, which the broker refuses, then one right."""
    off = _off_by(stage, HOUR_S)
    stage.begin(2, off)
    _work(stage)
    _producers_off(stage)
    stage.fleet.at[0].kill()
    stage.fleet.at[1].kill()
    stage.fleet.start(0, _off_by(stage, FARTHER_S))
    until(said(stage, 0, REFUSED), CHECKPOINTS_TIMEOUT_S, "a word about the clock")
    stage.fleet.at[0].kill()
    stage.fleet.start(0)
    stage.fleet.start(1, off)
    stage.note(kills=3)
    _go_on(stage)
    _work(stage)


def behind(stage: Stage) -> None:
    """Both workers an hour behind; then one of them is killed, and comes back with a right one."""
    stage.begin(2, _off_by(stage, -HOUR_S))
    _work(stage)
    stage.fleet.at[0].kill()
    stage.fleet.start(0)
    stage.note(kills=1)
    _go_on(stage)
    _work(stage)


def _work(stage: Stage) -> None:
    lasts_s = LASTS_QUICK_S if stage.quick else LASTS_S
    stage.pause(lasts_s, lasts_s)


def _go_on(stage: Stage) -> None:
    """Told by their number: when checkpoints were made, these clocks cannot say."""
    stage.fleet.wait_until_ready()
    before = stage.observer.checkpoints()
    until(
        lambda: stage.observer.checkpoints() > before + CHECKPOINTS,
        CHECKPOINTS_TIMEOUT_S,
        "checkpoints go on",
    )


def _producers_off(stage: Stage) -> None:
    """Events of now, of producers whose clocks are 50 minutes ahead, and an hour behind: those
    state a time that, by their own clock, is yet to come.
    """
    work, now_ms = stage.workload, time.time_ns() // 1_000_000
    at_ms = work.start_ms + stage.load.sent * work.step_us // 1_000
    with Aside(stage) as aside:
        for number in range(PRODUCERS_OFF):
            early = work.one("clicks", number, f"early-{number}", at_ms)
            aside.event(early, now_ms + 50 * 60_000)
            slow = work.one("clicks", number, f"slow-{number}", at_ms)
            aside.event(slow._replace(truth="event_time_future"), now_ms - HOUR_S * 1_000)


def _off_by(stage: Stage, seconds: int) -> dict[str, str]:
    """The environment of a process whose wall clock, and no other, is off."""
    library = stage.directory / "clock.so"
    if not library.exists():
        _compile(library)
    return {"LD_PRELOAD": str(library), "CLOCK_OFF_BY_S": str(seconds)}


def _compile(library: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        raise SkippedError("no C compiler (cc) to build the clock that is off with")
    source = library.with_suffix(".c")
    source.write_text(SHIM)
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True, capture_output=True)


def _some_expired(stage: Stage, row: Row) -> Iterable[str]:
    if not row["decisions_expired"]:
        yield "a clock an hour ahead, and nothing expired"


def _none_expired(stage: Stage, row: Row) -> Iterable[str]:
    if not row["decisions"]["restock-events"]:
        yield "no restock was made"


OF_TODAY = Workload(speed=4, begins_ago_ms=400_000)
SETTINGS = {"clock": "wall", "review_period_ms": 1_200_000}
CLOCK_AHEAD = Drill(
    "clock-ahead",
    "workers' clocks an hour ahead, one of them two; producers' clocks off",
    ahead,
    workload=OF_TODAY,
    settings=SETTINGS,
    also=_some_expired,
)
CLOCK_BEHIND = Drill(
    "clock-behind",
    "workers' clocks an hour behind",
    behind,
    workload=OF_TODAY,
    settings=SETTINGS,
    also=_none_expired,
)
