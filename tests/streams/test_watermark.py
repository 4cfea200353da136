"""The clock of one topic, and cuts as records."""

import pytest

from streams.errors import StateError
from streams.watermark import NEVER_MS, Cut, Watermark
from tests.streams.stage import T0


def test_a_watermark_is_never_before_the_first_word() -> None:
    assert Watermark(5_000).watermark_ms == NEVER_MS


def test_a_watermark_follows_the_greatest_time_and_the_cuts_in_force() -> None:
    watermark = Watermark(5_000)
    watermark.max_event_time_ms, watermark.timestamp_ms = T0, T0
    assert watermark.watermark_ms == T0 - 5_000
    watermark.add(Cut(10, T0 + 1, 0))
    assert watermark.watermark_ms == T0 - 5_000, "not before its position"
    assert watermark.next_cut_offset == 10
    watermark.reach(10)
    assert watermark.watermark_ms == T0 + 1
    watermark.add(Cut(4, T0 - 1, 0))
    assert watermark.watermark_ms == T0 + 1, "it never moves back"
    watermark.max_event_time_ms = T0 + 9_000
    assert watermark.watermark_ms == T0 + 4_000


def test_cuts_read_back_in_any_order_count_in_the_order_of_their_positions() -> None:
    watermark = Watermark(0)
    for cut in (Cut(30, T0 + 3, 0), Cut(10, T0 + 1, 0), Cut(20, T0 + 2, 0)):
        watermark.add(cut)
    seen = []
    for position in (9, 10, 25, 30):
        watermark.reach(position)
        seen.append(watermark.watermark_ms)
    assert seen == [NEVER_MS, T0 + 1, T0 + 2, T0 + 3]


def test_a_watermark_is_what_it_was_after_a_restore() -> None:
    watermark = Watermark(5_000)
    watermark.max_event_time_ms, watermark.timestamp_ms = T0, T0 + 50
    watermark.reach(17)
    watermark.add(Cut(17, T0, 0))
    restored = Watermark(5_000)
    restored.restore(watermark.meta())
    assert restored.meta() == watermark.meta()
    assert restored.watermark_ms == T0


def test_a_cut_is_its_changelog_record() -> None:
    cut = Cut(position=12, through_ms=T0, kind=2)
    assert Cut.decode(cut.value) == cut
    assert cut.key == b"\x00cut|orders|12"
    assert cut.key == Cut(12, T0 + 5, 2).key, "a later cut at the same place stands for both"


@pytest.mark.parametrize("value", [b"", b"{}", b'{"topic":"x","position":1,"through_ms":2}'])
def test_a_cut_that_cannot_be_read_is_a_state_error(value: bytes) -> None:
    with pytest.raises(StateError, match="cut"):
        Cut.decode(value)


@pytest.mark.parametrize("timestamp_ms", [2**63, -(2**63) - 1, 1.5, "1", None])
def test_a_timestamp_that_no_record_can_have_is_refused(timestamp_ms: object) -> None:
    with pytest.raises(ValueError, match="timestamp_ms is"):
        Watermark(0).restore(Watermark(0).meta() | {"timestamp_ms": timestamp_ms})
