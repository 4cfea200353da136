"""The drills themselves, shortened: kills of workers and of a broker, on real Kafka."""

import os
from pathlib import Path

import pytest
from brokers import LAUNCHER

from benchmarks.drills.catalogue import DRILLS
from benchmarks.drills.drill import Drill
from benchmarks.drills.runner import Runner

SEED = 5
QUICK = [drill for drill in DRILLS if drill.quick]


@pytest.mark.kafka
@pytest.mark.skipif(not LAUNCHER, reason="FLASHCAST_TEST_KAFKA does not name a launcher")
@pytest.mark.parametrize("drill", QUICK, ids=[drill.name for drill in QUICK])
def test_a_short_drill_is_exact(drill: Drill, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
    print(f"seed {SEED}")
    with Runner(quick=True, keep=False) as runner:
        row = runner.run(drill, SEED)
    assert row["exact"], row
    assert row["accepted"] > 5_000
    assert row["kills"] >= 2
    assert row["resume_s"] > 0
    assert not _left_behind(runner.folder)


def _left_behind(folder: Path) -> list[str]:
    """Processes that still have something to do with the drill."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if str(folder).encode() in command and int(process.name) != os.getpid():
            found.append(f"{process.name}: {command!r}")
    return found
