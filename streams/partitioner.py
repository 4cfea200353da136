"""Which partition a key belongs to, as the usual producers reckon it.

murmur2: Java's client, kafka-python, aiokafka and Faust. crc32: librdkafka's default, and that of
most clients in other languages. none: keys are not checked.
"""

from typing import Final

import numpy as np

from streams.settings import Partitioner
from streams.sku_kernel import partition_in

CODES: Final[dict[Partitioner, int]] = {"none": 0, "murmur2": 1, "crc32": 2}


def partition_of(key: bytes, partitions: int, partitioner: Partitioner) -> int:
    """The partition of `partitions` that `key` belongs to; 0 with `none`."""
    data = np.frombuffer(key, np.uint8)
    return int(partition_in(data, 0, len(key), partitions, CODES[partitioner]))
