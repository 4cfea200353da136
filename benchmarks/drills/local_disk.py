"""The disk of the local copy: full, read-only, and with files that were damaged. The changelog is
the state, so none of it may cost more than the copy.
"""

import errno
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

from benchmarks.drills.aside import said
from benchmarks.drills.drill import Drill, Row
from benchmarks.drills.errors import SkippedError
from benchmarks.drills.stage import Moment, Stage
from benchmarks.drills.waiting import until

SIZE = "6m"
NOTICE_TIMEOUT_S = 60.0
WITHOUT_COPY = ("local copy discarded", "no local copy is kept")
DAMAGE_ROUNDS, DAMAGE_ROUNDS_QUICK = 3, 1


def fill_the_disk(stage: Stage) -> None:
    """The disk of one of two workers fills up while it works; then it is restarted on the full
    disk, and at last on one with room again.
    """
    disk = _mounted(stage, 0)
    stage.begin(2)
    stage.pause(1.0, 3.0)
    notices = [said(stage, 0, words) for words in WITHOUT_COPY]
    _fill(disk)
    until(lambda: any(one() for one in notices), NOTICE_TIMEOUT_S, "a word about the full disk")
    _restarted(stage, full=disk)
    (disk / "ballast").unlink()
    _restarted(stage)


def _restarted(stage: Stage, full: Path | None = None) -> None:
    stage.pause(1.0, 3.0)
    fault = Moment()
    stage.fleet.at[0].kill()
    if full is not None:
        _fill(full)
    stage.fleet.start(0)
    stage.note(kills=1)
    stage.resume(fault)


def without_leave_to_write(stage: Stage) -> None:
    """One of two workers has a data directory that nobody may write to, before and after a kill."""
    disk = _mounted(stage, 0)
    _run("mount", "-o", "remount,ro", str(disk))
    stage.begin(2)
    _restarted(stage)
    stage.pause(3.0, 5.0)


def damage_the_copies(stage: Stage) -> None:
    """The only worker is killed, and each partition's copy damaged in another way, round after
    round; a kill without damage first, so that there are tables on the disk.
    """
    stage.begin(1)
    rounds = DAMAGE_ROUNDS_QUICK if stage.quick else DAMAGE_ROUNDS
    for number in range(rounds + 1):
        stage.pause(2.0, 4.0)
        worker, fault = stage.fleet.at[0], Moment()
        worker.kill()
        for partition, name in enumerate(stage.transactional_ids() if number else ()):
            harm = DAMAGES[(len(stage.transactional_ids()) * (number - 1) + partition) % 12]
            harmed = harm(stage, worker.settings.data_dir / "state" / name)
            stage.note(copies_damaged=int(harmed))
        stage.fleet.start(0)
        stage.note(kills=1)
        stage.resume(fault)
    stage.note(copies_refused=stage.fleet.at[0].said().count("local copy not used"))


def _spoil(pattern: str) -> Callable[[Stage, Path], bool]:
    def spoil(stage: Stage, folder: Path) -> bool:
        """Sixteen bytes of each file, somewhere."""
        files = [path for path in sorted(folder.glob(pattern)) if path.stat().st_size]
        for path in files:
            data = bytearray(path.read_bytes())
            at = stage.chance.randrange(len(data))
            data[at : at + 16] = bytes(byte ^ 0x5A for byte in data[at : at + 16])
            path.write_bytes(data)
        return bool(files)

    return spoil


def _truncate(pattern: str) -> Callable[[Stage, Path], bool]:
    def truncate(stage: Stage, folder: Path) -> bool:
        """To somewhere in the middle."""
        files = [path for path in sorted(folder.glob(pattern)) if path.stat().st_size]
        for path in files:
            path.write_bytes(path.read_bytes()[: stage.chance.randrange(path.stat().st_size)])
        return bool(files)

    return truncate


def _delete(pattern: str) -> Callable[[Stage, Path], bool]:
    def delete(stage: Stage, folder: Path) -> bool:
        files = sorted(folder.glob(pattern))
        for path in files:
            path.unlink()
        return bool(files)

    return delete


DAMAGES = (
    _spoil("*.sst"), _delete("*.sst"), _truncate("MANIFEST-*"), _spoil("*.log"),
    _truncate("*.sst"), _spoil("MANIFEST-*"), _truncate("*.log"), _delete("CURRENT"),
    _spoil("*.sst"), _delete("*.log"), _spoil("CURRENT"), _delete("MANIFEST-*"),
)  # fmt: skip


def _mounted(stage: Stage, place: int) -> Path:
    """A small file system of its own, where the worker in that place has its data."""
    disk = stage.directory / f"data-{place}"
    disk.mkdir()
    try:
        _run("mount", "-t", "tmpfs", "-o", f"size={SIZE}", "flashcast-drill", str(disk))
    except (OSError, subprocess.CalledProcessError) as error:
        raise SkippedError(f"mounting is not permitted here: {error}") from None
    stage.afterwards(lambda: _run("umount", "-l", str(disk)))
    return disk


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def _fill(disk: Path) -> None:
    """No byte is free when this returns."""
    with (disk / "ballast").open("ab", buffering=0) as ballast:
        try:
            while True:
                ballast.write(bytes(4_096))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise


def _said_so(stage: Stage, row: Row) -> Iterable[str]:
    log = stage.fleet.at[0].said()
    row["copies_done_without"] = sum(log.count(words) for words in WITHOUT_COPY)
    if not row["copies_done_without"]:
        yield "the worker went on without its copy and did not say so"


def _refused_some(stage: Stage, row: Row) -> Iterable[str]:
    if not row["copies_refused"]:
        yield f"{row['copies_damaged']} copies were damaged, and none was found out"


DISK_FULL = Drill(
    "disk-full",
    "the data directory full (a small tmpfs), while at work and at a start",
    fill_the_disk,
    also=_said_so,
)
DISK_READ_ONLY = Drill(
    "disk-read-only", "the data directory read-only", without_leave_to_write, also=_said_so
)
COPY_DAMAGED = Drill(
    "copy-damaged",
    "files of the local RocksDB copies spoilt, cut short and deleted while the worker is down",
    damage_the_copies,
    static_members=True,
    also=_refused_some,
)
