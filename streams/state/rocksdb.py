"""The disk of a worker, as RocksDB sees it: one database a folder."""

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from rocksdict import Options, Rdict, WriteBatch

from streams.state.changelog import Change
from streams.state.disk import CopyInUseError


class RocksStore:
    """One open database."""

    def __init__(self, db: Rdict) -> None:
        self.db = db

    def get(self, key: bytes) -> bytes | None:
        found: bytes | None = self.db.get(key)
        return found

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """All rows, by key."""
        rows = self.db.iter()
        rows.seek_to_first()
        while rows.valid():
            yield rows.key(), rows.value()
            rows.next()
        rows.status()  # an iterator ends silently at a block whose checksum is wrong

    def write(self, changes: Iterable[Change]) -> None:
        """In one batch."""
        batch = WriteBatch(raw_mode=True)
        for key, value in changes:
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        self.db.write(batch)

    def close(self) -> None:
        """Afterwards another process may open it."""
        self.db.close()


class RocksDisk:
    """Databases by folder."""

    def open(self, folder: Path) -> RocksStore:
        """The database there, made if there was none."""
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_paranoid_checks(True)
        options.set_write_buffer_size(16 * 2**20)
        options.set_max_open_files(64)
        options.set_keep_log_file_num(2)
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            return RocksStore(Rdict(str(folder), options))
        except Exception as error:  # rocksdict raises nothing narrower
            if "/LOCK: " not in str(error):
                raise
            raise CopyInUseError(f"the local copy {folder} is in use: {error}") from None

    def remove(self, folder: Path) -> None:
        """As far as the disk allows; what stays will not be trusted."""
        shutil.rmtree(folder, ignore_errors=True)
