"""A copy of one partition's changelog on the worker's own disk, so that a restart reads only the
tail of the log.

It is a cache: whatever is wrong with it, the remedy is to discard it and read the changelog. Each
checkpoint enters in one write batch, after it was committed, together with the place in the log up
to which the copy reaches.
"""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Final

import msgspec
import structlog
from aiokafka.record.util import calc_crc32c

from streams.errors import UNREADABLE, StateError
from streams.state.changelog import Change, Image
from streams.state.disk import Disk, Store
from streams.state.marker import MARKER_KEY, Offset

log = structlog.get_logger("flashcast.state")

PLACE_KEY: Final = b"\x00place"
PLACE_VERSION: Final = 2
CHUNK_ROWS: Final = 10_000
CLOCK_STEP_MS_MAX: Final = 60_000  # a copy from further in the future was dated by a wrong clock


class Place(msgspec.Struct, frozen=True):
    """Where in which log a copy stands: `offset` is the first it lacks, `marker_offset` where its
    marker lies; -1: it has none.
    """

    offset: Offset
    marker_offset: int
    identity: str  # hex
    identity_offset: Offset
    written_ms: int
    version: int = PLACE_VERSION


# Built here, once: msgspec 0.22 crashes where threads are the first to use a type at the same time.
_PLACE: Final = msgspec.json.Decoder(Place)


class LocalCopy:
    """One partition's copy. All methods block: call them from a worker thread; one waits for the
    other.

    They raise StateError when the copy cannot be trusted or used; then `discard` it.
    """

    def __init__(self, disk: Disk, folder: Path) -> None:
        self._disk = disk
        self._folder = folder
        self._store: Store | None = None
        self._lock = threading.RLock()
        self._abandoned = False

    def open(self) -> None:
        """Opens the copy, empty when there was none."""
        with self._lock, _trusted(self._folder):
            if not self._abandoned:
                self._store = self._disk.open(self._folder)

    def close(self) -> None:
        """Afterwards another process may open it."""
        with self._lock:
            store, self._store = self._store, None
            if store is not None:
                try:
                    store.close()
                except Exception as error:  # stores raise nothing narrower; a full disk does it
                    log.info("local copy closed", folder=str(self._folder), error=str(error))

    def abandon(self) -> None:
        """Closes it for good, even when a thread that nobody awaits any more is yet to open it."""
        with self._lock:
            self._abandoned = True
            self.close()

    def discard(self) -> None:
        """Removes the copy from the disk; it stays closed. Never one that is in use by another."""
        with self._lock:
            self.close()
            self._disk.remove(self._folder)

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
            for key, value in self._opened().items():
                if key[0]:
                    image.rows[key] = value
                elif key != PLACE_KEY:
                    image.apply([(-1, key, value)])
        return image

    def write(self, changes: Iterable[Change], place: Place) -> None:
        """One checkpoint: all of it or nothing."""
        with self._lock, _trusted(self._folder):
            self._opened().write(chain(changes, [(PLACE_KEY, _encode_place(place))]))

    def replace(self, image: Image, place: Place | None) -> None:
        """Everything anew. Interrupted, or without a place yet, the copy counts as empty."""
        everything = chain(image.rows.items(), image.cuts.items())
        with self._lock, _trusted(self._folder):
            self.discard()
            self.open()
            while chunk := list(islice(everything, CHUNK_ROWS)):
                self._opened().write(chunk)
            if place is not None:
                self.write([] if image.marker is None else [(MARKER_KEY, image.marker)], place)

    def _opened(self) -> Store:
        if self._store is None:
            raise StateError(f"the local copy {self._folder} is closed")
        return self._store


@contextmanager
def _trusted(folder: Path) -> Iterator[None]:
    """Whatever the store finds wrong is a StateError."""
    try:
        yield
    except StateError:
        raise
    except Exception as error:  # stores raise nothing narrower
        raise StateError(f"the local copy {folder} cannot be used: {error}") from None


def _encode_place(place: Place) -> bytes:
    data = msgspec.json.encode(place)
    checksum: int = calc_crc32c(data)
    return checksum.to_bytes(4, "little") + data


def _decode_place(stored: bytes, folder: Path) -> Place:
    if calc_crc32c(stored[4:]) == int.from_bytes(stored[:4], "little"):
        try:
            place = _PLACE.decode(stored[4:])
            bytes.fromhex(place.identity)
        except (*UNREADABLE, ValueError):
            pass
        else:
            if place.version == PLACE_VERSION:
                return place
    raise StateError(f"the local copy {folder} does not say where it stands: {stored[:80]!r}")
