"""Faust's Kafka transport, one item a fetch: agents receive `Fetch`es, whole answers, instead of
single messages.

Faust keeps the group, the rebalances, the agents and their streams. What differs from its own
consumer, and why:
- Every answer is taken at once; topic partitions that run ahead are paused in aiokafka itself, and
  reference topics that are at their end between two looks.
- Fetches carry the group generation under which they were taken; those of an older one are dropped,
  and nothing is taken while the flow is stopped. `Worker.offer` accepts a fetch only where the last
  one ended, so that nothing can be missed or counted twice, whatever happens between.
- Positions come from the committed markers (`perform_seek`); group offsets follow them, for lag
  tools alone.
- The assignor is always Faust's co-partitioning one (0.15.3 silently picks round-robin for an app
  without tables), and what it decides is ours (assignor.py).
"""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import ConsumerStoppedError, IllegalStateError, KafkaError
from aiokafka.structs import OffsetAndMetadata
from faust.assignor import partition_assignor
from faust.transport import drivers
from faust.transport.drivers import aiokafka as faust_aiokafka
from faust.types import TP, ConsumerMessage

from streams.assignor import Assignor
from streams.codec.decode import Fetch
from streams.denied import denied
from streams.errors import StateError
from streams.fetching import Drain, Drained, client_options, isolation_level
from streams.topics import REFERENCE_TOPICS

if TYPE_CHECKING:
    from streams.agents import FlashcastApp

log = structlog.get_logger("flashcast.transport")

SCHEME: Final = "flashcast"
FETCH_WAIT_MS: Final = 200  # an idle topic partition is answered, empty, this often
_TAKE_TIMEOUT_S: Final = 0.2
# While some topic partitions run ahead: one fetch is in flight per broker, and what has room again
# waits for the answer to the others, which may have nothing to say.
_AHEAD_WAIT_MS: Final = 20
_AHEAD_LOOK_S: Final = 0.005  # at what has room again
# When events trickle in, each answer of the broker holds a few; what comes within a pause is taken
# together, since a take costs as much as hundreds of events.
_PAUSE_S: Final = 0.01
_LITTLE_BYTES: Final = 65_536
_COMMIT_TIMEOUT_S: Final = 5.0
_LAST_COMMIT_TIMEOUT_S: Final = 1.0
_RETRY_S: Final = 1.0
_HEARTBEATS_A_SESSION: Final = 4
_REBALANCE_TIMEOUT_MS: Final = 30_000
_POLL_INTERVAL_MS_MAX: Final = 1_800_000  # a long restore polls nothing

Positions = Mapping[tuple[str, int], int]


def register() -> None:
    """Make `flashcast://` a broker URL that Faust knows, and who gets what our decision.

    Faust's `PartitionAssignor`, which is a setting, speaks the group's protocol and stays as it is,
    so that members of several versions understand each other. The class by which it decides is no
    setting: it looks that up under this name.
    """
    drivers.TRANSPORTS.aliases[SCHEME] = f"{__name__}:Transport"
    partition_assignor.CopartitionedAssignor = Assignor


