"""Raw fetch responses out of aiokafka: whole record batches as bytes, and no object per event.

Every aiokafka client of ours begins here; `Drain` is for a consumer in a group (transport.py),
`RawReader` for stretches of the log outside of any. The bytes come through fetch_seam.py.
"""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import aiokafka.consumer.fetcher as aiokafka_fetcher
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from streams.codec.batches import iter_records, read_batches
from streams.codec.decode import Fetch
from streams.errors import (
    BrokerError,
    CodecError,
    ConfigurationError,
    FlashcastError,
    StateError,
)
from streams.fetch_seam import in_place, pack, raw_answer
from streams.settings import Settings

log = structlog.get_logger("flashcast.fetching")

_POLL_S: Final = 0.2
STALL_TIMEOUT_S: Final = 60.0
LEAVE_TIMEOUT_S: Final = 5.0
DAMAGED_MAX: Final = 10  # answers on end that fail their checksum; a second apart in a worker
NOTHING: Final[Mapping[int, str]] = {}


def client_options(settings: Settings) -> dict[str, Any]:
    """What every aiokafka client of ours is given: where the broker is, and who we are."""
    options: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap_servers.split(","),
        "client_id": settings.application,
        "security_protocol": settings.security_protocol,
        "request_timeout_ms": 30_000,
    }
    if "SSL" in settings.security_protocol:
        options["ssl_context"] = ssl_context(settings)
    if settings.security_protocol.startswith("SASL") and settings.sasl_password is not None:
        options |= {
            "sasl_mechanism": settings.sasl_mechanism,
            "sasl_plain_username": settings.sasl_username,
            "sasl_plain_password": settings.sasl_password.get_secret_value(),
        }
    return options


def ssl_context(settings: Settings) -> ssl.SSLContext:
    """Whom we trust and who we are, for every client of either library.

    Raises ConfigurationError when a file cannot be used.
    """
    try:
        authority = str(settings.ssl_ca_file) if settings.ssl_ca_file else None
        context = ssl.create_default_context(cafile=authority)
        if settings.ssl_certificate_file is not None:
            secret = settings.ssl_key_password
            password = "" if secret is None else secret.get_secret_value()  # None would ask for it
            context.load_cert_chain(settings.ssl_certificate_file, settings.ssl_key_file, password)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"KAFKA_SSL_CA_FILE = {settings.ssl_ca_file}, KAFKA_SSL_CERTIFICATE_FILE = "
            f"{settings.ssl_certificate_file}, KAFKA_SSL_KEY_FILE = {settings.ssl_key_file}: "
            f"cannot be used: {error}; is KAFKA_SSL_KEY_PASSWORD right, if the key has one?"
        ) from None
    return context


def isolation_level(settings: Settings) -> str:
    """Brokers without transactions know only uncommitted reads."""
    exact = settings.processing_guarantee == "exactly_once"
    return "read_committed" if exact else "read_uncommitted"


async def leave(consumer: AIOKafkaConsumer) -> None:
    """Stop a consumer whose broker may be gone: within a bound, whatever it raises. (Its `stop` can
    end in a CancelledError of its own, which here would look like ours: so a task apart.)
    """
    stopping = asyncio.create_task(consumer.stop())
    done, _ = await asyncio.wait({stopping}, timeout=LEAVE_TIMEOUT_S)
    if not done:
        stopping.cancel()
    elif not stopping.cancelled() and stopping.exception() is not None:
        log.debug("a consumer did not stop cleanly", error=repr(stopping.exception()))


@dataclass(frozen=True, slots=True)
class Empty:
    """A fetch was answered, and there was nothing: the topic partition ends at `position`."""

    topic: str
    partition: int
    position: int


@dataclass(slots=True)
class Drained:
    """What one look at a consumer gave. `lag` counts records behind the end, where it is known."""

    fetches: list[Fetch] = field(default_factory=list)
    empties: list[Empty] = field(default_factory=list)
    lag: dict[tuple[str, int], int] = field(default_factory=dict)
    generation: int = -1
    error: Exception | None = None  # of one topic partition; what the others gave is still good


