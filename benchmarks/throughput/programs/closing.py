"""When a bucket is over: that partition of all three topics has passed it. For the loops by hand,
which rely on each topic partition being in order.
"""

import job


class Clock:
    """Event time of each topic partition, and which buckets each partition number has closed."""

    def __init__(self) -> None:
        self._reached = [dict.fromkeys(job.TOPICS, 0) for _ in range(job.PARTITIONS)]

    def reach(self, topic: str, partition: int, event_time_ms: int) -> None:
        self._reached[partition][topic] = event_time_ms

    def open_bucket(self, partition: int) -> int:
        """The start of the first bucket that is not over."""
        reached_ms = min(self._reached[partition].values())
        return reached_ms - reached_ms % job.BUCKET_MS

    def copy(self) -> "Clock":
        copied = Clock()
        copied._reached = [dict(one) for one in self._reached]
        return copied
