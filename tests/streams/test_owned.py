"""Fetches are taken in where the last one ended, and nowhere else."""

from pathlib import Path

import numpy as np
import pytest

from streams.checkpoint import Restored, RestoreStats
from streams.cluster import Cluster
from streams.codec.decode import Fetch
from streams.emit import emitter_for
from streams.owned import ASTRAY_MS, CATCH_UP_BYTES, CATCH_UP_RECORDS, Owned
from streams.pipeline import Pipeline
from streams.settings import load
from streams.topics import CATALOG, CLICKS, INPUT_TOPICS

NOW_MS = 1_000


@pytest.fixture
def owned(tmp_path: Path) -> Owned:
    settings = load(data_dir=tmp_path, forecasting=False, deciding=False)
    restored = Restored(
        marker=None,
        names=[],
        rows=np.zeros((0, 0), np.uint8),
        cuts=[],
        history=[],
        stats=RestoreStats(),
    )
    return Owned(
        partition=0,
        pipeline=Pipeline(settings, 0, 4, None, restored, (1, 2)),
        emitter=emitter_for(settings, Cluster(settings), 0),
        expected=dict.fromkeys(INPUT_TOPICS, 10),
        committed={},
    )


def clicks(first: int, after: int) -> Fetch:
    return Fetch(CLICKS, 0, first, after, b"x" * (after - first))


def test_fetches_in_a_row_are_taken_in(owned: Owned) -> None:
    assert owned.accept(clicks(10, 15))
    assert owned.accept(clicks(15, 20))
    assert owned.expected[CLICKS] == 20
    assert owned.waiting_bytes(CLICKS) == 10
    assert [fetch.first_offset for fetch in owned.take_inbox()[0]] == [10, 15]
    assert owned.waiting_bytes(CLICKS) == 0


def test_a_fetch_that_is_here_already_is_left(owned: Owned) -> None:
    assert owned.accept(clicks(10, 15))
    assert not owned.accept(clicks(10, 15))
    assert not owned.accept(clicks(12, 14))
    assert not owned.gap


def test_of_a_fetch_that_is_partly_here_only_the_rest_counts(owned: Owned) -> None:
    assert owned.accept(clicks(10, 15))
    assert owned.accept(clicks(12, 18))
    assert [fetch.first_offset for fetch in owned.take_inbox()[0]] == [10, 15]
    assert owned.expected[CLICKS] == 18


def test_a_fetch_beyond_what_is_expected_is_refused_and_noticed(owned: Owned) -> None:
    assert not owned.accept(clicks(11, 15))
    assert owned.gap
    assert owned.expected[CLICKS] == 10


def test_an_empty_answer_counts_only_where_everything_before_it_is_here(owned: Owned) -> None:
    owned.note_empty(CLICKS, 12, NOW_MS)
    assert owned.take_inbox()[1] == {}
    owned.note_empty(CLICKS, 10, NOW_MS)
    assert owned.take_inbox()[1] == {CLICKS: 10}


def test_what_an_empty_answer_lies_behind_of_and_does_not_come_is_a_gap(owned: Owned) -> None:
    owned.note_empty(CLICKS, 12, NOW_MS)
    owned.note_empty(CLICKS, 12, NOW_MS + ASTRAY_MS)
    assert not owned.gap, "it may be on its way"
    assert owned.accept(clicks(10, 11))
    owned.note_empty(CLICKS, 12, NOW_MS + ASTRAY_MS + 1)
    assert not owned.gap, "it comes"
    owned.note_empty(CLICKS, 12, NOW_MS + 2 * ASTRAY_MS + 2)
    assert owned.gap


def test_records_that_follow_an_empty_answer_make_it_void(owned: Owned) -> None:
    owned.note_empty(CLICKS, 10, NOW_MS)
    assert owned.accept(clicks(10, 12))
    assert owned.take_inbox()[1] == {}


def test_silence_of_a_reference_topic_means_nothing(owned: Owned) -> None:
    owned.note_empty(CATALOG, 10, NOW_MS)
    assert owned.take_inbox()[1] == {}


def test_no_checkpoint_is_due_while_there_is_nothing_new(owned: Owned) -> None:
    assert not owned.due(monotonic_ms=10_000, interval_ms=1_000)


