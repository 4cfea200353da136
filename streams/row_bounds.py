"""What a row of the state can hold, checked before it is put back.

A checksum says that a row is as it was written, not who wrote it. Numbers from a row become places
in arrays, sizes and times, and compiled kernels check no index: so a row that no checkpoint could
have made is refused here, by its SKU, the field and the value.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streams.errors import StateError
from streams.records import (
    EVENT_TIME_MS_MAX,
    EVENT_TIME_MS_MIN,
    PRICE_CENTS_MAX,
    QUANTITY_MAX,
    SKU_BYTES_MAX,
)

Fields = Mapping[str, NDArray[Any]]

OFFSET_MAX: Final = 2**62
SUM_MAX: Final = 2**53  # units of one SKU, far above what may be sold of it
CARTS_AND_ALL: Final = 2**32 - 1  # events of one kind in one bucket
REMEDY: Final = (
    "no checkpoint of flashcast can have made it. See who else may write to the changelog; then, "
    "to process all input again, stop the workers, delete and create the changelog topic, and "
    "delete the group's offsets"
)
# lowest and highest of every integer field; floats must be finite
_BOUNDS: Final = {
    "open_bucket": (0, EVENT_TIME_MS_MAX),
    "open_events": (0, CARTS_AND_ALL),
    "open_units": (0, CARTS_AND_ALL * QUANTITY_MAX),
    "open_revenue_cents": (0, 2**63 - 1),
    "open_price_sum": (0, 3 * CARTS_AND_ALL * PRICE_CENTS_MAX),
    "stamps": (-1, OFFSET_MAX),
    "last_bucket": (-1, EVENT_TIME_MS_MAX),
    "stock_sold": (0, SUM_MAX),
    "stock_as_of_ms": (0, EVENT_TIME_MS_MAX),
    "restock_origin_ms": (0, EVENT_TIME_MS_MAX),
    "restock_quantity": (0, SUM_MAX),
    "price_set_cents": (0, PRICE_CENTS_MAX),
    "price_changed_ms": (0, EVENT_TIME_MS_MAX),
    "shown_cents": (0, PRICE_CENTS_MAX),
    "shown_at_ms": (0, EVENT_TIME_MS_MAX),
}


def require_names(names: Sequence[bytes]) -> None:
    """Raises StateError unless each is a SKU that an event can have."""
    for name in names:
        if not 1 <= len(name) <= SKU_BYTES_MAX or name[0] == 0 or not _is_utf8(name):
            raise StateError(
                f"the state has a row for {name[:80]!r} ({len(name)} bytes), which is no SKU: "
                f"{REMEDY}"
            )


def require_rows(names: Sequence[bytes], fields: Fields, bucket_ms: int) -> None:
    """Raises StateError for the first field, of arrays [n, ...] by `names` [n], that cannot be."""
    for field, values in fields.items():
        if values.dtype.kind == "f":
            _require(names, field, values, np.isfinite(values))
        elif field in _BOUNDS:
            low, high = _BOUNDS[field]
            _require(names, field, values, (values >= low) & (values <= high))
    _require_cells(names, fields, bucket_ms)


def _require_cells(names: Sequence[bytes], fields: Fields, bucket_ms: int) -> None:
    """An open cell lies where its bucket belongs and holds events; an empty one holds nothing."""
    bucket, events = fields["open_bucket"], fields["open_events"].sum(axis=2, dtype=np.int64)
    is_open = bucket > 0
    placed = bucket % bucket.shape[1] == np.arange(bucket.shape[1])
    first, last = EVENT_TIME_MS_MIN // bucket_ms, EVENT_TIME_MS_MAX // bucket_ms
    _require(names, "open_bucket", bucket, ~is_open | placed & (bucket >= first) & (bucket <= last))
    _require(names, "open_events", events, (events > 0) == is_open)
    for field, most in (("open_units", QUANTITY_MAX), ("open_price_sum", PRICE_CENTS_MAX)):
        _require(names, field, fields[field], fields[field] <= events * most)
    revenue = fields["open_revenue_cents"]
    _require(names, "open_revenue_cents", revenue, is_open | (revenue == 0))


def _require(
    names: Sequence[bytes], field: str, values: NDArray[Any], good: NDArray[np.bool_]
) -> None:
    if good.all():
        return
    row = int(np.argwhere(~good)[0][0])
    raise StateError(
        f"the row of SKU {names[row].decode(errors='replace')!r} has {field} = "
        f"{str(values[row].tolist())[:80]}: {REMEDY}"
    )


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True
