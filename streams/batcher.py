"""Closes buckets, and forecasts at their ends, over partitions: one batch for the model a round.

In each round every partition contributes its next bucket or origin; the buckets of the round are
one step of the forecaster, the origins one prediction. Within a partition the order stays that of
the log.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from streams.origins import Origin
from streams.pipeline import Pipeline

if TYPE_CHECKING:
    from models.forecaster import Forecaster, PredictBatch, StepBatch


class Batcher:
    """Holds the forecaster; None: windows alone."""

    def __init__(self, forecaster: "Forecaster | None") -> None:
        self.forecaster = forecaster

    def tick(self, pipelines: Sequence[Pipeline], now_ms: int) -> bool:
        """One round: close and step, or forecast and decide. False when nothing was due."""
        progressed = False
        steps: list[StepBatch] = []
        origins: list[tuple[Pipeline, Origin]] = []
        for pipeline in pipelines:
            due = pipeline.next_due()
            if due is None:
                continue
            progressed = True
            if isinstance(due, Origin):
                origins.append((pipeline, due))
                continue
            inputs = pipeline.close(due)
            if pipeline.memory is not None:
                steps.append((pipeline.memory, due.rows, inputs))
        if steps and self.forecaster is not None:
            self.forecaster.step(steps)
        self._decide(origins, now_ms)
        return progressed

    def _decide(self, origins: Sequence[tuple[Pipeline, Origin]], now_ms: int) -> None:
        asking: list[tuple[Pipeline, Origin]] = []
        asked: list[PredictBatch] = []
        for pipeline, origin in origins:
            if pipeline.asks(origin, now_ms) and pipeline.memory is not None:
                left_ms = pipeline.time_left_ms(origin)
                asking.append((pipeline, origin))
                asked.append((pipeline.memory, origin.rows, origin.at_ms, left_ms))
        if asked and self.forecaster is not None:
            predictions = self.forecaster.predict(asked)
            for (pipeline, origin), prediction in zip(asking, predictions, strict=True):
                pipeline.decide(origin, prediction, now_ms)
