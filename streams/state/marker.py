"""The marker: the record of a checkpoint, whose offsets are the truth about what has been
processed.
"""

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from streams.errors import UNREADABLE, StateError
from streams.topics import INPUT_TOPICS

MARKER_KEY: Final = b"\x00marker"  # no SKU may begin with byte 0, so the key cannot collide
CUT_KEY_PREFIX: Final = b"\x00cut|"
MARKER_VERSION: Final = 1
OFFSET_MAX: Final = 2**62

Offset = Annotated[int, Meta(ge=0, le=OFFSET_MAX)]


class Marker(msgspec.Struct, frozen=True):
    """Input positions and per-partition state at one checkpoint.

    `offsets` maps each logical input topic to the next offset to read; `history_offset` is where
    in `demand-windows` the oldest bucket of the history rings lies; `core` is the pipeline's own
    state, JSON-able; `guarantee` and `partitioner` are the settings under which it was made.
    """

    version: int
    epoch: int
    offsets: dict[str, Offset]
    history_offset: Offset
    core: dict[str, Any]
    guarantee: str = ""
    partitioner: str = ""


# Built here, once: msgspec 0.22 crashes where threads are the first to use a type at the same time.
_MARKER: Final = msgspec.json.Decoder(Marker)


def encode(marker: Marker) -> bytes:
    """JSON bytes of the marker's changelog record."""
    return msgspec.json.encode(marker)


def decode(data: bytes) -> Marker:
    """The marker from its changelog record. Raises StateError when it is torn, of another version,
    or does not say where every input stands.
    """
    try:
        marker = _MARKER.decode(data)
    except UNREADABLE as error:
        raise StateError(
            f"the checkpoint marker cannot be read: {error}; restore from an older copy"
        ) from None
    if marker.version != MARKER_VERSION:
        raise StateError(
            f"the checkpoint marker has version {marker.version}, this release reads "
            f"{MARKER_VERSION}: run the release that wrote it, or start with a new application name"
        )
    if missing := set(INPUT_TOPICS) - marker.offsets.keys():
        raise StateError(
            f"the checkpoint marker says nothing of {', '.join(sorted(missing))}: restore from an "
            "older copy"
        )
    return marker
