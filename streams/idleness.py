"""Silent topics: when one says nothing, the others may move its watermark by a cut.

A topic partition is idle while fetches from it have been answered, empty, for `idle_timeout_ms` on
end. This alone depends on a clock, so its outcome is written down (watermark.Cut).

How far a cut may reach: an event that comes yet was produced after the silence was seen, so it is
no older than what the other topics had said *by then*, plus the time-out as grace. Said by then
is what was judged that long ago (by the monotonic clock), or has a record timestamp that long ago
(by the wall clock: a backlog, of which nothing can be in flight beside it). When all three are idle
there is no such other: time goes on from the last watermark at its own pace, just far enough
to close what is open.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from streams.watermark import NEVER_MS, Cut, Watermark

ANSWER_GAP_MS: Final = 5_000  # silence between answers that is no answer: an outage
SAMPLES_PER_TIMEOUT: Final = 8


class Sample(NamedTuple):
    """A topic's watermark as it was."""

    monotonic_ms: int
    timestamp_ms: int
    watermark_ms: int


@dataclass(slots=True)
class _Silence:
    """Empty answers on end, from `since_ms` to `until_ms` (monotonic); None: none."""

    since_ms: int | None = None
    until_ms: int = 0


class Idleness:
    """Of the topics of one partition number, in the order of their kinds."""

    def __init__(
        self, watermarks: Sequence[Watermark], idle_timeout_ms: int, bucket_ms: int
    ) -> None:
        self._watermarks = watermarks
        self._timeout_ms = idle_timeout_ms
        self._gap_ms = max(idle_timeout_ms, ANSWER_GAP_MS)
        self._bucket_ms = bucket_ms
        self._silences = [_Silence() for _ in watermarks]
        self._samples: list[deque[Sample]] = [deque() for _ in watermarks]
        self._last_words: tuple[int, int] | None = None  # all idle: (since, greatest watermark)

    def empty(self, kind: int, monotonic_ms: int) -> None:
        """A fetch was answered with nothing, and nothing of the topic waits."""
        silence = self._silences[kind]
        if silence.since_ms is None or monotonic_ms - silence.until_ms > self._gap_ms:
            silence.since_ms = monotonic_ms
        silence.until_ms = monotonic_ms

    def interrupted(self, kind: int) -> None:
        """Records came, or fetches went unanswered: silence begins anew."""
        self._silences[kind].since_ms = None

    def is_idle(self, kind: int, monotonic_ms: int) -> bool:
        """Whether the topic has been silent for the time-out, and said so lately."""
        silence = self._silences[kind]
        return (
            silence.since_ms is not None
            and silence.until_ms - silence.since_ms >= self._timeout_ms
            and monotonic_ms - silence.until_ms <= self._gap_ms
        )

    def cuts(self, monotonic_ms: int, now_ms: int | None, content_end_ms: int) -> list[Cut]:
        """New cuts, already added to the watermarks.

        `content_end_ms` is the end of the newest open bucket that holds anything, NEVER_MS if none.
        """
        kinds = range(len(self._watermarks))
        idle = [kind for kind in kinds if self.is_idle(kind, monotonic_ms)]
        talking = [kind for kind in kinds if kind not in idle]
        unheard_ms = max((monotonic_ms - self._silences[kind].until_ms for kind in idle), default=0)
        reached = [self._settled_ms(kind, monotonic_ms, now_ms, unheard_ms) for kind in talking]
        if talking:
            self._last_words = None
            reach_ms = min(reached)
        else:
            reach_ms = min(self._all_idle_ms(), content_end_ms)
        if reach_ms == NEVER_MS:
            return []
        through_ms = reach_ms // self._bucket_ms * self._bucket_ms  # a bucket is cut whole or not
        cuts = [
            Cut(self._watermarks[kind].position, through_ms, kind)
            for kind in idle
            if self._watermarks[kind].watermark_ms < through_ms
        ]
        for cut in cuts:
            self._watermarks[cut.kind].add(cut)
        return cuts

    def _all_idle_ms(self) -> int:
        """The last watermark plus the time for which all have been silent."""
        since_ms = max(silence.since_ms or 0 for silence in self._silences)
        until_ms = min(silence.until_ms for silence in self._silences)
        if self._last_words is None or self._last_words[0] != since_ms:
            self._last_words = since_ms, max(one.watermark_ms for one in self._watermarks)
        last_ms = self._last_words[1]
        return NEVER_MS if last_ms == NEVER_MS else last_ms + max(0, until_ms - since_ms)

    def _settled_ms(self, kind: int, monotonic_ms: int, now_ms: int | None, unheard_ms: int) -> int:
        """The watermark that the topic had a time-out before the others' last empty answers, which
        are `unheard_ms` ago, by either clock.
        """
        watermark, samples = self._watermarks[kind], self._samples[kind]
        newest = Sample(monotonic_ms, watermark.timestamp_ms, watermark.watermark_ms)
        ago_ms = self._timeout_ms + unheard_ms

        def is_settled(sample: Sample) -> bool:
            return sample.monotonic_ms <= monotonic_ms - ago_ms or (
                now_ms is not None and sample.timestamp_ms <= now_ms - ago_ms
            )

        if is_settled(newest):
            samples.clear()
        spacing_ms = self._timeout_ms // SAMPLES_PER_TIMEOUT
        if not samples or monotonic_ms - samples[-1].monotonic_ms >= spacing_ms:
            samples.append(newest)
        for at in reversed(range(len(samples))):
            if is_settled(samples[at]):
                for _ in range(at):
                    samples.popleft()
                return samples[0].watermark_ms
        return NEVER_MS
