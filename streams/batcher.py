"""Closes buckets over all partitions of a worker, with one call of the forecaster a round.

A tick closes everything that is closable. In each round every partition contributes its next
bucket, or its next origin to forecast at; all buckets of the round are one batch for the model, and
so are all origins. Within a partition the order stays that of the log.
"""

from collections.abc import Sequence

from models.forecaster import Forecaster
from streams.deciding import Origin
from streams.pipeline import Pipeline


class Batcher:
    """Holds the forecaster; None: windows alone."""

    def __init__(self, forecaster: Forecaster | None) -> None:
        self.forecaster = forecaster

    def tick(self, pipelines: Sequence[Pipeline], now_ms: int) -> bool:
        """Close, step, forecast and decide until nothing is due. False when nothing was."""
        progressed = False
        active = list(pipelines)
        while active:
            due = [(pipeline, pipeline.next_due()) for pipeline in active]
            active = [pipeline for pipeline, what in due if what is not None]
            progressed = progressed or bool(active)
            self._forecast([(p, what) for p, what in due if isinstance(what, Origin)], now_ms)
            steps = []
            for pipeline, what in due:
                if what is not None and not isinstance(what, Origin):
                    inputs = pipeline.close(what)
                    if pipeline.memory is not None:
                        steps.append((pipeline.memory, what.rows, inputs))
            if steps and self.forecaster is not None:
                self.forecaster.step(steps)
        return progressed

    def _forecast(self, due: list[tuple[Pipeline, Origin]], now_ms: int) -> None:
        asked = [(pipeline, origin) for pipeline, origin in due if pipeline.asks(origin, now_ms)]
        if not asked or self.forecaster is None:
            return
        predictions = self.forecaster.predict(
            [
                (pipeline.memory, origin.rows, origin.at_ms, pipeline.time_left_ms(origin))
                for pipeline, origin in asked
                if pipeline.memory is not None
            ]
        )
        for (pipeline, origin), prediction in zip(asked, predictions, strict=True):
            pipeline.decide(origin, prediction, now_ms)
