"""What passes between the core of one partition and the shells: checkpoints out, a restore in."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streams.codec.write import RecordBatch
from streams.state.marker import Marker


@dataclass(frozen=True, slots=True)
class Output:
    """A batch of records for one output topic (logical name); it goes to the partition it came
    from.
    """

    topic: str
    batch: RecordBatch


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Everything that follows from one stretch of input, copied at one moment.

    `rows` is uint8 [n, row width]: the packed state of the SKUs in `names` that changed. `cuts`
    are changelog records (key, value) of their own. The marker's offsets say which input all of it
    follows from.
    """

    partition: int
    outputs: list[Output]
    names: list[bytes]
    rows: NDArray[np.uint8]
    cuts: list[tuple[bytes, bytes]]
    marker: Marker


@dataclass(slots=True)
class RestoreStats:
    """What a restore found; counts are of records."""

    standby_used: bool = False
    copy_used: bool = False
    copy_problem: str | None = None  # why the local copy that was there was not used
    changelog_records: int = 0
    changelog_ignored: int = 0
    rows_corrupt: int = 0  # and taken from an earlier record instead
    cuts_expired: int = 0
    history_missing: int = 0  # offsets of `demand-windows` that its retention has taken


@dataclass(frozen=True, slots=True)
class Restored:
    """One partition as its last checkpoint left it.

    `rows` is uint8 [n, row width], row i belonging to the SKU `names[i]`; `history` holds values
    of `demand-windows` in log order. `marker` None: never checkpointed, begin at the earliest
    records. Under `at_least_once` history may be ahead of the marker. `mended` are SKUs whose rows
    the next checkpoint must write again.
    """

    marker: Marker | None
    names: list[bytes]
    rows: NDArray[np.uint8]
    cuts: list[tuple[bytes, bytes]]
    history: list[bytes]
    stats: RestoreStats
    mended: tuple[bytes, ...] = ()
