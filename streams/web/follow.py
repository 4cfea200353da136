"""Reading topics without a group: what the page, the capacity answer and `tail` stand on.

Never creates a topic by asking for it, waits for those that are not there yet, and outlives the
broker: positions are kept here, so that a reconnect neither loses nor repeats a record. A batch is
read as a worker reads it: however it is compressed, and one record stands for what cannot be read.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from streams.codec.plain import Record
from streams.denied import unseen
from streams.errors import BrokerError, ConfigurationError, FlashcastError
from streams.fetch_seam import in_place, seam_problem
from streams.fetching import Drain, client_options, isolation_level, leave
from streams.log_reader import records_of
from streams.settings import Settings
from streams.unreachable import diagnosed, explained

RETRY_S: Final = 2.0
PROBE_S: Final = 3.0  # how often it is made sure that the broker still answers
PROBE_TIMEOUT_S: Final = 5.0
WAIT_S: Final = 0.3
REMEDY: Final = "`flashcast topics create` makes them, `flashcast topics acls` grants"
RECORDS_MAX: Final = 2_000  # taken at once, before others get their turn on the loop

State = Literal["connecting", "waiting", "live", "unreachable"]
Take = Callable[[str, int, Record], None]  # logical topic name, partition, record

log = structlog.get_logger("flashcast.follow")


@dataclass(slots=True)
class Link:
    """How the connection stands, for people."""

    state: State = "connecting"
    detail: str = ""
    missing: tuple[str, ...] = ()  # topics that are not there yet
    behind: int = 0  # records that are there and not yet read
    changes: int = 0

    def become(self, state: State, detail: str = "") -> None:
        """Note a change of state once."""
        if (state, detail) != (self.state, self.detail):
            self.state, self.detail = state, detail
            self.changes += 1
            log.info("connection", state=state, detail=detail)


@dataclass(slots=True)
class Follower:
    """Follows `names` (logical) from `since_ms` on (record timestamps; None: from now on).

    `run` gives every record to `take`, in order within a partition, until cancelled. With
    `stop_at_end` it ends when everything that was there has been read, and raises BrokerError
    instead of waiting for a broker. Raises ConfigurationError when the broker refuses us.
    """

    settings: Settings
    names: Sequence[str]
    take: Take
    since_ms: int | None = 0
    stop_at_end: bool = False
    link: Link = field(default_factory=Link)
    _positions: dict[TopicPartition, int] = field(default_factory=dict)
    _logical: dict[str, str] = field(default_factory=dict)
    _ends: dict[TopicPartition, int] = field(default_factory=dict)

    async def run(self) -> None:
        self._logical = {self.settings.topic(name): name for name in self.names}
        while True:
            try:
                await self._follow()
                return
            except (KafkaError, BrokerError, OSError, TimeoutError) as error:
                ours = isinstance(error, FlashcastError)  # such as a batch that is damaged
                why = error if ours else await diagnosed(self.settings, error)
                self.link.become("unreachable", str(why))
                if self.stop_at_end or isinstance(why, ConfigurationError):
                    raise why from None
            await asyncio.sleep(RETRY_S)

    async def _follow(self) -> None:
        seam_problem()  # puts the seam in place, if it can be
        consumer = AIOKafkaConsumer(
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level=isolation_level(self.settings),
            **client_options(self.settings),
        )
        try:
            await consumer.start()
            drain = Drain(consumer, self._logical.__getitem__, raw=in_place())
            probed = time.monotonic() - PROBE_S
            while True:
                if time.monotonic() - probed >= PROBE_S:
                    await self._probe(consumer)
                    probed = time.monotonic()
                if not consumer.assignment():
                    await asyncio.sleep(RETRY_S)
                    continue
                await self._take(drain)
                if self.stop_at_end and await self._ended(consumer):
                    return
        except (KafkaError, OSError, TimeoutError) as error:
            self.link.become(
                "unreachable", explained(self.settings, error)
            )  # said before the long goodbye
            raise
        finally:
            await leave(consumer)

    async def _probe(self, consumer: AIOKafkaConsumer) -> None:
        """Ask which topics there are; begin with those that have appeared."""
        # as `consumer.topics()`, which keeps the partitions to itself; asks for all: creates none
        cluster = await asyncio.wait_for(consumer._client.fetch_all_metadata(), PROBE_TIMEOUT_S)
        wanted = [name for name in self._logical if cluster.partitions_for_topic(name)]
        self.link.missing = tuple(sorted(set(self._logical) - set(wanted)))
        if self.stop_at_end and self.link.missing:
            names = ", ".join(self.link.missing)
            raise ConfigurationError(f"{names}: {unseen(self.settings)}; {REMEDY}")
        partitions = {
            TopicPartition(name, number)
            for name in wanted
            for number in cluster.partitions_for_topic(name)
        }
        if partitions != consumer.assignment():
            new = partitions - set(self._positions)
            consumer.assign(list(partitions))
            self._positions |= await self._first(consumer, new)
            for partition in partitions:
                consumer.seek(partition, self._positions[partition])
        if partitions:
            self.link.become("live")
        else:
            self.link.become("waiting", f"topics are {unseen(self.settings)}; {REMEDY}")

    async def _first(
        self, consumer: AIOKafkaConsumer, partitions: Iterable[TopicPartition]
    ) -> dict[TopicPartition, int]:
        """Where to begin. A topic that appears while following is read from its start."""
        wanted = list(partitions)
        if not wanted:
            return {}
        if self.since_ms == 0 or self._positions:
            return dict(await consumer.beginning_offsets(wanted))
        ends: dict[TopicPartition, int] = await consumer.end_offsets(wanted)
        if self.since_ms is None:
            return ends
        found = await consumer.offsets_for_times(dict.fromkeys(wanted, self.since_ms))
        return {one: found[one].offset if found.get(one) else ends[one] for one in wanted}

    async def _take(self, drain: Drain) -> None:
        await drain.wait(WAIT_S)
        drained = await drain.take()
        for fetch in drained.fetches:
            name, records = fetch.topic, await asyncio.to_thread(records_of, fetch)
            for begin in range(0, len(records), RECORDS_MAX):
                for record in records[begin : begin + RECORDS_MAX]:
                    if record.unreadable is not None:
                        log.warning(
                            "a batch is unreadable", topic=fetch.topic, why=record.unreadable
                        )
                    self.take(name, fetch.partition, record)
                await asyncio.sleep(0)
            partition = TopicPartition(self.settings.topic(name), fetch.partition)
            self._positions[partition] = fetch.next_offset
        self.link.behind = sum(drained.lag.values())
        if drained.error is not None:
            raise drained.error

    async def _ended(self, consumer: AIOKafkaConsumer) -> bool:
        if not self._ends:
            self._ends = await consumer.end_offsets(list(consumer.assignment()))
        return all(self._positions[one] >= end for one, end in self._ends.items())
