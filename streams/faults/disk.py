"""The simulated disk of one host: it outlives the workers that run there."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from streams.faults.chance import Chance
from streams.faults.loop import PROCESS, Life, Process, ProcessDiedError
from streams.state.changelog import Change
from streams.state.disk import CopyInUseError


@dataclass(slots=True)
class Files:
    """One store. `written` batches lie in the page cache: a killed process leaves them, a machine
    without power does not.
    """

    rows: dict[bytes, bytes] = field(default_factory=dict)
    written: list[list[Change]] = field(default_factory=list)
    corrupt: bool = False
    user: Process | None = None

    def contents(self) -> dict[bytes, bytes]:
        rows = dict(self.rows)
        for batch in self.written:
            for key, value in batch:
                if value is None:
                    rows.pop(key, None)
                else:
                    rows[key] = value
        return rows


def _step() -> Process:
    process = PROCESS.get()
    assert process is not None
    if process.life is Life.BURIED:
        raise OSError("there is no process any more")
    process.step()
    return process


class SimulatedStore:
    """As RocksStore."""

    def __init__(self, files: Files, chance: Chance) -> None:
        self._files = files
        self._chance = chance

    def get(self, key: bytes) -> bytes | None:
        self._check()
        return self._files.contents().get(key)

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        self._check()
        yield from sorted(self._files.contents().items())

    def write(self, changes: Iterable[Change]) -> None:
        batch = list(changes)
        try:
            _step()
        except ProcessDiedError:
            self._chance.note("disk_write_torn")  # a log that ends in half a record
            raise
        if self._chance.happens("disk_write_failed"):
            raise OSError("no space left on the disk")
        self._files.written.append(batch)
        _step()

    def close(self) -> None:
        self._files.user = None

    def _check(self) -> None:
        _step()
        if self._files.corrupt:
            raise OSError("a block's checksum is wrong")


class SimulatedDisk:
    """Stores by folder."""

    def __init__(self, chance: Chance) -> None:
        self._chance = chance
        self.folders: dict[Path, Files] = {}

    def open(self, folder: Path) -> SimulatedStore:
        process = _step()
        files = self.folders.setdefault(folder, Files())
        if files.user is not None and files.user.alive:
            raise CopyInUseError(f"{folder} is in use")
        if self._chance.happens("disk_open_failed"):
            raise OSError("the disk cannot be read")
        files.user = process
        return SimulatedStore(files, self._chance)

    def remove(self, folder: Path) -> None:
        _step()
        self.folders.pop(folder, None)

    def between_lives(self, others: list["SimulatedDisk"]) -> None:
        """What may happen to a disk while no worker uses it."""
        for folder, files in list(self.folders.items()):
            if self._chance.happens("power_loss"):
                kept = self._chance.pick(0, len(files.written))
                del files.written[kept:]
            if self._chance.happens("copy_corrupted"):
                self._corrupt(files)
            if self._chance.happens("copy_lost"):
                del self.folders[folder]
        found = [(disk, folder) for disk in [self, *others] for folder in disk.folders]
        if found and self.folders and self._chance.happens("copy_swapped"):
            disk, folder = self._chance.one_of(found)
            taken = disk.folders[folder]
            mine = self._chance.one_of(list(self.folders))
            self.folders[mine] = Files(taken.contents(), [], taken.corrupt)

    def _corrupt(self, files: Files) -> None:
        """Seen by the store's own checksums, or only by those of the rows."""
        rows = files.contents()
        plain = [key for key in rows if key[:1] != b"\x00"]
        if not plain or self._chance.rng.random() < 0.5:
            files.corrupt = True
            return
        key = self._chance.one_of(plain)
        value = bytearray(rows[key])
        value[self._chance.pick(0, len(value) - 1)] ^= 0x5A
        files.written.append([(key, bytes(value))])
