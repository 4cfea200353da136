"""An emitter that is stopped while what it sends is failing already."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from streams import topics
from streams.checkpoint import Output
from streams.cluster import Cluster
from streams.codec.write import encode_records
from streams.emit import PlainEmitter
from streams.errors import BrokerError
from streams.settings import load


class Silent:
    """A producer to which nobody answers, and that takes its time to let go."""

    def __init__(self) -> None:
        self.sending, self.letting_go, self.let_go = (asyncio.Event() for _ in range(3))

    async def start(self, seal: object) -> None:
        pass

    async def send_batch(self, *_: object, **__: object) -> "asyncio.Future[Any]":
        self.sending.set()
        return asyncio.get_running_loop().create_future()

    async def discard(self) -> None:
        self.letting_go.set()
        await self.let_go.wait()


async def sending(folder: Path) -> tuple[PlainEmitter, Silent, "asyncio.Task[list[int]]"]:
    settings, producer = load(data_dir=folder), Silent()
    outside = Cluster(settings)
    outside.producer = lambda *_: producer  # type: ignore[method-assign,assignment,return-value]
    emitter = PlainEmitter(settings, outside, 0)
    await emitter.start()
    (batch,) = encode_records([(b"S", b"{}", [])])
    task = asyncio.create_task(emitter.publish([Output(topics.LATE_EVENTS, batch)]))
    await producer.sending.wait()
    return emitter, producer, task


async def test_what_is_being_sent_fails_at_once_when_the_emitter_is_stopped(tmp_path: Path) -> None:
    emitter, producer, task = await sending(tmp_path)
    producer.let_go.set()
    await emitter.stop()
    with pytest.raises(BrokerError, match="output failed: the emitter was stopped meanwhile"):
        await task


async def test_it_can_be_stopped_while_what_failed_lets_go_of_the_broker(tmp_path: Path) -> None:
    emitter, producer, task = await sending(tmp_path)
    assert emitter._deadline is not None
    emitter._deadline.reschedule(0.0)  # the time is up
    await producer.letting_go.wait()
    await emitter.stop()
    producer.let_go.set()
    with pytest.raises(BrokerError, match="output failed: no answer from"):
        await task


async def test_it_can_be_stopped_at_the_moment_when_the_time_is_up(tmp_path: Path) -> None:
    emitter, producer, task = await sending(tmp_path)
    producer.let_go.set()
    assert emitter._deadline is not None
    emitter._deadline.reschedule(0.0)
    await asyncio.sleep(0)
    assert emitter._deadline is not None and emitter._deadline.expired()
    await emitter.stop()
    with pytest.raises(BrokerError, match="output failed"):
        await task
