"""Puts keyed records on Kafka topics, in order per partition, as fast as the broker takes them.

Idempotent; the record timestamp is the wall clock, never event time. Keys go to partitions as
`FLASHCAST_PARTITIONER` says, so that the worker finds each where it belongs.
"""

import asyncio
import functools
import time
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, TopicAuthorizationFailedError

from streams.denied import denied, may_not, unseen
from streams.errors import BrokerError, ConfigurationError
from streams.fetching import client_options
from streams.placement import KeyedRecord, Placement
from streams.records import CatalogEntry, CompetitorPrice, StockLevel
from streams.settings import Settings
from streams.topics import CATALOG, COMPETITOR_PRICES, STOCK_LEVELS
from streams.unreachable import diagnosed

ReferenceRecord = CatalogEntry | StockLevel | CompetitorPrice

BATCH_BYTES_MAX: Final = 500_000
METADATA_TIMEOUT_S: Final = 15.0
STOP_TIMEOUT_S: Final = 5.0
SEND_TIMEOUT_S: Final = 120.0  # how long a broker may be away before publishing gives up
_REFERENCE_TOPIC: Final[dict[type[ReferenceRecord], str]] = {
    CatalogEntry: CATALOG,
    StockLevel: STOCK_LEVELS,
    CompetitorPrice: COMPETITOR_PRICES,
}


class Publisher:
    """`async with Publisher(settings) as publisher:`; every `publish` returns when its records are
    queued, `flush` when all are acknowledged. Raises BrokerError when the broker refuses or stays
    away.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._placements: dict[str, Placement] = {}
        self._unacknowledged: set[asyncio.Future[Any]] = set()
        self._failure: BaseException | None = None
        self.records = 0
        self._producer: AIOKafkaProducer | None = None

    async def __aenter__(self) -> Self:
        self._producer = AIOKafkaProducer(
            **client_options(self._settings),
            enable_idempotence=True,
            acks="all",
            max_batch_size=BATCH_BYTES_MAX,
            max_request_size=8 * 2**20,
        )
        try:
            await self._producer.start()
        except (KafkaError, OSError) as error:
            await self._producer.stop()
            raise await diagnosed(self._settings, error) from None
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        producer, self._producer = self._producer, None
        assert producer is not None
        if kind is not None:
            for waiting in list(self._unacknowledged):
                waiting.cancel()
        try:  # after a failure nothing is worth waiting for: the sender would retry without end
            async with asyncio.timeout(STOP_TIMEOUT_S if kind else None):
                await producer.stop()
        except TimeoutError:
            await producer.client.close()

    async def placement(self, topic: str) -> Placement:
        """Where keys of `topic` (logical name) go. Raises ConfigurationError when there is no such
        topic.
        """
        if topic not in self._placements:
            name = self._settings.topic(topic)
            assert self._producer is not None
            try:  # all topics' metadata: asking for one that is missing waits and warns
                async with asyncio.timeout(METADATA_TIMEOUT_S):
                    cluster = await self._producer.client.fetch_all_metadata()
            except (TimeoutError, KafkaError) as error:
                raise BrokerError(f"{name}: metadata cannot be read: {error}") from None
            partitions = cluster.partitions_for_topic(name)
            if not partitions:
                raise ConfigurationError(
                    f"topic {name!r} is {unseen(self._settings)}: run `flashcast topics create` "
                    "first"
                )
            self._placements[topic] = Placement(self._settings.partitioner, len(partitions))
        return self._placements[topic]

    async def publish(self, topic: str, records: Iterable[KeyedRecord]) -> None:
        """Records of one topic (logical name), each to the partition of its key."""
        placement = await self.placement(topic)
        by_partition: dict[int, list[KeyedRecord]] = {}
        for record in records:
            partition = placement.of(record[0] or b"")
            by_partition.setdefault(partition, []).append(record)
        await self.publish_placed(topic, by_partition)

    async def publish_placed(
        self, topic: str, by_partition: Mapping[int, Sequence[KeyedRecord]]
    ) -> None:
        """Records whose partition is decided, also a wrong one; order kept within each."""
        if self._failure is not None:
            raise self._failed(self._failure)
        name = self._settings.topic(topic)
        sends = [
            self._send(name, partition, part) for partition, part in by_partition.items() if part
        ]
        await asyncio.gather(*sends)

    async def publish_reference(self, records: Iterable[ReferenceRecord]) -> None:
        """Catalog entries, stock levels and competitor's prices, each to its topic."""
        by_topic: dict[str, list[KeyedRecord]] = {}
        for record in records:
            keyed = (record.sku.encode(), msgspec.json.encode(record))
            by_topic.setdefault(_REFERENCE_TOPIC[type(record)], []).append(keyed)
        for topic, keyed_records in by_topic.items():
            await self.publish(topic, keyed_records)

    async def flush(self) -> None:
        """Wait until everything published is acknowledged."""
        waiting = list(self._unacknowledged)
        if waiting:
            _, late = await asyncio.wait(waiting, timeout=SEND_TIMEOUT_S)
            if late:
                raise BrokerError(f"{len(late)} batches unacknowledged after {SEND_TIMEOUT_S:g} s")
        if self._failure is not None:
            raise self._failed(self._failure)

    async def _send(self, name: str, partition: int, records: Sequence[KeyedRecord]) -> None:
        assert self._producer is not None
        now_ms = time.time_ns() // 1_000_000
        batch = self._producer.create_batch()
        for key, value in records:
            if batch.append(timestamp=now_ms, key=key, value=value) is None:
                await self._queue(name, partition, batch)
                batch = self._producer.create_batch()
                batch.append(timestamp=now_ms, key=key, value=value)
        await self._queue(name, partition, batch)
        self.records += len(records)

    async def _queue(self, name: str, partition: int, batch: Any) -> None:
        assert self._producer is not None
        batch.close()
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                future = await self._producer.send_batch(batch, name, partition=partition)
        except (KafkaError, TimeoutError) as error:
            raise denied(self._settings, error, "Write") or BrokerError(
                f"{name}/{partition}: {error or 'the broker is away'}"
            ) from None
        self._unacknowledged.add(future)
        future.add_done_callback(functools.partial(self._acknowledged, name))

    def _acknowledged(self, name: str, future: "asyncio.Future[Any]") -> None:
        self._unacknowledged.discard(future)
        error = None if future.cancelled() else future.exception()
        if isinstance(error, TopicAuthorizationFailedError):
            error = may_not(self._settings, "Write", f"topic {name}")
        self._failure = self._failure or error

    def _failed(self, failure: BaseException) -> BaseException:
        if isinstance(failure, ConfigurationError):
            return failure
        error = BrokerError(f"publishing failed: {failure}")
        error.__cause__ = failure
        return error
