"""Windows against the oracle, under any interleaving, silence, crash and restore."""

import random

import numpy as np
import pytest

from streams.watermark import Cut
from streams.windows import Verdict, WindowsConfig
from tests.streams.oracle import Event, verdicts, windows
from tests.streams.stage import T0, Stage

MONTH_MS = 30 * 86_400_000
NAMES = {
    "applied": Verdict.APPLIED,
    "duplicate": Verdict.DUPLICATE,
    "late": Verdict.LATE,
    "refused": Verdict.REFUSED,
}


def config_of(rng: random.Random) -> WindowsConfig:
    return WindowsConfig(
        bucket_ms=rng.choice([100, 1_000, 10_000]),
        allowed_lateness_ms=rng.choice([0, 500, 5_000]),
        future_tolerance_ms=rng.choice([0, 5_000]),
        dedupe_horizon_records=rng.choice([3, 10, 1_000]),
        idle_timeout_ms=5_000,
        history=8,
    )


def logs_of(rng: random.Random, config: WindowsConfig) -> list[list[Event]]:
    """Three logs that advance together, with gaps, stragglers, fast clocks, repeats, refusals."""
    logs: list[list[Event]] = [[], [], []]
    offsets = [rng.randrange(5), 0, 0]
    time_ms = T0
    for number in range(rng.choice([5, 40, 150])):
        time_ms += rng.choice([0, 10, 300, 2_000, 15_000])
        if rng.random() < 0.02:
            time_ms += MONTH_MS
        kind = rng.randrange(3)
        offsets[kind] += rng.choice([1, 1, 1, 2, 7])  # gaps: control records, compaction
        repeated = rng.choice(logs[kind][-25:]) if logs[kind] and rng.random() < 0.15 else None
        event_time_ms = time_ms - rng.choice([0, 0, 0, 100, 4_000, 30_000])
        if rng.random() < 0.1:  # a fast client clock
            event_time_ms = time_ms + rng.randrange(config.future_tolerance_ms + 1)
        logs[kind].append(
            Event(
                offset=offsets[kind],
                timestamp_ms=time_ms,
                event_id=repeated.event_id if repeated else number,
                sku=rng.choice(["a", "b", "c", "dddddddddddddd", "é"]),
                event_time_ms=event_time_ms,
                price_cents=rng.randrange(1_000),
                quantity=rng.randrange(1, 9),
                refused=rng.random() < 0.03,
            )
        )
    return logs


