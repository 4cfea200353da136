"""Records that are valid to a broker and hostile to us: none may stop a partition."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from streams import topics
from streams.codec.decode import Fetch
from streams.codec.write import BYTES_MAX
from streams.fetch_seam import pack
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
