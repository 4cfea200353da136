"""Checkpoints to commit, and, as a program, a worker that commits them until it is killed."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from streams import topics
from streams.checkpoint import Checkpoint, Output, Restored
from streams.cluster import Cluster, SystemClock
from streams.codec.write import encode_records
from streams.emit import Emitter, emitter_for
from streams.settings import Settings, load
from streams.state.marker import MARKER_VERSION, Marker
from streams.state.recovery import restore
from streams.state.snapshot import RowSchema

PARTITION = 1
OTHER = PARTITION + 1
SCHEMA = RowSchema(1, {"level": np.zeros(1), "cells": np.zeros((1, 4, 3), np.int64)})


def checkpoint(step: int, skus: Sequence[str], **changes: Any) -> Checkpoint:
    """All `skus` at level `step`, one window record each, and a marker that says `step`."""
    n = len(skus)
    names = [sku.encode() for sku in skus]
    cells = np.full((n, 4, 3), step, np.int64)
    outputs = [window_output(name, step) for name in names]
    marker = Marker(MARKER_VERSION, step, changes.pop("offsets", offsets(step)), 0, {"step": step})
    return Checkpoint(
        PARTITION,
        changes.pop("outputs", outputs),
        names,
        SCHEMA.pack({"level": np.full(n, float(step)), "cells": cells}),
        changes.pop("cuts", []),
        marker,
    )


def offsets(event: int) -> dict[str, int]:
    return dict.fromkeys(topics.EVENT_TOPICS, event) | dict.fromkeys(topics.REFERENCE_TOPICS, 0)


def window_output(name: bytes, step: int) -> Output:
    (batch,) = encode_records([(name, b"%s at %d" % (name, step), [])])
    return Output(topics.DEMAND_WINDOWS, batch)


def levels(state: Restored) -> dict[str, float]:
    """The step at which each SKU was last in a checkpoint."""
    fields = SCHEMA.unpack(state.rows)
    return {name.decode(): fields["level"][i] for i, name in enumerate(state.names)}


def emitter_of(settings: Settings, partition: int = PARTITION) -> Emitter:
    return emitter_for(settings, Cluster(settings), partition)


@dataclass
class LaterClock(SystemClock):
    """This machine's, set forward."""

    by_ms: int

    def wall_ms(self) -> int:
        return super().wall_ms() + self.by_ms


async def restored(settings: Settings, emitter: Emitter, later_ms: int = 0) -> Restored:
    cluster = Cluster(settings)
    cluster.clock = LaterClock(later_ms)
    async with cluster.reader(emitter.partition) as reader:
        return await restore(settings, cluster, emitter, reader)


async def committed_values(settings: Settings, topic: str) -> list[bytes]:
    """What a read_committed subscriber sees of the partition, up to the last stable offset."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.bootstrap_servers, isolation_level="read_committed"
    )
    await consumer.start()
    try:
        tp = TopicPartition(settings.topic(topic), PARTITION)
        consumer.assign([tp])
        end = (await consumer.end_offsets([tp]))[tp]
        consumer.seek(tp, 0)
        values: list[bytes] = []
        while await consumer.position(tp) < end:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                values += [record.value for record in records]
        return values
    finally:
        await consumer.stop()


async def publish(
    settings: Settings, topic: str, records: Sequence[tuple[bytes, bytes | None]]
) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=settings.bootstrap_servers)
    await producer.start()
    try:
        for key, value in records:
            for partition in (PARTITION, OTHER):
                await producer.send_and_wait(
                    settings.topic(topic), value, key=key, partition=partition
                )
    finally:
        await producer.stop()


async def fill_inputs(settings: Settings, count: int) -> None:
    """`count` records on each event topic, so that offsets up to there exist."""
    for topic in topics.EVENT_TOPICS:
        await publish(settings, topic, [(b"A", b"%d" % i) for i in range(count)])


async def commit_all(
    settings: Settings, checkpoints: Sequence[Checkpoint], partition: int = PARTITION
) -> None:
    """One worker's life: restore, these checkpoints, a clean stop."""
    emitter = emitter_of(settings, partition)
    await restored(settings, emitter)
    for one in checkpoints:
        await emitter.commit(one)
    await emitter.stop()


async def taken(settings: Settings, later_ms: int = 0, partition: int = PARTITION) -> Restored:
    """What a worker finds that is given the partition, and gives it back at once."""
    emitter = emitter_of(settings, partition)
    try:
        return await restored(settings, emitter, later_ms)
    finally:
        await emitter.stop()


def contents(state: Restored) -> tuple[Any, ...]:
    """Everything but how it was read."""
    order = sorted(range(len(state.names)), key=state.names.__getitem__)
    rows = [(state.names[i], state.rows[i].tobytes()) for i in order]
    return rows, state.marker, sorted(state.cuts), state.history


def skus_of(step: int) -> list[str]:
    """The SKUs that change in one step of the endless worker."""
    return [f"S{i}" for i in range(step % 7, 40, step % 3 + 1)]


async def commit_for_ever(settings: Settings) -> None:
    """A checkpoint after the other, from where the last worker's ended; says each when durable."""
    emitter = emitter_of(settings)
    state = await restored(settings, emitter)
    step = state.marker.core["step"] if state.marker else 0
    while True:
        step += 1
        await emitter.commit(checkpoint(step, skus_of(step), offsets=offsets(0)))
        print(step, flush=True)


if __name__ == "__main__":
    asyncio.run(commit_for_ever(load()))
