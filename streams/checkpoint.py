"""What one checkpoint of one partition carries from the core to the shells that make it durable."""

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
