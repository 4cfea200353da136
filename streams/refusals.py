"""Records that are not counted: late events and dead letters, published with their reason."""

from collections import Counter

from streams import topics
from streams.codec.decode import Original
from streams.errors import Reason
from streams.outbox import Outbox
from streams.settings import Settings


class Refusals:
    """Of one partition; dead letters are added to `counts`."""

    def __init__(
        self,
        settings: Settings,
        partition: int,
        partitions: int,
        outbox: Outbox,
        counts: Counter[tuple[str, ...]],
    ) -> None:
        self._counts = counts
        self._settings = settings
        self._partition = partition
        self._outbox = outbox
        self.misplaced_detail = (
            f"the key belongs to another of {partitions} partitions under {settings.partitioner}"
        )
        self._late_detail = (
            f"more than {settings.allowed_lateness_ms} ms behind the greatest event time before it "
            "in its topic partition, or behind an idle cut"
        )

    def late(self, topic: str, original: Original) -> None:
        """An event behind its topic's watermark; counted by the windows."""
        self._publish(topics.LATE_EVENTS, topic, original, "late", self._late_detail)

    def dead_letter(self, topic: str, original: Original, reason: Reason, detail: str) -> None:
        """A record that breaks the contract."""
        self._counts["dead_letter", topic, reason] += 1
        self._publish(topics.DEAD_LETTERS, topic, original, reason, detail)

    def _publish(
        self, to_topic: str, topic: str, original: Original, reason: str, detail: str
    ) -> None:
        name = self._settings.topic(topic)
        self._outbox.add_refused(to_topic, name, self._partition, original, reason, detail)
