"""A copy of one partition's changelog on the worker's own disk, so that a restart reads only the
tail of the log.

It is a cache: whatever is wrong with it, the remedy is to discard it and read the changelog. Each
checkpoint enters in one write batch, after it was committed, together with the place in the log up
to which the copy reaches.
"""

import shutil
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Final

import msgspec
from aiokafka.record.util import calc_crc32c
from rocksdict import Options, Rdict, WriteBatch

from streams.errors import StateError
from streams.state.changelog import Change, Image
from streams.state.marker import MARKER_KEY

PLACE_KEY: Final = b"\x00place"
PLACE_VERSION: Final = 1
CHUNK_ROWS: Final = 10_000
CLOCK_STEP_MS_MAX: Final = 60_000  # a copy from further in the future was dated by a wrong clock


class Place(msgspec.Struct, frozen=True):
    """Where in which log a copy stands: `offset` is the first it lacks."""

    offset: int
    identity: str  # hex
    identity_offset: int
    written_ms: int
    version: int = PLACE_VERSION


class CopyInUseError(StateError):
    """Another process, or another owner in this one, has the copy open: leave it, go without."""


class LocalCopy:
    """One partition's copy. All methods block: call them from a worker thread; one waits for the
    other.

    They raise StateError when the copy cannot be trusted or used; then `discard` it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._db: Rdict | None = None
        self._lock = threading.RLock()
        self._abandoned = False

    def open(self) -> None:
        """Opens the copy, empty when there was none."""
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_paranoid_checks(True)
        options.set_write_buffer_size(16 * 2**20)
        options.set_max_open_files(64)
        options.set_keep_log_file_num(2)
        try:
            self._folder.parent.mkdir(parents=True, exist_ok=True)
            with self._lock:
                if not self._abandoned:
                    self._db = Rdict(str(self._folder), options)
        except Exception as error:  # rocksdict raises nothing narrower
            problem = CopyInUseError if "/LOCK: " in str(error) else StateError
            raise problem(f"the local copy {self._folder} cannot be opened: {error}") from None

    def close(self) -> None:
        """Afterwards another process may open it."""
        with self._lock:
            if self._db is not None:
                self._db.close()
                self._db = None

    def abandon(self) -> None:
        """Closes it for good, even when a thread that nobody awaits any more is yet to open it."""
        with self._lock:
            self._abandoned = True
            self.close()

    def discard(self) -> None:
        """Removes the copy from the disk; it stays closed. Never one that is in use by another."""
        with self._lock:
            self.close()
            shutil.rmtree(self._folder, ignore_errors=True)

    def place(self, now_ms: int, age_ms_max: int) -> Place | None:
        """Where the copy stands, None when it is empty. Older than `age_ms_max` it may have
        missed removals that the changelog no longer shows.
        """
        with self._lock, _trusted(self._folder):
            stored = self._opened().get(PLACE_KEY)
        if stored is None:
            return None
        place = _decode_place(stored, self._folder)
        age_ms = now_ms - place.written_ms
        if not -CLOCK_STEP_MS_MAX <= age_ms <= age_ms_max:
            raise StateError(
                f"the local copy {self._folder} is {age_ms} ms old, of {age_ms_max} allowed"
            )
        return place

    def load(self) -> Image:
        """Everything in the copy; whether its rows are intact, `snapshot.stack` says."""
        image = Image()
        with self._lock, _trusted(self._folder):
            image.apply((-1, key, value) for key, value in self._items() if key != PLACE_KEY)
        return image

    def write(self, changes: Iterable[Change], place: Place) -> None:
        """One checkpoint: all of it or nothing."""
        batch = WriteBatch(raw_mode=True)
        for key, value in changes:
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        batch.put(PLACE_KEY, _encode_place(place))
        with self._lock, _trusted(self._folder):
            self._opened().write(batch)

    def replace(self, image: Image, place: Place | None) -> None:
        """Everything anew. Interrupted, or without a place yet, the copy counts as empty."""
        everything = chain(image.rows.items(), image.cuts.items())
        with self._lock, _trusted(self._folder):
            self.discard()
            self.open()
            while chunk := list(islice(everything, CHUNK_ROWS)):
                batch = WriteBatch(raw_mode=True)
                for key, value in chunk:
                    batch.put(key, value)
                self._opened().write(batch)
            if place is not None:
                self.write([] if image.marker is None else [(MARKER_KEY, image.marker)], place)

    def _opened(self) -> Rdict:
        if self._db is None:
            raise StateError(f"the local copy {self._folder} is closed")
        return self._db

    def _items(self) -> Iterator[tuple[bytes, bytes]]:
        rows = self._opened().iter()
        rows.seek_to_first()
        while rows.valid():
            yield rows.key(), rows.value()
            rows.next()
        rows.status()  # an iterator ends silently at a block whose checksum is wrong


@contextmanager
def _trusted(folder: Path) -> Iterator[None]:
    """Whatever RocksDB finds wrong is a StateError."""
    try:
        yield
    except StateError:
        raise
    except Exception as error:  # rocksdict raises nothing narrower
        raise StateError(f"the local copy {folder} failed: {error}") from None


def _encode_place(place: Place) -> bytes:
    data = msgspec.json.encode(place)
    checksum: int = calc_crc32c(data)
    return checksum.to_bytes(4, "little") + data


def _decode_place(stored: bytes, folder: Path) -> Place:
    if calc_crc32c(stored[4:]) == int.from_bytes(stored[:4], "little"):
        try:
            place = msgspec.json.decode(stored[4:], type=Place)
        except msgspec.DecodeError:
            pass
        else:
            if place.version == PLACE_VERSION:
                return place
    raise StateError(f"the local copy {folder} does not say where it stands: {stored[:80]!r}")
