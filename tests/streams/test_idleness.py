"""When silence may move a topic's watermark, and how far.

Time-out 5 s, buckets of 1 s, no lateness. `words` says what a topic has come to.
"""

from streams.idleness import Idleness
from streams.watermark import NEVER_MS, Cut, Watermark
from tests.streams.stage import T0

CLICKS, CARTS, ORDERS = range(3)
TIMEOUT_MS = 5_000


class Topics:
    """Three watermarks, and a monotonic clock that moves in steps of a second."""

    def __init__(self) -> None:
        self.watermarks = [Watermark(0) for _ in range(3)]
        self.idleness = Idleness(self.watermarks, TIMEOUT_MS, bucket_ms=1_000)
        self.monotonic_ms = 0
        self.content_end_ms = NEVER_MS

    def words(self, kind: int, time_ms: int, timestamp_ms: int | None = None) -> None:
        """An event of that time is judged."""
        watermark = self.watermarks[kind]
        watermark.max_event_time_ms = time_ms
        watermark.timestamp_ms = timestamp_ms or time_ms
        watermark.position += 1
        self.idleness.interrupted(kind)

    def pass_seconds(
        self, seconds: int, silent: tuple[int, ...] = (), now_ms: int | None = None
    ) -> list[Cut]:
        """Every second the silent topics answer with nothing. All cuts made."""
        cuts: list[Cut] = []
        for _ in range(seconds):
            self.monotonic_ms += 1_000
            for kind in silent:
                self.idleness.empty(kind, self.monotonic_ms)
            cuts += self.idleness.cuts(self.monotonic_ms, now_ms, self.content_end_ms)
        return cuts


def test_a_silent_topic_is_cut_to_what_the_others_had_said_when_silence_began() -> None:
    topics = Topics()
    topics.words(CLICKS, T0 + 7_500)
    topics.words(CARTS, T0 + 8_500)
    topics.words(ORDERS, T0)
    assert topics.pass_seconds(5, silent=(ORDERS,)) == []
    topics.words(CLICKS, T0 + 60_000)
    topics.words(CARTS, T0 + 60_000)
    assert topics.pass_seconds(1, silent=(ORDERS,)) == [Cut(1, T0 + 7_000, ORDERS)]


