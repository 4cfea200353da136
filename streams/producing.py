"""What aiokafka's producer lacks: an end that takes no longer than it may, and plain causes."""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

STOP_TIMEOUT_S: Final = 2.0  # of each of three steps


async def discard(producer: AIOKafkaProducer) -> None:
    """Ends a producer and sends nothing more: its own `stop` first sends all that is waiting, which
    in an outage takes for ever, and must not happen at all once its outcome no longer counts.
    """
    producer._closed = True  # else aiokafka complains that nobody closed it
    sender = producer._sender.sender_task
    if sender is not None:
        sender.cancel()
        await asyncio.wait([sender], timeout=STOP_TIMEOUT_S)
        if not sender.done():
            sender.cancel()  # it was waiting for a request; now that is cancelled too
            await asyncio.wait([sender], timeout=STOP_TIMEOUT_S)
    with contextlib.suppress(KafkaError, OSError, TimeoutError):
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await producer.client.close()


def causes_of(error: BaseException) -> Iterator[BaseException]:
    """The error itself, or those of its group, each with what caused it."""
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from causes_of(one)
        return
    yield error
    if error.__cause__ is not None:
        yield from causes_of(error.__cause__)
