"""Checkpoints to commit, and, as a program, a worker that commits them until it is killed."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

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
