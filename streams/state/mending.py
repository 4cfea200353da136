"""What becomes of a changelog row that fails its checksum.

No worker writes such a row, and what the network or a disk damages does not pass the broker's own
checksum: somebody else wrote it under the SKU's key. It says nothing, so the newest intact record
of the key is still the newest state, exactly. Compaction may have taken that one, though, and it
takes a key's older records before its newer ones: where none is left, nobody can say what the row
was, and nothing is guessed.
"""

from collections.abc import Collection
from typing import Final

import structlog

from streams.errors import StateError
from streams.state import snapshot
from streams.state.changelog import Image
from streams.state.partition_reader import Bounds, PartitionReader
from streams.topics import CHANGELOG

log = structlog.get_logger("flashcast.recovery")

NAMED_MAX: Final = 5


async def mend(
    reader: PartitionReader, bounds: Bounds, image: Image, corrupt: Collection[bytes], topic: str
) -> None:
    """Puts the newest intact record of the changelog in the place of each corrupt row of `image`.

    `topic` is the changelog's name on the broker. Raises BrokerError, StateError when a row has
    none.
    """
    newest: dict[bytes, bytes | None] = {}
    async for batch in reader.records(CHANGELOG, bounds.start, bounds.end):
        newest |= {
            key: value
            for _, key, value in batch
            if key in corrupt and key and (value is None or snapshot.is_intact(value))
        }
    lost = sorted(set(corrupt) - newest.keys())
    if lost:
        raise StateError(
            f"{topic}/{reader.partition}: the rows of {len(lost)} SKUs ({_named(lost)}) fail their "
            "checksum, and the log holds no intact one before them: what these SKUs had counted "
            "and ordered is lost. Something other than flashcast writes to this topic: take that "
            "permission away. Then, to give up these rows and go on without them, write a record "
            "without value under each key to this partition; or, to process all input again, stop "
            "the workers, delete and create the topic, and delete the group's offsets"
        )
    log.warning(
        "rows that fail their checksum passed over: something other than flashcast writes to the "
        "changelog",
        topic=topic,
        partition=reader.partition,
        skus=_named(sorted(newest)),
    )
    image.mended |= newest.keys()
    for key, value in newest.items():
        if value is None:
            del image.rows[key]
        else:
            image.rows[key] = value


def _named(keys: list[bytes]) -> str:
    shown = ", ".join(repr(key.decode(errors="replace")[:80]) for key in keys[:NAMED_MAX])
    return shown if len(keys) <= NAMED_MAX else f"{shown}, ..."
