"""The private seam in aiokafka through which whole fetch answers come out as bytes.

aiokafka's fetcher wraps the bytes of each answer in `MemoryRecords`, a name at the top of its
module. We put a stand-in there that also keeps the bytes. aiokafka is pinned, and `seam_problem`
tests the assumption at start; where it does not hold, records are fetched one by one and packed
again, slower.
"""

from collections.abc import Iterable
from typing import Any, Final

import aiokafka.conn
import aiokafka.consumer.fetcher as aiokafka_fetcher
from aiokafka import TopicPartition
from aiokafka.record.default_records import DefaultRecordBatchBuilder

_BATCH_BYTES_MAX: Final = 1 << 30  # of a batch packed again from records: never full
# A whole answer: aiokafka would pause a connection, and go on, with every 128 kB that it reads.
aiokafka.conn.READER_LIMIT = 1 << 20
_AiokafkaRecords: Final = aiokafka_fetcher.MemoryRecords


class KeptRecords:
    """aiokafka's `MemoryRecords`, which also keeps the bytes it was made from."""

    __slots__ = ("_records", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._records = _AiokafkaRecords(data)

    def has_next(self) -> bool:
        return bool(self._records.has_next())

    def next_batch(self) -> Any:
        return self._records.next_batch()

    def size_in_bytes(self) -> int:
        return len(self.data)


def seam_problem() -> str | None:
    """Why raw answers cannot be had from the aiokafka that is installed; None when they can.

    Run once at start, before any consumer is made: it puts the stand-in in place.
    """
    try:
        if not hasattr(aiokafka_fetcher, "MemoryRecords"):
            return "aiokafka.consumer.fetcher has no MemoryRecords"
        aiokafka_fetcher.MemoryRecords = KeptRecords
        data = pack([(7, 1_700_000_000_000, b"key", b"value", [])])
        records = aiokafka_fetcher.PartitionRecords(
            TopicPartition("self-test", 0), KeptRecords(data), [(3, 7)], 7, None, None, True, 1
        )
        answer = aiokafka_fetcher.FetchResult(
            TopicPartition("self-test", 0), assignment=None, partition_records=records, backoff=0
        )
        if raw_answer(answer) != (data, 7, [(3, 7)]):
            return "a fetch answer does not give back its bytes"
        records = aiokafka_fetcher.PartitionRecords(
            TopicPartition("self-test", 0), KeptRecords(data), [], 7, None, None, True, 1
        )
        if [record.value for record in records] != [b"value"]:
            return "the stand-in for MemoryRecords cannot be read"
    except (AttributeError, TypeError) as error:
        return f"aiokafka has changed inside: {error}"
    return None


def raw_answer(answer: Any) -> tuple[bytes, int, list[tuple[int, int]]]:
    """(bytes, offset of the first record wanted, aborted transactions) of one answer."""
    records = answer._partition_records
    return records._records.data, records.next_fetch_offset, list(records._aborted_transactions)


Packable = tuple[int, int, bytes | None, bytes | None, Iterable[tuple[str, bytes | None]]]


def pack(records: Iterable[Packable]) -> bytes:
    """One uncompressed v2 batch of (offset, timestamp_ms, key, value, headers), ascending."""
    builder: Any = None
    base_offset = 0
    for offset, timestamp_ms, key, value, headers in records:
        if builder is None:
            base_offset = offset
            builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, _BATCH_BYTES_MAX)
        builder.append(offset - base_offset, timestamp_ms, key, value, list(headers))
    if builder is None:
        return b""
    return base_offset.to_bytes(8, "big") + bytes(builder.build())[8:]


def in_place() -> bool:
    """Whether answers give back their bytes."""
    return aiokafka_fetcher.MemoryRecords is KeptRecords
