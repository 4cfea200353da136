"""What becomes of a partition whose checkpoint cannot be made durable, without a broker."""

import asyncio
import threading
from collections.abc import Mapping
from pathlib import Path

from streams import topics
from streams.batcher import Batcher
from streams.cluster import Cluster, SystemClock
from streams.codec.decode import Fetch
from streams.core_thread import CoreThread
from streams.custody import FAULTS_MAX, QUEUE_BYTES_MAX, Custody
from streams.emit import PlainEmitter
from streams.errors import ConfigurationError
from streams.monitor import Monitor
from streams.owned import Owned
from streams.pipeline import Pipeline
from streams.settings import Settings, load
from streams.worker import Worker
from tests.streams.harness import HASH_KEY, nothing_restored


class QuietGroup:
    """A consumer group of one, whose offsets nobody reads."""

    async def seek(self, positions: Mapping[tuple[str, int], int]) -> None:
        pass

    def __init__(self, owner: bool = True) -> None:
        self._owner = owner
        self.rejoined = 0

    async def owns(self, offsets: Mapping[tuple[str, int], int]) -> bool:
        return self._owner

    async def rejoin(self) -> None:
        self.rejoined += 1


def opened(settings: Settings) -> Owned:
    pipeline = Pipeline(settings, 0, 1, None, nothing_restored(), HASH_KEY)
    starts = dict.fromkeys(topics.INPUT_TOPICS, 0)
    return Owned(0, pipeline, PlainEmitter(settings, Cluster(settings), 0), starts, {})


async def test_a_task_that_fails_ends_the_worker() -> None:
    custody = Custody(CoreThread(), _never, QuietGroup(), Monitor(process=False), SystemClock())

    async def fail() -> None:
        raise RuntimeError("a fault of ours")

    await asyncio.wait([custody.spawn(fail())])
    await custody.failed.wait()
    assert str(custody.failure) == "a fault of ours"


async def _never(number: int) -> Owned:
    raise AssertionError(number)


async def settled(custody: Custody) -> None:
    """Until no task of its own is left."""
    while tasks := list(custody._tasks):
        await asyncio.wait(tasks)


async def test_a_checkpoint_that_cannot_be_encoded_discards_the_partition_and_not_its_turn(
    tmp_path: Path,
) -> None:
    settings = load(partitions=1, data_dir=tmp_path)
    core = CoreThread()
    opens: list[Owned] = []

    async def open_partition(number: int) -> Owned:
        assert number == 0
        opens.append(opened(settings))
        return opens[-1]

    custody = Custody(core, open_partition, QuietGroup(), Monitor(), SystemClock())
    custody.assigned = {0}
    await custody.restore(0, custody.term, asyncio.Semaphore(1))
    for round_ in range(FAULTS_MAX + 1):
        owned = custody.owned[0]
        assert owned is opens[round_], "the partition was opened anew"
        owned.pipeline.counts["not for JSON",] = object()  # type: ignore[assignment]
        owned.checkpoint = owned.pipeline.take()
        custody.begin_commit(owned)
        await settled(custody)
        assert not custody.has(owned)
    assert custody.failure is not None, "a fault that stays ends the worker, and says why"
    assert not custody.owned
    core.close()


async def test_an_opening_that_is_no_longer_wanted_lets_go_undisturbed() -> None:
    core, begun, may_end, ended = CoreThread(), asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def open_partition(number: int) -> Owned:
        begun.set()
        try:
            return await asyncio.Future()
        finally:
            await may_end.wait()
            ended.set()

    custody = Custody(core, open_partition, QuietGroup(), Monitor(), SystemClock())
    restoring = asyncio.create_task(custody.restore(0, custody.term, asyncio.Semaphore(1)))
    await begun.wait()
    custody.new_term()
    closing = asyncio.create_task(custody.close())  # a second term, and the end
    await asyncio.wait([restoring, closing], timeout=0)
    assert not closing.done()
    may_end.set()
    await closing
    assert ended.is_set(), "what it had was let go of before the end"
    assert await restoring is False
    core.close()


async def test_a_queue_that_fills_while_the_core_is_at_work_is_not_fetched(tmp_path: Path) -> None:
    settings = load(partitions=1, data_dir=tmp_path)
    core, group = CoreThread(), QuietGroup()

    async def open_partition(number: int) -> Owned:
        return opened(settings)

    worker = Worker(settings, Batcher(None), core, open_partition, group, Monitor(), SystemClock())
    await worker._custody.restore(0, worker._custody.term, asyncio.Semaphore(1))
    step = QUEUE_BYTES_MAX // 2
    for number in range(2):
        await worker.offer(Fetch(topics.CLICKS, 0, number, number + 1, b" " * step))
    assert worker.ahead == frozenset(), "full to the brim, and no turn has ended"
    await worker.offer(Fetch(topics.CLICKS, 0, 2, 3, b" "))
    assert worker.ahead == {(topics.CLICKS, 0)}
    core.close()


async def test_without_transactions_nothing_is_sent_that_the_group_does_not_say_is_ours(
    tmp_path: Path,
) -> None:
    settings = load(partitions=1, data_dir=tmp_path, processing_guarantee="at_least_once")
    core, monitor, group = CoreThread(), Monitor(), QuietGroup(owner=False)
    owned = opened(settings)
    owned.committed = {topics.CLICKS: 5}

    async def open_partition(number: int) -> Owned:
        return owned

    custody = Custody(core, open_partition, group, monitor, SystemClock())
    custody.assigned = {0}
    await custody.restore(0, custody.term, asyncio.Semaphore(1))
    owned.checkpoint = owned.pipeline.take()
    custody.begin_commit(owned)
    await settled(custody)
    assert not custody.owned, "dropped, and not restored until the group gives it again"
    assert group.rejoined == 1
    assert monitor.partitions_discarded.labels("fenced")._value.get() == 1
    core.close()


async def test_outputs_that_a_last_checkpoint_took_too_late_are_not_forgotten(
    tmp_path: Path,
) -> None:
    """Its time ends while it is being taken: it is committed, or the partition is dropped."""
    settings = load(partitions=1, data_dir=tmp_path)
    core, gate = CoreThread(), threading.Event()
    lives = [opened(settings), opened(settings)]
    owned = lives[0]

    async def open_partition(number: int) -> Owned:
        return lives.pop(0)

    worker = Worker(
        settings, Batcher(None), core, open_partition, QuietGroup(), Monitor(), SystemClock()
    )
    await worker.take_over({0}, generation=1)
    owned.pipeline._cuts[b"cut"] = b"{}"
    busy = asyncio.ensure_future(core(gate.wait))
    handing_over = asyncio.create_task(worker.hand_over(timeout_s=0.0))
    for _ in range(20):
        await asyncio.sleep(0)
    gate.set()
    await handing_over
    await busy
    assert not worker._custody.has(owned), "it went on without what was taken"
    core.close()


async def test_a_right_that_is_withdrawn_ends_the_worker_at_once(tmp_path: Path) -> None:
    core, opens = CoreThread(), 0

    async def open_partition(number: int) -> Owned:
        nonlocal opens
        opens += 1
        return opened(load(partitions=1, data_dir=tmp_path))

    custody = Custody(core, open_partition, QuietGroup(), Monitor(), SystemClock())
    custody.assigned = {0}
    await custody.restore(0, custody.term, asyncio.Semaphore(1))
    error = ConfigurationError("worker may not Write topic demand-windows")
    await custody.replace(custody.owned[0], error)
    assert custody.failure is error
    assert not custody.owned and opens == 1
    core.close()
