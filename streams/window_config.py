"""What the windows are told, and what they say."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from streams import windows_kernel as kernel
from streams.errors import ConfigurationError
from streams.settings import Settings

Int64s = NDArray[np.int64]
CELLS_MIN: Final = 4
CELLS_MAX: Final = 1_024


class Verdict(IntEnum):
    """What became of a record; in `Columns.verdict`."""

    REFUSED = kernel.REFUSED  # a dead letter: not judged here, or its SKU has no row
    APPLIED = kernel.APPLIED
    DUPLICATE = kernel.DUPLICATE
    STAMPED = kernel.STAMPED  # its row held it already when it was restored
    LATE = kernel.LATE


@dataclass(frozen=True, slots=True)
class WindowsConfig:
    """`history` in buckets; the rest as in Settings."""

    bucket_ms: int
    allowed_lateness_ms: int
    future_tolerance_ms: int
    dedupe_horizon_records: int
    idle_timeout_ms: int
    history: int = 64

    def __post_init__(self) -> None:
        if self.cells > CELLS_MAX:
            raise ConfigurationError(
                f"FLASHCAST_ALLOWED_LATENESS_MS {self.allowed_lateness_ms} and "
                f"FLASHCAST_FUTURE_TOLERANCE_MS {self.future_tolerance_ms} together span more "
                f"than {CELLS_MAX - 2} buckets of FLASHCAST_BUCKET_MS {self.bucket_ms}: a SKU "
                "would take more than 64 kB; choose larger buckets"
            )

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """From the settings of the same names."""
        return cls(
            bucket_ms=settings.bucket_ms,
            allowed_lateness_ms=settings.allowed_lateness_ms,
            future_tolerance_ms=settings.future_tolerance_ms,
            dedupe_horizon_records=settings.dedupe_horizon_records,
            idle_timeout_ms=settings.idle_timeout_ms,
        )

    @property
    def cells(self) -> int:
        """Open buckets a row has room for: a power of two.

        From the slowest topic's watermark to the newest time it can have come from: fewer, and
        three topics could wait for each other.
        """
        span_ms = self.allowed_lateness_ms + self.future_tolerance_ms
        needed = -(-span_ms // self.bucket_ms) + 2
        return max(CELLS_MIN, 1 << (needed - 1).bit_length())


@dataclass(frozen=True, slots=True)
class ClosedBucket:
    """The rows that had events in one bucket, and their sums: int64 [n] each.

    `price_cents` is the mean over clicks, carts and orders, rounded half up.
    """

    bucket_start_ms: int
    rows: Int64s
    clicks: Int64s
    carts: Int64s
    orders: Int64s
    units: Int64s
    revenue_cents: Int64s
    price_cents: Int64s