def test_cuts_follow_the_others_at_a_distance_of_the_time_out() -> None:
    topics = Topics()
    reached = []
    for second in range(20):
        topics.words(CLICKS, T0 + second * 1_000)
        topics.words(CARTS, T0 + second * 1_000)
        cuts = topics.pass_seconds(1, silent=(ORDERS,))
        reached.append((cuts[0].through_ms - T0) // 1_000 if cuts else None)
    assert reached == [None] * 5 + list(range(15))


def test_what_interrupts_starts_silence_anew() -> None:
    topics = Topics()
    topics.words(CLICKS, T0 + 9_000)
    topics.words(CARTS, T0 + 9_000)
    topics.words(ORDERS, T0)
    assert topics.pass_seconds(4, silent=(ORDERS,)) == []
    topics.idleness.interrupted(ORDERS)
    assert topics.pass_seconds(5, silent=(ORDERS,)) == []
    assert len(topics.pass_seconds(1, silent=(ORDERS,))) == 1


def test_time_without_answers_is_no_silence() -> None:
    topics = Topics()
    topics.words(CLICKS, T0 + 9_000)
    topics.words(CARTS, T0 + 9_000)
    topics.words(ORDERS, T0)
    assert topics.pass_seconds(2, silent=(ORDERS,)) == []
    assert topics.pass_seconds(30) == [], "an outage"
    assert topics.pass_seconds(5, silent=(ORDERS,)) == []
    assert len(topics.pass_seconds(1, silent=(ORDERS,))) == 1


def test_a_topic_whose_answers_have_stopped_is_idle_no_longer() -> None:
    topics = Topics()
    topics.words(CLICKS, T0)
    topics.words(CARTS, T0)
    assert len(topics.pass_seconds(6, silent=(ORDERS,))) == 1
    for second in range(1, 20):
        topics.words(CLICKS, T0 + second * 1_000)
        topics.words(CARTS, T0 + second * 1_000)
        assert topics.pass_seconds(1) == []


def test_two_silent_topics_follow_the_one_that_talks() -> None:
    topics = Topics()
    topics.words(CLICKS, T0 + 9_000)
    cuts = topics.pass_seconds(6, silent=(CARTS, ORDERS))
    assert cuts == [Cut(0, T0 + 9_000, CARTS), Cut(0, T0 + 9_000, ORDERS)]


def test_a_cut_waits_for_a_talking_topic_that_lags() -> None:
    topics = Topics()
    topics.words(CLICKS, T0 + 9_000)
    topics.words(CARTS, T0 + 2_000)
    cuts = topics.pass_seconds(20, silent=(ORDERS,))
    assert cuts == [Cut(0, T0 + 2_000, ORDERS)]
    assert topics.watermarks[ORDERS].watermark_ms == T0 + 2_000


def test_a_talking_topic_without_a_word_holds_all_back() -> None:
    topics = Topics()
    topics.words(CLICKS, T0)
    assert topics.pass_seconds(60, silent=(ORDERS,)) == []


def test_a_backlog_is_followed_at_once() -> None:
    topics = Topics()
    topics.words(ORDERS, T0)
    hour_ago_ms = T0 - 3_600_000
    topics.pass_seconds(5, silent=(ORDERS, CARTS), now_ms=T0)
    reached = []
    for step in range(1, 6):
        topics.words(CLICKS, T0 + step * 50_000, timestamp_ms=hour_ago_ms + step)
        cuts = topics.pass_seconds(1, silent=(ORDERS, CARTS), now_ms=T0)
        reached.append({cut.through_ms - T0 for cut in cuts})
    assert reached == [{50_000}, {100_000}, {150_000}, {200_000}, {250_000}]


def test_records_made_just_now_are_no_backlog() -> None:
    topics = Topics()
    topics.pass_seconds(10, silent=(ORDERS, CARTS), now_ms=T0)
    topics.words(CLICKS, T0, timestamp_ms=T0)
    assert topics.pass_seconds(5, silent=(ORDERS, CARTS), now_ms=T0 + 4_999) == []
    assert len(topics.pass_seconds(1, silent=(ORDERS, CARTS), now_ms=T0 + 4_999)) == 2


def test_when_all_are_silent_time_goes_on_until_the_last_bucket_closes() -> None:
    topics = Topics()
    topics.words(CLICKS, T0 + 2_300)
    topics.words(CARTS, T0)
    topics.words(ORDERS, T0 + 1_000)
    topics.content_end_ms = T0 + 9_000
    cuts = topics.pass_seconds(6, silent=(CLICKS, CARTS, ORDERS))
    # silent since second 1; at second 6 the clock is the last watermark + 5 s
    assert [cut.through_ms for cut in cuts] == [T0 + 7_000] * 3
    cuts = topics.pass_seconds(60, silent=(CLICKS, CARTS, ORDERS))
    assert [cut.through_ms - T0 for cut in cuts] == [8_000] * 3 + [9_000] * 3
    assert {one.watermark_ms for one in topics.watermarks} == {T0 + 9_000}


def test_when_all_are_silent_and_nothing_is_open_no_cut_is_made() -> None:
    topics = Topics()
    for kind in range(3):
        topics.words(kind, T0)
    assert topics.pass_seconds(100, silent=(CLICKS, CARTS, ORDERS)) == []


def test_topics_that_never_spoke_are_left_alone() -> None:
    topics = Topics()
    topics.content_end_ms = T0
    assert topics.pass_seconds(100, silent=(CLICKS, CARTS, ORDERS)) == []
