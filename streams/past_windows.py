"""Records of `demand-windows` read back after a restore, to fill the history rings."""

from collections.abc import Iterable
from typing import Final

import msgspec

from streams.errors import UNREADABLE
from streams.records import SKU_BYTES_MAX, DemandWindow

RING_FIELDS: Final = ("bucket_start_ms", "clicks", "carts", "orders", "units", "price_cents")
_INT64_MAX: Final = 2**63 - 1


def readable_windows(values: Iterable[bytes]) -> list[DemandWindow]:
    """In their order. What is no window, or has figures that no array holds, is passed over: the
    topic is open to others, and the rings only help to forecast.
    """
    return [window for value in values if (window := _window(value)) is not None]


def _window(value: bytes) -> DemandWindow | None:
    try:
        window = msgspec.json.decode(value, type=DemandWindow)
    except UNREADABLE:
        return None
    if len(window.sku.encode()) > SKU_BYTES_MAX or window.sku.startswith("\0"):
        return None
    fits = all(getattr(window, field) <= _INT64_MAX for field in RING_FIELDS)
    return window if fits else None
