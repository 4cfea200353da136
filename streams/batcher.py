"""Closes buckets over all partitions of a worker, with one step of the forecaster a round.

In each round every partition contributes its next bucket, and all buckets of the round are one
batch for the model. An origin ends the round: forecasts and decisions of thousands of SKUs take as
long as hundreds of steps, and what is closed or decided should leave before the next partition's
begin. Within a partition the order stays that of the log.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from streams.deciding import Origin
from streams.pipeline import Pipeline

if TYPE_CHECKING:
    from models.forecaster import Forecaster


class Batcher:
    """Holds the forecaster; None: windows alone."""

    def __init__(self, forecaster: "Forecaster | None") -> None:
        self.forecaster = forecaster

    def tick(self, pipelines: Sequence[Pipeline], now_ms: int) -> bool:
        """One round: close, step, or forecast and decide. False when nothing was due."""
        progressed = decided = False
        steps = []
        for pipeline in pipelines:
            due = pipeline.next_due()
            while isinstance(due, Origin):
                self._decide(pipeline, due, now_ms)
                progressed = decided = True
                due = pipeline.next_due()  # a bucket may have been held back by the origin
            if due is not None:
                progressed = True
                inputs = pipeline.close(due)
                if pipeline.memory is not None:
                    steps.append((pipeline.memory, due.rows, inputs))
            if decided:
                break
        if steps and self.forecaster is not None:
            self.forecaster.step(steps)
        return progressed

    def _decide(self, pipeline: Pipeline, origin: Origin, now_ms: int) -> None:
        if not pipeline.asks(origin, now_ms) or pipeline.memory is None or self.forecaster is None:
            return
        asked = (pipeline.memory, origin.rows, origin.at_ms, pipeline.time_left_ms(origin))
        (prediction,) = self.forecaster.predict([asked])
        pipeline.decide(origin, prediction, now_ms)
