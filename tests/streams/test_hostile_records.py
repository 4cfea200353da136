"""Records that are valid to a broker and hostile to us: none may stop a partition."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from streams import topics
from streams.codec.decode import Fetch
from streams.codec.write import BYTES_MAX
from streams.fetch_seam import pack
from streams.log_reader import records_of
from streams.placement import Placement
from streams.recompute import PartitionRules, Recomputed
from streams.records import Refused
from streams.settings import load
from tests.streams.harness import NOW_MS, Core, Log

SETTINGS = load(clock="event", partitions=1)
Headers = Sequence[tuple[str, bytes | None]]


def dead_letter_of(
    key: bytes | None,
    value: bytes | None,
    headers: Headers = (),
    timestamp_ms: int = NOW_MS,
    **settings: Any,
) -> tuple[Refused, dict[str, bytes | None], int]:
    """The dead letter that one click becomes, its headers, and the size of its batch."""
    core = Core(SETTINGS.model_copy(update=settings), Log())
    data = pack([(0, timestamp_ms, key, value, headers)])
    core.pipeline.offer(Fetch(topics.CLICKS, 0, 0, 1, data))
    core.run()
    taken = core.checkpoint()
    (record,) = core.outputs[topics.DEAD_LETTERS]
    letter = msgspec.json.decode(record.value, type=Refused)
    return letter, dict(record.headers), taken.outputs[0].batch.size_bytes


@pytest.mark.parametrize(
    ("timestamp_ms", "shown"),
    [
        (-1, b"1969-12-31T23:59:59.999Z"),
        (253_402_300_799_999, b"9999-12-31T23:59:59.999Z"),
        (253_402_300_800_000, b"9999-12-31T23:59:59.999Z"),
        (2**61, b"9999-12-31T23:59:59.999Z"),
        (-(2**61), b"0001-01-01T00:00:00.000Z"),
    ],
)
def test_a_timestamp_that_no_calendar_holds_is_shown_as_the_nearest_that_it_does(
    timestamp_ms: int, shown: bytes
) -> None:
    letter, headers, _ = dead_letter_of(b"A", b"{", timestamp_ms=timestamp_ms)
    assert headers["ce_time"] == shown
    assert letter.timestamp_ms == timestamp_ms


@pytest.mark.parametrize(
    "headers",
    [
        [("h", b"x" * 60_000)] * 80,
        [("h" * 100_000, b"")] * 50,
        [("\x01" * 100_000, None)] * 50,
        [("", b"")] * 100_000,
    ],
    ids=["large contents", "large names", "names that need escapes", "many"],
)
@pytest.mark.parametrize("bytes_max", [256, 65_536, 131_072])
def test_a_dead_letter_fits_a_batch_whatever_headers_its_record_has(
    headers: Headers, bytes_max: int
) -> None:
    letter, _, size_bytes = dead_letter_of(
        b"k" * 1_000_000, b"{" * 5_000_000, headers, dead_letter_bytes_max=bytes_max
    )
    assert size_bytes <= BYTES_MAX
    assert letter.truncated
    assert letter.value_length == 5_000_000


def unreadable_fetch(topic: str, why: str = "offsets 0 to 9: torn") -> Fetch:
    data = pack([(0, NOW_MS, None, b"\x00batch", [])]) + pack([(10, NOW_MS, b"A", b"{", [])])
    return Fetch(topic, 0, 0, 11, data, {0: why})


@pytest.mark.parametrize("topic", [topics.CLICKS, topics.CATALOG])
def test_a_batch_that_cannot_be_read_is_one_dead_letter_and_the_log_goes_on(topic: str) -> None:
    core = Core(SETTINGS, Log())
    core.pipeline.offer(unreadable_fetch(topic))
    core.run()
    core.checkpoint()
    letters = [
        msgspec.json.decode(record.value, type=Refused)
        for record in core.outputs[topics.DEAD_LETTERS]
    ]
    assert [(one.offset, one.reason) for one in letters] == [
        (0, "batch_unreadable"),
        (10, "not_json"),
    ]
    assert letters[0].detail == "offsets 0 to 9: torn"
    assert core.pipeline.offsets()[topic] == 11
    assert core.pipeline.counts["dead_letter", topic, "batch_unreadable"] == 1


def test_reconcile_judges_an_unreadable_batch_as_the_worker_does() -> None:
    rules = PartitionRules(SETTINGS, 0, 0, Placement(SETTINGS.partitioner, 1), [])
    fetch = unreadable_fetch(topics.CLICKS)
    found = Recomputed()
    for record in records_of(fetch):
        rules.add(record, found)
    assert [refusal.reason for refusal in found.dead.values()] == ["batch_unreadable", "not_json"]


@pytest.mark.parametrize("key", [b"x" * 10**6, b"\xff", b"\0marker", b"unknown"])
def test_who_withdraws_a_sku_that_nobody_knows_gets_no_row(key: bytes) -> None:
    core = Core(SETTINGS, Log())
    for topic in topics.REFERENCE_TOPICS:
        core.pipeline.offer(Fetch(topic, 0, 0, 1, pack([(0, NOW_MS, key, None, [])])))
    core.run()
    assert len(core.pipeline.skus) == 0


def test_headers_that_fit_are_kept_whole_and_in_order() -> None:
    headers: Headers = [("ce_id", b"\x00\xff"), ("empty", b""), ("none", None), ("ce_id", b"2")]
    letter, _, _ = dead_letter_of(b"A", b"{", headers)
    assert letter.headers == [("ce_id", "AP8="), ("empty", ""), ("none", None), ("ce_id", "Mg==")]
    assert not letter.truncated


def test_headers_too_large_are_left_out_from_there_on_and_that_is_said() -> None:
    headers = [("ce_id", b"1"), ("ce_source", b"x" * 10_000), ("ce_type", b"2")]
    letter, _, _ = dead_letter_of(b"A", b"{", headers, dead_letter_bytes_max=256)
    assert [name for name, _ in letter.headers] == ["ce_id", "ce_source", "ce_type"]
    assert letter.truncated, "the content of one was cut"
    many, _, _ = dead_letter_of(b"A", b"{", [*headers] * 9, dead_letter_bytes_max=256)
    assert [name for name, _ in many.headers] == ["ce_id", "ce_source", "ce_type", "ce_id"]
    assert many.truncated
