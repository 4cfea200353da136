"""Reads what flashcast answers while a demo runs, and counts it."""

from collections import Counter
from types import TracebackType
from typing import Any, Final, Self

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from streams import topics
from streams.demo.scoring import Collected
from streams.fetching import client_options, isolation_level
from streams.records import (
    CapacityForecast,
    DemandForecast,
    DemandWindow,
    PriceAdjustment,
    RestockEvent,
)
from streams.settings import Settings

Decision = RestockEvent | PriceAdjustment | CapacityForecast

_TYPES: Final[dict[str, type]] = {
    topics.DEMAND_WINDOWS: DemandWindow,
    topics.DEMAND_FORECASTS: DemandForecast,
    topics.RESTOCK_EVENTS: RestockEvent,
    topics.PRICE_ADJUSTMENTS: PriceAdjustment,
    topics.CAPACITY_FORECASTS: CapacityForecast,
}
_COUNTED_ONLY: Final = (topics.LATE_EVENTS, topics.DEAD_LETTERS)


class Listener:
    """`async with Listener(settings) as listener:`; `take` gives the decisions that are new.

    A record seen before (the same key and origin; only `at_least_once` repeats any) is dropped.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._consumer = AIOKafkaConsumer(
            **client_options(settings),
            isolation_level=isolation_level(settings),
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            fetch_max_wait_ms=50,
        )
        self._decoders: dict[str, msgspec.json.Decoder[Any]] = {
            name: msgspec.json.Decoder(type_) for name, type_ in _TYPES.items()
        }
        self._logical = {settings.topic(name): name for name in (*_TYPES, *_COUNTED_ONLY)}
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
        fetched = await self._consumer.getmany(timeout_ms=timeout_ms, max_records=20_000)
        for place, records in fetched.items():
            name = self._logical[place.topic]
            for record in records:
                self.counts[name] += 1
                if name not in _COUNTED_ONLY and (new := self._take_in(name, record.value)):
                    decisions.append(new)
        return decisions

    def _take_in(self, name: str, value: bytes) -> Decision | None:
        record: Any = self._decoders[name].decode(value)
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
