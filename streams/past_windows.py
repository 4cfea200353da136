"""Records of `demand-windows` read back after a restore, to fill the history rings."""

from collections.abc import Iterable
from typing import Final

from streams.codec import published
from streams.errors import UNREADABLE
from streams.records import SKU_BYTES_MAX, DemandWindow

_INT64_MAX: Final = 2**63 - 1


def readable_windows(values: Iterable[bytes]) -> list[DemandWindow]:
    """In their order. What is no window, or has a time or units that no array holds, is passed
    over: the topic is open to others.
    """
    return [window for value in values if (window := _window(value)) is not None]


def _window(value: bytes) -> DemandWindow | None:
    try:
        window = published.WINDOW.decode(value)
    except UNREADABLE:
        return None
    if len(window.sku.encode()) > SKU_BYTES_MAX or window.sku.startswith("\0"):
        return None
    fits = window.bucket_start_ms <= _INT64_MAX and window.units <= _INT64_MAX
    return window if fits else None
