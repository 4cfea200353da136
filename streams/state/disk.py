"""What the local copy asks of a disk: a table of keys and values in a folder of its own."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from streams.errors import StateError
from streams.state.changelog import Change


class CopyInUseError(StateError):
    """Another process, or another owner in this one, has the copy open: leave it, go without."""


class Store(Protocol):
    """One table. Whatever it raises makes it unfit for use."""

    def get(self, key: bytes) -> bytes | None: ...

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """All of them. Raises rather than to leave out one that cannot be read."""

    def write(self, changes: Iterable[Change]) -> None:
        """All of it or nothing, also when the process or the machine dies meanwhile."""

    def close(self) -> None: ...


class Disk(Protocol):
    """Methods block."""

    def open(self, folder: Path) -> Store:
        """The store there, empty when there was none. Raises CopyInUseError, or whatever else makes
        it unfit for use.
        """

    def remove(self, folder: Path) -> None:
        """The store is gone, as far as the disk allows. It must be closed."""
