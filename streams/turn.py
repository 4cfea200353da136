"""One turn of the core: deliver, process for some milliseconds, close, take checkpoints."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import structlog

from streams.batcher import Batcher
from streams.codec.decode import Fetch
from streams.monitor import Monitor
from streams.outside import Clock
from streams.owned import Owned
from streams.pipeline import Pipeline

log = structlog.get_logger("flashcast.worker")

TURN_MS: Final = 15  # how long the core works before the loop has a look

Arrived = tuple[Owned, list[Fetch], dict[str, int]]


class Turn:
    """Runs on the core thread, between two looks of the loop."""

    def __init__(
        self, batcher: Batcher, checkpoint_interval_ms: int, monitor: Monitor, clock: Clock
    ) -> None:
        self._batcher = batcher
        self._interval_ms = checkpoint_interval_ms
        self._monitor = monitor
        self._clock = clock

    def run(self, arrived: Sequence[Arrived]) -> bool:
        """True: there is more to do at once. One partition's fault is noted in its `broken`, and
        the others go on; one of the batcher's is everyone's.
        """
        clock = self._clock
        began_ms = clock.monotonic_ms()
        for owned, fetches, empties in arrived:
            _guarded(owned, owned.deliver, fetches, empties, began_ms)
        # whoever waited longest first: no partition's checkpoints keep another's from its turn
        several = sorted((owned for owned, _, _ in arrived), key=lambda owned: owned.taken_ms)
        busy = True
        while busy and clock.monotonic_ms() - began_ms < TURN_MS:
            worked = [
                _guarded(owned, self._work, owned.pipeline)
                for owned in several
                if owned.broken is None
            ]
            busy = any(worked)
            behind, alone = _apart(several)
            for together in [behind, *([one] for one in alone)]:
                closed = bool(together)
                while closed:
                    closed = self._close(together)
                    busy = busy or closed
                    if self._take(together):
                        return True
                    if clock.monotonic_ms() - began_ms >= TURN_MS:
                        if closed and together is not behind:
                            return True  # events that came meanwhile wait for no second partition
                        break
        return busy

    def _work(self, pipeline: Pipeline) -> bool:
        progressed = pipeline.work(self._clock.monotonic_ms(), self._clock.wall_ms())
        if pipeline.slice_timestamp_ms is not None:
            delay_ms = max(0, self._clock.wall_ms() - pipeline.slice_timestamp_ms)
            self._monitor.apply_delay_seconds.observe(delay_ms / 1_000)
        return progressed

    def _close(self, several: Sequence[Owned]) -> bool:
        healthy = [owned for owned in several if owned.broken is None]
        try:
            return self._batcher.tick([owned.pipeline for owned in healthy], self._clock.wall_ms())
        except Exception as error:
            log.exception("closing buckets failed")
            for owned in healthy:
                owned.broken = error
            return False

    def _take(self, several: Sequence[Owned]) -> bool:
        """One at a time: it should be on its way before the next is copied."""
        healthy = [owned for owned in several if owned.broken is None]
        return any(_guarded(owned, self._take_due, owned) for owned in healthy)

    def _take_due(self, owned: Owned) -> bool:
        now_ms = self._clock.monotonic_ms()
        if not owned.due(now_ms, self._interval_ms):
            return False
        owned.taken_ms = now_ms
        owned.checkpoint = owned.pipeline.take()
        return True


def _apart(several: Sequence[Owned]) -> tuple[list[Owned], list[Owned]]:
    """Who closes together, and who alone. In a catch-up all close together, so that the model has
    large batches; else one by one, so that what one partition says does not wait for the next.
    """
    behind: list[Owned] = []
    alone: list[Owned] = []
    for owned in several:
        (behind if owned.catching_up() else alone).append(owned)
    return behind, alone


def _guarded(owned: Owned, work: Callable[..., Any], *arguments: Any) -> bool:
    try:
        return bool(work(*arguments))
    except Exception as error:
        log.exception("a partition failed", partition=owned.partition)
        owned.broken = error
        return False
