"""The shop: publishes a sale as it happens, in a process of its own.

`python -m benchmarks.latency.load SALE BOOTSTRAP PREFIX OUT`, with the sale as JSON. OUT gets an
array int64 [batches, 5]: kind, partition, greatest event time, when the broker appended it (by the
broker's clock), how much later than due it was handed to the client (all in ms).
"""

import asyncio
import gc
import sys
import time
from typing import Any

import msgspec
import numpy as np
from aiokafka import AIOKafkaProducer

from benchmarks.latency.sale import SECOND_MS, TICK_MS, Sale, Tick, ticks
from benchmarks.throughput.workload import TOPICS


async def publish(sale: Sale, producer: AIOKafkaProducer, prefix: str) -> list[list[int]]:
    """Each batch at the end of its tick; the rows of OUT."""
    sent: list[tuple[Tick, int, asyncio.Future[Any]]] = []
    following = asyncio.create_task(asyncio.to_thread(ticks, sale, 0))
    for number in range(sale.seconds):
        second = await following
        if number + 1 < sale.seconds:
            following = asyncio.create_task(asyncio.to_thread(ticks, sale, number + 1))
        for place, tick in enumerate(second):
            due_ms = sale.start_ms + number * SECOND_MS + (place + 1) * TICK_MS
            await asyncio.sleep(max(0.0, due_ms / 1_000 - time.time()))
            behind_ms = round(1_000 * time.time()) - due_ms
            for one in tick:
                builder = one.batch.builder(due_ms, transactional=False)
                name = prefix + TOPICS[one.kind]
                future = await producer.send_batch(builder, name, partition=one.partition)
                sent.append((one, behind_ms, future))
    return [
        [one.kind, one.partition, one.last_ms, (await future).timestamp, behind_ms]
        for one, behind_ms, future in sent
    ]


async def run(sale: Sale, bootstrap_servers: str, prefix: str) -> list[list[int]]:
    # idempotent: a retry must not put events out of order
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers, enable_idempotence=True)
    await producer.start()
    try:
        return await publish(sale, producer, prefix)
    finally:
        await producer.stop()


if __name__ == "__main__":
    told, bootstrap_servers, prefix, out = sys.argv[1:]
    gc.disable()  # it is the worker's pauses that are looked for
    rows = asyncio.run(run(msgspec.json.decode(told, type=Sale), bootstrap_servers, prefix))
    np.save(out, np.array(rows, np.int64))
