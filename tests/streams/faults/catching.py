"""Seeds by which a worker that is broken on purpose is told from a sound one."""

from collections.abc import Callable
from itertools import chain

import pytest

from streams.faults.run import Outcome, Run

SEEDS = range(1, 301)

Break = Callable[[pytest.MonkeyPatch], None]


def caught(
    first: int,
    broken: Break,
    monkeypatch: pytest.MonkeyPatch,
    shows: Callable[[Outcome], object] = bool,
) -> None:
    """Some seed catches the broken worker, where the sound one's outcome `shows` what it must and
    has no violation. Seed `first` is tried first: it did when it was written down.
    """
    for seed in chain([first], SEEDS):
        with monkeypatch.context() as patched:
            broken(patched)
            found = Run(seed).result()
        if not found.violations:
            continue
        sound = Run(seed).result()
        assert not sound.violations, f"simulate-faults --first {seed} --seeds 1 --trace"
        if shows(sound):
            print(f"caught by seed {seed}")
            return
    pytest.fail(f"went unseen in {len(SEEDS)} seeds")
