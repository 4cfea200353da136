"""Reads what flashcast answers while a demo runs, and counts it."""

import asyncio
from collections import Counter
from types import TracebackType
from typing import Any, Final, Self

import msgspec
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from streams import topics
from streams.codec import published
from streams.codec.plain import Record
from streams.demo.scoring import Collected
from streams.fetch_seam import in_place, seam_problem
from streams.fetching import Drain, client_options, isolation_level
from streams.log_reader import records_of
from streams.records import (
    CapacityForecast,
    DemandForecast,
    DemandWindow,
    PriceAdjustment,
    RestockEvent,
)
from streams.settings import Settings

log = structlog.get_logger("flashcast.demo")

Decision = RestockEvent | PriceAdjustment | CapacityForecast

_DECODERS: Final[dict[str, msgspec.json.Decoder[Any]]] = {
    topics.DEMAND_WINDOWS: published.WINDOW,
    topics.DEMAND_FORECASTS: published.FORECAST,
    topics.RESTOCK_EVENTS: published.RESTOCK,
    topics.PRICE_ADJUSTMENTS: published.PRICE,
    topics.CAPACITY_FORECASTS: published.CAPACITY,
}
_COUNTED_ONLY: Final = (topics.LATE_EVENTS, topics.DEAD_LETTERS)


class Listener:
    """`async with Listener(settings) as listener:`; `take` gives the decisions that are new.

    A record seen before (the same key and origin; only `at_least_once` repeats any) is dropped. A
    batch that is unreadable is counted as such, named and gone over.
    """

    def __init__(self, settings: Settings) -> None:
        seam_problem()  # puts the seam in place, if it can be
        self._consumer = AIOKafkaConsumer(
            **client_options(settings),
            isolation_level=isolation_level(settings),
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            fetch_max_wait_ms=50,
        )
        self._logical = {settings.topic(name): name for name in (*_DECODERS, *_COUNTED_ONLY)}
        self._drain = Drain(self._consumer, self._logical.__getitem__, raw=in_place())
        self._seen: set[tuple[str, str, int]] = set()
        self.counts: Counter[str] = Counter()
        self.collected = Collected()
        self.events_counted = 0  # clicks, carts and orders in the windows so far

    async def __aenter__(self) -> Self:
        await self._consumer.start()
        places = []
        for name in self._logical:
            partitions = await self._partitions_of(name)
            places += [TopicPartition(name, partition) for partition in partitions]
        self._consumer.assign(places)
        return self

    async def _partitions_of(self, name: str) -> set[int]:
        found = await self._consumer._client.fetch_all_metadata()
        return found.partitions_for_topic(name) or set()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._consumer.stop()

    async def take(self, timeout_ms: int) -> list[Decision]:
        """Decisions that came within `timeout_ms`; all else is kept for the summary."""
        decisions: list[Decision] = []
        await self._drain.wait(timeout_ms / 1_000)
        drained = await self._drain.take()
        for fetch in drained.fetches:
            for record in await asyncio.to_thread(records_of, fetch):
                new = self._take_in(fetch.topic, fetch.partition, record)
                if new is not None:
                    decisions.append(new)
        if drained.error is not None:
            raise drained.error
        return decisions

    def _take_in(self, name: str, partition: int, record: Record) -> Decision | None:
        if record.unreadable is not None:
            self.counts["unreadable"] += 1
            log.warning(
                "a batch is unreadable, gone over",
                topic=name,
                partition=partition,
                why=record.unreadable,
            )
            return None
        self.counts[name] += 1
        return None if name in _COUNTED_ONLY else self._decision(name, record.value or b"")

    def _decision(self, name: str, value: bytes) -> Decision | None:
        record: Any = _DECODERS[name].decode(value)
        origin_ms = getattr(record, "origin_ms", 0) or getattr(record, "bucket_start_ms", 0)
        if isinstance(record, CapacityForecast):
            return record
        identity = (name, record.sku, origin_ms)
        if identity in self._seen:
            self.counts["repeated"] += 1
            return None
        self._seen.add(identity)
        if isinstance(record, DemandWindow):
            self.collected.windows.append(record)
            self.events_counted += record.clicks + record.carts + record.orders
        elif isinstance(record, DemandForecast):
            self.collected.forecasts.append(record)
        else:
            decision: Decision = record
            return decision
        return None