class Drain:
    """Takes every answer that a consumer's fetcher holds, all at once: one left behind would hold
    up the next request to its broker. Used from the consumer's own loop.

    `logical` maps a topic's name on the broker to ours.
    """

    def __init__(
        self, consumer: AIOKafkaConsumer, logical: Callable[[str], str], raw: bool
    ) -> None:
        self._consumer = consumer
        self._logical = logical
        self._raw = raw
        self._answered: dict[TopicPartition, tuple[int, int]] = {}
        self._noticed: dict[TopicPartition, tuple[int, float]] = {}  # answered at, noticed at
        self._damaged: dict[TopicPartition, int] = {}  # damaged answers on end

    def fetch_wait(self, wait_ms: int) -> None:
        """How long the broker may hold back an answer to the fetches that follow."""
        self._consumer._fetcher._fetch_max_wait_ms = wait_ms

    def had_nothing_within(self, tp: TopicPartition, seconds: float) -> bool:
        """Whether a fetch of `tp` was answered of late, and all that it gave is taken."""
        state = self._state(tp)
        at = state.timestamp if state is not None and state.has_valid_position else None
        if at is None or tp in self._consumer._fetcher._records:
            return False
        if state.highwater is not None and state.position < state.highwater:
            return False  # there is more
        now_s = time.monotonic()
        if self._noticed.get(tp, (None, 0.0))[0] != at:
            self._noticed[tp] = at, now_s
        return now_s - self._noticed[tp][1] < seconds

    async def wait(self, timeout_s: float) -> bool:
        """Until an answer with records is there (True), or the time is up. Raises what aiokafka
        found wrong.
        """
        fetcher = self._consumer._fetcher
        if fetcher._records:
            return True
        waiter = fetcher._create_fetch_waiter()
        await asyncio.wait([waiter], timeout=timeout_s)
        if not waiter.done():
            waiter.cancel()
            return False
        waiter.result()
        return True

    async def take(self) -> Drained:
        """Whatever is there. `error` is a KafkaError, a CodecError for a damaged batch, or a
        StateError when it stays damaged, or the position is no longer on the broker.
        """
        fetcher = self._consumer._fetcher
        drained = Drained()
        with fetcher._subscriptions.fetch_context():
            for tp in list(fetcher._records):
                try:
                    await self._take_one(tp, drained)
                except CodecError as error:
                    drained.error = self._damage(tp, error)
                except (KafkaError, FlashcastError) as error:
                    drained.error = error
        self._look_for_empty(drained)
        return drained

    async def _take_one(self, tp: TopicPartition, drained: Drained) -> None:
        fetcher = self._consumer._fetcher
        answer = fetcher._records[tp]
        if not fetcher._subscriptions.is_assigned(tp):
            fetcher._records.pop(tp, None)
        elif isinstance(answer, aiokafka_fetcher.FetchError):
            fetcher._records.pop(tp, None)
            fetcher._notify(fetcher._wait_consume_future)
            self._raise(tp, answer)
        elif self._raw:
            self._take_raw(tp, answer, drained)
        else:
            await self._take_records(tp, drained)

    def _raise(self, tp: TopicPartition, answer: Any) -> None:
        try:
            answer.check_raise()
        except OffsetOutOfRangeError as error:
            raise StateError(
                f"{tp.topic}/{tp.partition}: offset {error.args[0].get(tp)} is no longer on the "
                "broker, its retention passed before it was processed: lengthen retention.ms, and "
                "start under a new FLASHCAST_APPLICATION to begin at the earliest record"
            ) from None

    def _take_raw(self, tp: TopicPartition, answer: Any, drained: Drained) -> None:
        fetcher = self._consumer._fetcher
        fetcher._records.pop(tp, None)
        fetcher._notify(fetcher._wait_consume_future)
        if not answer._assignment.active:
            return
        state = answer._assignment.state_value(tp)
        raw, start, aborted = raw_answer(answer)
        if state.has_valid_position and state.position == start:
            unreadable: dict[int, str] = {}
            data, next_offset = read_batches(raw, start, aborted, unreadable)
            state.consumed_to(next_offset)
            self._damaged.pop(tp, None)
            self._add(drained, tp, data, start, next_offset, unreadable)

    async def _take_records(self, tp: TopicPartition, drained: Drained) -> None:
        state = self._state(tp)
        start = state.position if state is not None and state.has_valid_position else None
        got = await self._consumer._fetcher.fetched_records({tp}, timeout=0)
        if start is None or state is None:
            return
        data = pack((r.offset, r.timestamp, r.key, r.value, r.headers) for r in got.get(tp, ()))
        self._add(drained, tp, data, start, state.position)

    def _add(
        self,
        drained: Drained,
        tp: TopicPartition,
        data: bytes,
        start: int,
        next_offset: int,
        unreadable: Mapping[int, str] = NOTHING,
    ) -> None:
        if next_offset > start:  # control batches alone move the position too
            topic = self._logical(tp.topic)
            fetch = Fetch(topic, tp.partition, start, next_offset, data, unreadable)
            drained.fetches.append(fetch)

    def _damage(self, tp: TopicPartition, error: CodecError) -> FlashcastError:
        """A damaged answer is fetched again, and again, but not for ever."""
        times = self._damaged.get(tp, 0) + 1
        self._damaged[tp] = times
        if times < DAMAGED_MAX:
            return error
        return StateError(
            f"{tp.topic}/{tp.partition}: {error}, {times} times on end. The broker's copy is "
            "damaged: make another replica the leader (kafka-leader-election), then start again. "
            "Nothing is skipped, since these are events that the broker accepted"
        )

    def _state(self, tp: TopicPartition) -> Any:
        subscription = self._consumer._subscription.subscription
        assignment = None if subscription is None else subscription.assignment
        return None if assignment is None or not assignment.active else assignment.state_value(tp)

    def _look_for_empty(self, drained: Drained) -> None:
        """aiokafka notes when each partition was last answered, with records or without."""
        fetched = {(fetch.topic, fetch.partition) for fetch in drained.fetches}
        for tp in self._consumer._subscription.assigned_partitions():
            state = self._state(tp)
            if state is None or not state.has_valid_position or state.timestamp is None:
                continue
            name = (self._logical(tp.topic), tp.partition)
            end = state.highwater if state.highwater is not None else state.position
            drained.lag[name] = max(0, end - state.position)
            now = (state.timestamp, state.position)
            before = self._answered.get(tp)
            self._answered[tp] = now
            answered_anew = before is not None and before != now
            at_end = state.position >= end and tp not in self._consumer._fetcher._records
            if answered_anew and at_end and name not in fetched:
                drained.empties.append(Empty(*name, state.position))