class ConsumerThread(faust_aiokafka.AIOKafkaConsumerThread):  # type: ignore[misc]
    """aiokafka's consumer in a thread and loop of its own."""

    app: "FlashcastApp"
    _drain: Drain | None = None
    _pause_until_s: float = 0.0  # of the loop's time

    def _create_worker_consumer(self, transport: Any) -> AIOKafkaConsumer:
        settings = self.app.settings
        self._assignor = self.app.assignor
        consumer = AIOKafkaConsumer(
            group_id=settings.topic(settings.application),
            group_instance_id=settings.group_instance_id,
            partition_assignment_strategy=[self._assignor],
            enable_auto_commit=False,
            auto_offset_reset="none",  # positions are ours to set; a lost one is an error
            isolation_level=isolation_level(settings),
            check_crcs=False,  # checked once, over whole batches
            fetch_max_wait_ms=FETCH_WAIT_MS,
            session_timeout_ms=settings.session_timeout_ms,
            heartbeat_interval_ms=settings.session_timeout_ms // _HEARTBEATS_A_SESSION,
            rebalance_timeout_ms=max(_REBALANCE_TIMEOUT_MS, settings.session_timeout_ms),
            max_poll_interval_ms=_POLL_INTERVAL_MS_MAX,
            **client_options(settings),
        )
        prefix = settings.topic_prefix
        self._drain = Drain(consumer, lambda name: name.removeprefix(prefix), self.app.raw)
        return consumer

    async def take(self, timeout_s: float) -> Drained:
        """What the fetcher holds, within `timeout_s`; nothing while the flow is stopped."""
        taken: Drained = await self.call_thread(self._take, timeout_s)
        return taken

    async def _take(self, timeout_s: float) -> Drained:
        consumer, drain = self._ensure_consumer(), self._drain
        assert drain is not None
        if consumer._closed:
            raise ConsumerStoppedError()
        consumer._coordinator.check_errors()
        if not self._flowing(consumer):
            await asyncio.sleep(timeout_s)
            return Drained()
        loop = asyncio.get_running_loop()
        ahead = await self._wait(consumer, drain, loop.time() + timeout_s)
        await asyncio.sleep(self._pause_until_s - loop.time())  # not at all when that is over
        if not self._flowing(consumer):
            return Drained()
        drained = await drain.take()
        little = sum(len(fetch.data) for fetch in drained.fetches) < _LITTLE_BYTES
        self._pause_until_s = loop.time() + _PAUSE_S if little and not ahead else 0.0
        drained.generation = consumer._coordinator.generation
        return drained

    def _flowing(self, consumer: AIOKafkaConsumer) -> bool:
        return self.consumer.flow_active and not consumer._subscription.reassignment_in_progress

    async def _wait(self, consumer: AIOKafkaConsumer, drain: Drain, by_s: float) -> bool:
        """For an answer, until `by_s` of the loop's time. Whether a topic partition is ahead."""
        loop = asyncio.get_running_loop()
        while True:
            ahead = self._pause(consumer, drain)
            drain.fetch_wait(_AHEAD_WAIT_MS if ahead else FETCH_WAIT_MS)
            left_s = by_s - loop.time()
            wait_s = min(left_s, _AHEAD_LOOK_S) if ahead else left_s
            if await drain.wait(wait_s) or loop.time() >= by_s:
                return ahead

    def _pause(self, consumer: AIOKafkaConsumer, drain: Drain) -> bool:
        """Stop asking for the topic partitions that are ahead, and ask for those that were. Whether
        any is.

        While that is so, a request for the events of one topic partition is not to ask each time as
        well for the reference topics of all, which have nothing to say: they are paused too, for a
        while.
        """
        topic = self.app.settings.topic
        ahead = {TopicPartition(topic(name), number) for name, number in self.app.worker.ahead}
        wanted = set(ahead)
        if ahead:
            references = {topic(name) for name in REFERENCE_TOPICS}
            wanted |= {
                tp
                for tp in consumer.assignment()
                if tp.topic in references and drain.had_nothing_within(tp, FETCH_WAIT_MS / 1_000)
            }
        paused = consumer.paused()
        consumer.pause(*((wanted - paused) & consumer.assignment()))
        consumer.resume(*(paused - wanted))
        return bool(ahead)

    async def seek_all(self, positions: Positions) -> None:
        """Go to these positions; those of topic partitions that are not ours (any more) are left
        out.
        """
        await self.call_thread(self._seek_all, positions)

    async def _seek_all(self, positions: Positions) -> None:
        consumer = self._ensure_consumer()
        assigned = consumer.assignment()
        for (name, number), offset in positions.items():
            tp = TopicPartition(self.app.settings.topic(name), number)
            if tp in assigned:
                consumer.seek(tp, offset)

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """Group offsets serve lag tools alone, so a failure is no more than a note.

        True proves that the group still has us as the owner.
        """
        consumer = self._ensure_consumer()
        member = _member(consumer)
        wanted = {
            TopicPartition(tp.topic, tp.partition): OffsetAndMetadata(offset, "")
            for tp, offset in offsets.items()
            if TopicPartition(tp.topic, tp.partition) in consumer.assignment()
        }
        if member is None or len(wanted) < len(offsets):
            return False
        try:
            await asyncio.wait_for(consumer.commit(wanted), _COMMIT_TIMEOUT_S)
        except (KafkaError, IllegalStateError, TimeoutError) as error:
            log.info("group offsets were not committed", error=str(error) or repr(error))
            return False
        return _member(consumer) == member

    async def group_offsets(self, tps: list[TopicPartition]) -> dict[TopicPartition, int | None]:
        """What the group has committed; raises KafkaError."""
        found: dict[TopicPartition, int | None] = await self.call_thread(self._group_offsets, tps)
        return found

    async def _group_offsets(self, tps: list[TopicPartition]) -> dict[TopicPartition, int | None]:
        consumer = self._ensure_consumer()
        return {tp: await consumer.committed(tp) for tp in tps}

    async def rejoin(self) -> None:
        """Ask the group for a new assignment."""
        await self.call_thread(self._rejoin)

    async def _rejoin(self) -> None:
        self._ensure_consumer()._coordinator.request_rejoin()

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Faust's check for stalls reads times that paused partitions do not have; `/livez` has
        ours.
        """


def _member(consumer: AIOKafkaConsumer) -> tuple[str, int] | None:
    """As whom, and in which generation, the group has us as the owner of what is assigned. None
    while it need not, so that a commit would prove nothing and do harm:

    - once it has thrown us out: without a generation a commit is let through if nobody else is in
      the group, whoever was meanwhile.
    - from when all is given up until the next assignment: the request would wait behind the one to
      join, fail as one of the generation before, and make aiokafka join anew. That takes until the
      others' next heartbeat, by which the next commit is due: for ever.
    """
    coordinator = consumer._coordinator
    reassigned = consumer._subscription.reassignment_in_progress
    if coordinator.generation < 0 or (coordinator._performed_join_prepare and reassigned):
        return None
    return coordinator.member_id, coordinator.generation


class Consumer(faust_aiokafka.Consumer):  # type: ignore[misc]
    """Faust's consumer, with one message for all fetches of a topic that were taken together."""

    app: "FlashcastApp"
    _thread: ConsumerThread

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    @property
    def thread(self) -> ConsumerThread:
        return self._thread

    async def _drain_messages(self, fetcher: Any) -> None:
        while not (self._stopped.is_set() or fetcher._stopped.is_set()):
            if not self.flow_active:
                await self.wait(self.can_resume_flow)
                continue
            try:
                drained = await self._thread.take(_TAKE_TIMEOUT_S)
            except ConsumerStoppedError:
                return
            except KafkaError as error:
                drained = Drained(error=error)
            if drained.generation == self.app.consumer_generation_id:
                self.app.worker.answered(drained)
                await self._deliver(drained)
            if drained.error is not None:
                await self._report(drained.error)

    async def _report(self, error: Exception) -> None:
        right = denied(self.app.settings, error, "Read")
        if right is not None or isinstance(error, StateError):
            self.app.worker.fail(right or error)
        else:
            log.warning("a fetch failed, trying again", error=str(error) or repr(error))
        await self.sleep(_RETRY_S)

    async def _deliver(self, drained: Drained) -> None:
        by_topic: dict[str, list[Fetch]] = {}
        for fetch in drained.fetches:
            by_topic.setdefault(fetch.topic, []).append(fetch)
        for topic, fetches in by_topic.items():
            if not self.flow_active:
                return  # taken, not delivered: `perform_seek` goes back to what the worker has
            tp = TP(self.app.settings.topic(topic), fetches[0].partition)
            message = _as_message(tp, fetches, drained.generation)
            await self.wait_first(self.callback(message), self.suspend_flow.wait())

    async def perform_seek(self) -> None:
        """To where the worker's partitions go on, not to the group's offsets."""
        await self._thread.seek_all(self.app.worker.positions())

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """While they are still ours: a last checkpoint of each partition."""
        self.stop_flow()
        self.app.flow_control.suspend()
        await self.app.worker.hand_over()
        await self.commit()
        await super().on_partitions_revoked(revoked)

    async def _commit_offsets(
        self, offsets: Mapping[TP, int], start_new_transaction: bool = True
    ) -> bool:
        """Faust takes what was not committed for committed, and would wait for it to grow."""
        done = bool(await super()._commit_offsets(offsets, start_new_transaction))
        if not done:
            for tp in offsets:
                self._committed_offset.pop(tp, None)
        return done

    async def commit_and_end_transactions(self) -> None:
        """The last commit before the group is left, which must not wait for it: a thread whose
        fetcher Faust has crashed, as it does where a rebalance is under way, answers no call.
        """
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(super().commit_and_end_transactions(), _LAST_COMMIT_TIMEOUT_S)

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        """Every topic partition with a committed marker; acks play no part."""
        topic = self.app.settings.topic
        return (TP(topic(name), number) for name, number in self.app.worker.committed())

    def _new_offset(self, tp: TP) -> int | None:
        name = tp.topic.removeprefix(self.app.settings.topic_prefix)
        return self.app.worker.committed().get((name, tp.partition))


def _as_message(tp: TP, fetches: list[Fetch], generation: int) -> ConsumerMessage:
    """Faust's message whose value are fetches of one topic; it stands where the first one ends."""
    return ConsumerMessage(
        topic=tp.topic,
        partition=tp.partition,
        offset=fetches[0].next_offset - 1,
        timestamp=None,
        timestamp_type=0,
        headers=None,
        key=None,
        value=fetches,
        checksum=None,
        serialized_key_size=0,
        serialized_value_size=0,
        tp=tp,
        generation_id=generation,
    )


class Transport(faust_aiokafka.Transport):  # type: ignore[misc]
    """What `flashcast://` stands for."""

    Consumer = Consumer