def test_a_checkpoint_is_due_after_the_interval_once_something_came(owned: Owned) -> None:
    owned.deliver([Fetch(CLICKS, 0, 0, 12, b"")], {}, 1_000)
    while owned.pipeline.work(1_000, 1_000):
        pass
    owned.taken_ms = 5_000
    assert not owned.due(monotonic_ms=5_999, interval_ms=1_000)
    assert owned.due(monotonic_ms=6_000, interval_ms=1_000)
    owned.checkpoint = owned.pipeline.take()
    assert not owned.due(monotonic_ms=60_000, interval_ms=1_000)


def test_a_closed_bucket_hurries_a_checkpoint_but_not_in_a_catch_up(owned: Owned) -> None:
    owned.deliver([Fetch(CLICKS, 0, 0, 12, b"")], {}, 1_000)
    while owned.pipeline.work(1_000, 1_000):
        pass
    owned.taken_ms = 5_000
    assert not owned.due(monotonic_ms=5_001, interval_ms=1_000)
    owned.pipeline._closed_since_take = True
    assert owned.due(monotonic_ms=5_001, interval_ms=1_000)
    owned.pipeline.offer(Fetch(CLICKS, 0, 12, 13, b" " * CATCH_UP_BYTES))
    assert not owned.due(monotonic_ms=5_001, interval_ms=1_000)
    assert owned.due(monotonic_ms=6_000, interval_ms=1_000)


def test_shortly_before_a_bucket_closes_a_checkpoint_waits_for_it(
    owned: Owned, monkeypatch: pytest.MonkeyPatch
) -> None:
    owned.deliver([Fetch(CLICKS, 0, 0, 12, b"")], {}, 1_000)
    while owned.pipeline.work(1_000, 1_000):
        pass
    owned.taken_ms = 5_000
    monkeypatch.setattr(Pipeline, "watermark_ms", 69_000)  # one second before a bucket's end
    assert not owned.due(monotonic_ms=6_999, interval_ms=1_000)
    assert owned.due(monotonic_ms=7_000, interval_ms=1_000)  # the bucket did not close
    monkeypatch.setattr(Pipeline, "watermark_ms", 70_000)
    assert owned.due(monotonic_ms=6_999, interval_ms=1_000)
    monkeypatch.setattr(Pipeline, "watermark_ms", 69_000)
    owned.lag[CLICKS] = CATCH_UP_RECORDS
    assert owned.due(monotonic_ms=6_000, interval_ms=1_000)  # nothing is awaited that closely


def test_windows_wait_for_what_is_decided_at_their_end(
    owned: Owned, monkeypatch: pytest.MonkeyPatch
) -> None:
    owned.deliver([Fetch(CLICKS, 0, 0, 12, b"")], {}, 1_000)
    while owned.pipeline.work(1_000, 1_000):
        pass
    owned.taken_ms = 5_000
    owned.pipeline._closed_since_take = True
    monkeypatch.setattr(Pipeline, "origin_waits", True)
    assert not owned.due(monotonic_ms=6_999, interval_ms=1_000), "one checkpoint holds both"
    assert owned.due(monotonic_ms=7_000, interval_ms=1_000)
    monkeypatch.setattr(Pipeline, "origin_waits", False)
    assert owned.due(monotonic_ms=5_001, interval_ms=1_000)


def test_what_waits_at_the_broker_is_a_catch_up_too(owned: Owned) -> None:
    owned.deliver([Fetch(CLICKS, 0, 0, 12, b"")], {}, 1_000)
    while owned.pipeline.work(1_000, 1_000):
        pass
    owned.taken_ms = 5_000
    owned.pipeline._closed_since_take = True
    owned.lag[CLICKS] = CATCH_UP_RECORDS
    assert not owned.due(monotonic_ms=5_001, interval_ms=1_000)
    owned.lag[CLICKS] = CATCH_UP_RECORDS - 1
    assert owned.due(monotonic_ms=5_001, interval_ms=1_000)


def test_outputs_that_stop_the_core_do_not_wait_for_the_interval(owned: Owned) -> None:
    owned.deliver([Fetch(CLICKS, 0, 0, 12, b"")], {}, 1_000)
    while owned.pipeline.work(1_000, 1_000):
        pass
    owned.taken_ms = 5_000
    assert not owned.due(monotonic_ms=5_001, interval_ms=1_000)
    owned.pipeline.outbox.waiting_bytes = owned.pipeline.settings.outputs_bytes_max + 1
    assert owned.due(monotonic_ms=5_001, interval_ms=1_000)
