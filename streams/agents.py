"""Faust's side of a worker: one agent per input topic, the group, and its rebalances.

The agents receive whole fetches (transport.py) and hand them on to the worker, which is not Faust's
business.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol

import faust
from faust.types import TP

from streams import transport
from streams.codec.decode import Fetch
from streams.errors import ConfigurationError
from streams.fetching import Drained
from streams.settings import Settings
from streams.topics import INPUT_TOPICS

AGENT_QUEUE_MAX: Final = 8  # fetches, on their way to the worker
# Faust compares the one in an assignment with its own: a worker that comes back on another host
# under its instance id is given the assignment of its former life.
NOWHERE: Final = "http://worker.invalid"

Positions = Mapping[tuple[str, int], int]


class FetchSink(Protocol):
    """What Faust's side asks of the worker. Topics are logical names."""

    @property
    def ahead(self) -> frozenset[tuple[str, int]]:
        """Topic partitions not to be fetched for now; read from the consumer's thread."""

    async def offer(self, fetch: Fetch) -> None: ...
    def answered(self, drained: Drained) -> None: ...
    def positions(self) -> Positions: ...
    def committed(self) -> Positions: ...
    async def take_over(self, partitions: set[int], generation: int) -> bool: ...
    async def hand_over(self) -> None: ...
    async def finish(self) -> None: ...
    def fail(self, error: Exception) -> None: ...


class FlashcastApp(faust.App):  # type: ignore[misc]  # Faust is untyped to mypy here
    """Faust's app: group, rebalances, agents. The rest is `worker`'s."""

    settings: Settings
    worker: FetchSink
    keep_warm: Callable[[set[int]], Awaitable[None]] | None = None  # told of its standbys
    raw: bool

    async def on_stop(self) -> None:
        await self.worker.finish()
        await super().on_stop()

    def _create_directories(self) -> None:
        """Faust's data directory is for its tables; there are none."""


def standbys_of(assignor: Any) -> set[int]:
    """Partition numbers that this worker is to keep warm for others."""
    return {tp.partition for tp in assignor.assigned_standbys()}


class ConsumerGroup:
    """The worker's view of the consumer (custody.Group)."""

    def __init__(self, app: FlashcastApp) -> None:
        self._app = app

    @property
    def _thread(self) -> transport.ConsumerThread:
        thread: transport.ConsumerThread = self._app.consumer.thread
        return thread

    async def seek(self, positions: Mapping[tuple[str, int], int]) -> None:
        await self._thread.seek_all(positions)

    async def owns(self, offsets: Mapping[tuple[str, int], int]) -> bool:
        topic = self._app.settings.topic
        tps = {TP(topic(name), number): offset for (name, number), offset in offsets.items()}
        return bool(await self._thread.commit(tps))

    async def rejoin(self) -> None:
        await self._thread.rejoin()


def build_app(settings: Settings, raw: bool) -> FlashcastApp:
    """The app without its worker: six agents, co-partitioned, no web, no tables, no producer."""
    transport.register()
    app = FlashcastApp(
        settings.topic(settings.application),
        broker=f"{transport.SCHEME}://{settings.bootstrap_servers.replace(',', ';')}",
        store="memory://",
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        stream_wait_empty=False,
        stream_buffer_maxsize=AGENT_QUEUE_MAX,
        broker_commit_interval=1.0,
        table_standby_replicas=settings.standby_replicas,
        canonical_url=NOWHERE,
        datadir=str(settings.data_dir),
    )
    app.boot_strategy.enable_kafka_producer = False
    app.settings, app.raw = settings, raw
    for name in INPUT_TOPICS:
        _add_agent(app, settings.topic(name), name)

    @app.on_rebalance_complete.connect  # type: ignore[untyped-decorator]
    async def _restore(*_: Any, **__: Any) -> None:
        owned: dict[str, set[int]] = {}
        for tp in app.consumer.assignment():
            owned.setdefault(tp.topic, set()).add(tp.partition)
        numbers = set().union(*owned.values())
        if any(owned.get(settings.topic(name)) != numbers for name in INPUT_TOPICS if numbers):
            app.worker.fail(
                ConfigurationError(
                    f"the group assigned partitions that do not belong together: {owned}; are all "
                    "its members flashcast workers of one version?"
                )
            )
        elif await app.worker.take_over(numbers, app.consumer_generation_id) and app.keep_warm:
            await app.keep_warm(standbys_of(app.assignor) - numbers)

    return app


def _add_agent(app: FlashcastApp, topic: str, name: str) -> None:
    """One agent of one input topic. Its items are lists of fetches, passed through untouched; what
    has been processed is said by markers, so that it acks nothing.
    """
    source = app.topic(
        topic,
        key_type=bytes,
        value_type=bytes,
        key_serializer="raw",
        value_serializer="raw",
        acks=False,
    )

    async def receive(stream: Any) -> None:
        async for fetches in stream:
            for fetch in fetches:
                await app.worker.offer(fetch)

    app.agent(source, name=f"flashcast.{name}")(receive)