class RawReader:
    """Reads ranges of topic partitions as Fetches, outside any group.

    `consumer` is started, has no group and no other user.
    """

    def __init__(self, consumer: AIOKafkaConsumer, logical: Callable[[str], str]) -> None:
        self._consumer = consumer
        self._logical = logical
        self._drain = Drain(consumer, logical, raw=in_place())

    async def read(self, topic: str, partition: int, begin: int, end: int) -> AsyncIterator[Fetch]:
        """Every record of `topic` (its name on the broker) with begin <= offset < end.

        Raises BrokerError when nothing arrives for `STALL_TIMEOUT_S`, StateError when the log no
        longer reaches back to `begin`, CodecError for a corrupt batch.
        """
        async for fetch in self.read_all({TopicPartition(topic, partition): (begin, end)}):
            yield fetch

    async def read_all(
        self, ranges: Mapping[TopicPartition, tuple[int, int]]
    ) -> AsyncIterator[Fetch]:
        """The same of several topic partitions at a time, as they come."""
        open_ends = {tp: end for tp, (begin, end) in ranges.items() if begin < end}
        if not open_ends:
            return
        self._consumer.assign(list(open_ends))
        positions = {}
        for tp in open_ends:
            begin = ranges[tp][0]
            self._consumer.seek(tp, begin)
            positions[self._logical(tp.topic), tp.partition] = tp, begin
        silent_since = time.monotonic()
        while open_ends:
            await self._drain.wait(_POLL_S)
            drained = await self._drain.take()
            if drained.error is not None:
                raise _ours(drained.error) from drained.error
            for fetch in drained.fetches:
                tp, position = positions[fetch.topic, fetch.partition]
                if fetch.first_offset != position or tp not in open_ends:
                    continue
                silent_since = time.monotonic()
                positions[fetch.topic, fetch.partition] = tp, fetch.next_offset
                end = open_ends[tp]
                if fetch.next_offset >= end:
                    del open_ends[tp]
                    self._consumer.pause(tp)
                yield fetch if fetch.next_offset <= end else cut(fetch, end)
            if time.monotonic() - silent_since > STALL_TIMEOUT_S:
                raise BrokerError(f"nothing came for {STALL_TIMEOUT_S:g} s of {sorted(open_ends)}")


def _ours(error: Exception) -> FlashcastError:
    if isinstance(error, FlashcastError):
        return error
    ours = BrokerError(str(error) or repr(error))
    ours.__cause__ = error
    return ours


def cut(fetch: Fetch, end: int) -> Fetch:
    """`fetch` without its records at `end` and beyond."""
    kept = pack(
        (r.offset, r.timestamp_ms, r.key, r.value, r.headers)
        for r in iter_records(fetch.data)
        if fetch.first_offset <= r.offset < end
    )
    left = {offset: why for offset, why in fetch.unreadable.items() if offset < end}
    return Fetch(fetch.topic, fetch.partition, fetch.first_offset, end, kept, left)