class Shell:
    """Drives a stage at random: slices, closings, silences, checkpoints and crashes."""

    def __init__(self, seed: int, *, exactly_once: bool) -> None:
        self.rng = random.Random(seed)
        self.exactly_once = exactly_once
        self.config = config_of(self.rng)
        self.logs = logs_of(self.rng, self.config)
        self.stage = Stage(self.config, self.logs)
        self.now_ms = 1_000_000
        self.cuts: list[Cut] = []  # taken and not yet durable
        self.left: list[str] = []  # likewise
        # what is durable
        self.marker: tuple[dict, list[int]] | None = None
        self.rows: dict[str, dict[str, np.ndarray]] = {}
        self.outputs: list[tuple[str, int, tuple]] = []
        self.kept_cuts: dict[bytes, bytes] = {}

    def act(self) -> None:
        rng, stage = self.rng, self.stage
        action = rng.choice(
            ["step"] * 12 + ["close"] * 6 + ["silence", "checkpoint", "crash"] * 2 + ["leave"]
        )
        if action == "step":
            stage.step(rng.randrange(3), rng.choice([1, 3, 20, 200]))
        elif action == "close":
            stage.close()
        elif action == "silence":
            self.silence(rng.choice([1_000, 6_000, 20_000]))
        elif action == "checkpoint":
            self.checkpoint(whole=True)
        elif action == "leave":
            self.leave()
        elif rng.random() < 0.3:
            if not self.exactly_once:
                self.checkpoint(whole=False)
            self.crash()

    def leave(self) -> None:
        """Some SKUs leave the sale, though they may come back; others take their rows."""
        skus = self.stage.skus
        rows = [row for row in range(skus.size) if skus.name(row) and self.rng.random() < 0.5]
        if self.marker is not None:
            freed = self.stage.windows.release(rows, self.marker[0])
            self.left += [sku.decode() for _, sku in freed]

    def silence(self, for_ms: int) -> None:
        """Time passes; topics read to their end (here: or not at all) answer with nothing."""
        stage = self.stage
        for _ in range(for_ms // 1_000):
            self.now_ms += 1_000
            for kind in range(3):
                if stage.exhausted(kind):
                    stage.windows.empty(kind, stage.end_offset(kind), self.now_ms)
            wall_ms = self.rng.choice([None, T0, T0 + 10 * MONTH_MS])
            self.cuts += stage.windows.idle_cuts(self.now_ms, wall_ms)

    def checkpoint(self, *, whole: bool) -> None:
        """Outputs, cuts, rows, marker, in that order; a crash leaves off anywhere after outputs."""
        stage = self.stage
        self.outputs += stage.outputs
        self.kept_cuts |= {cut.key: cut.value for cut in self.cuts}
        stage.outputs, self.cuts = [], []
        for name in self.left:
            if whole or self.rng.random() < 0.5:
                self.rows.pop(name, None)
        dirty = np.flatnonzero(stage.windows.dirty)
        state = stage.windows.gather(dirty)
        for at, row in enumerate(dirty):
            if whole or self.rng.random() < 0.5:
                self.rows[stage.skus.name(int(row)).decode()] = {
                    name: array[at : at + 1] for name, array in state.items()
                }
        if whole:
            self.left = []
            stage.windows.dirty[:] = False
            self.marker = stage.windows.meta(), [stage.position(kind) for kind in range(3)]

    def crash(self) -> None:
        """A new stage from what is durable."""
        judged = self.stage.verdicts
        self.stage = stage = Stage(self.config, self.logs)
        self.cuts, self.left = [], []
        kept = [Cut.decode(value) for value in self.kept_cuts.values()]
        if self.marker is not None:
            stage.windows.restore_meta(self.marker[0], kept)
        else:
            for cut in kept:
                stage.windows.add_cuts([cut])
        for name, state in self.rows.items():
            stage.windows.scatter(np.array([stage.skus.insert(name.encode())]), state)
        positions = self.marker[1] if self.marker else [0, 0, 0]
        for kind in range(3):
            stage.seek(kind, positions[kind])
            stage.verdicts[kind] = {
                offset: verdict
                for offset, verdict in judged[kind].items()
                if not self.exactly_once or offset < positions[kind]
            }

    def finish(self) -> None:
        stage = self.stage
        stage.run()
        for _ in range(40):
            self.silence(6_000)
            stage.run()
        self.checkpoint(whole=True)


def check(shell: Shell) -> None:
    config, stage = shell.config, shell.stage
    cuts = [Cut.decode(value) for value in shell.kept_cuts.values()]
    said = [
        verdicts(
            log,
            [(cut.position, cut.through_ms) for cut in cuts if cut.kind == kind],
            config.allowed_lateness_ms,
            config.dedupe_horizon_records,
        )
        for kind, log in enumerate(shell.logs)
    ]
    for kind, log in enumerate(shell.logs):
        assert stage.exhausted(kind), "something waits for ever"
        for event in log:
            found = stage.verdicts[kind][event.offset]
            expected = NAMES[said[kind][event.offset]]
            if not shell.exactly_once and found == Verdict.STAMPED:
                continue  # its row has it, or what came after it, from before a crash
            assert found == expected, (kind, event)
    expected_windows = windows(shell.logs, said, config.bucket_ms)
    found_windows: dict[tuple[str, int], tuple] = {}
    for sku, start_ms, summary in shell.outputs:
        if shell.exactly_once:
            assert (sku, start_ms) not in found_windows, "a bucket closed twice"
        assert found_windows.setdefault((sku, start_ms), summary) == summary
    assert found_windows == expected_windows


@pytest.mark.parametrize("seed", range(150))
def test_windows_are_exact_under_any_interleaving_and_crash_exactly_once(seed: int) -> None:
    print("seed", seed)
    shell = Shell(seed, exactly_once=True)
    for _ in range(150):
        shell.act()
    shell.finish()
    check(shell)


@pytest.mark.parametrize("seed", range(150))
def test_windows_are_exact_when_rows_are_newer_than_the_marker(seed: int) -> None:
    print("seed", seed)
    shell = Shell(seed, exactly_once=False)
    for _ in range(150):
        shell.act()
    shell.finish()
    check(shell)
