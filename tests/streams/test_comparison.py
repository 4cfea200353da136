import base64
import hashlib
import hmac
from typing import Any

import msgspec
import pytest

from streams.cloud_events import refused_id
from streams.codec.plain import Record
from streams.comparison import LISTED_MAX, Differences, PartitionComparison, Tally
from streams.placement import Placement
from streams.recompute import Outcome, PartitionRules, Recomputed
from streams.records import DemandWindow, Refused
from streams.settings import Settings, load
from streams.topics import DEAD_LETTERS, LATE_EVENTS

BASE_MS = 1_600_000_000_000
NOW_MS = BASE_MS + 10_000_000
CLOSED_MS = BASE_MS + 30_000
BROKEN = b'{"sku":"a","user_id":"u'
KEY = "a key of some length"


def settings(**changed: Any) -> Settings:
    return load(topic_prefix="shop.", **changed)


def log() -> list[Record]:
    """Clicks at 1, 12, 25 and 35 s, a late one and a dead letter."""
    records = []
    for offset, second in enumerate((1, 12, 25, 35, 2)):
        fields = {"event_id": f"e{offset}", "sku": "a", "user_id": "u", "price_cents": 100,
                  "event_time_ms": BASE_MS + second * 1_000}  # fmt: skip
        records.append(Record(offset, NOW_MS, b"a", msgspec.json.encode(fields), []))
    return [*records, Record(5, NOW_MS, b"a", BROKEN, [])]


def recomputed(**changed: Any) -> Recomputed:
    found = Recomputed()
    rules = PartitionRules(settings(**changed), 0, 0, Placement("murmur2", 1), [])
    for record in log():
        rules.add(record, found)
    return found


def window(second: int, offset: int, clicks: int = 1, key: bytes = b"a") -> Record:
    value = DemandWindow("a", BASE_MS + second * 1000, 10_000, clicks, 0, 0, 0, 0, 100, 0, 10_000)
    return Record(offset, NOW_MS, key, msgspec.json.encode(value), [])


def pseudonym(told: bytes, key: str | None) -> bytes:
    if key is None:
        return b"redacted"
    return b"p-" + hmac.new(key.encode(), told, "sha256").hexdigest()[:32].encode()


def published(offset: int, key: str | None = None) -> bytes:
    """What may be shown of the late event (4) or the dead letter (5)."""
    if offset == 5:
        return BROKEN[:12] + pseudonym(BROKEN[12:], key)
    return (log()[offset].value or b"").replace(b'"u"', b'"%b"' % pseudonym(b"u", key))


def refused(offset: int, reason: str, under: str | None = None, **changed: Any) -> Record:
    original = log()[offset]
    value = published(offset, under)
    fields: dict[str, Any] = {
        "topic": "shop.clicks", "partition": 0, "offset": offset, "timestamp_ms": NOW_MS,
        "reason": reason, "detail": "", "key": base64.b64encode(b"a").decode(),
        "value": base64.b64encode(value).decode(), "headers": [],
        "value_length": len(original.value or b""),
        "value_sha256": hashlib.sha256(value).hexdigest(), "truncated": False, **changed,
    }  # fmt: skip
    event_id = refused_id(fields["topic"], 0, fields["offset"]).encode()
    return Record(0, NOW_MS, b"a", msgspec.json.encode(Refused(**fields)), [("ce_id", event_id)])


def compared(
    windows: list[Record],
    late: list[Record],
    dead: list[Record],
    processed_to: int = 6,
    **changed: Any,
) -> tuple[Differences, Tally]:
    differences, tally = Differences(), Tally()
    comparison = PartitionComparison(
        settings(**changed),
        0,
        recomputed(**changed),
        CLOSED_MS,
        {"clicks": processed_to},
        differences,
        tally,
    )
    for record in windows:
        comparison.add_window(record)
    for record in late:
        comparison.add_refused(LATE_EVENTS, record)
    for record in dead:
        comparison.add_refused(DEAD_LETTERS, record)
    comparison.finish()
    return differences, tally


WINDOWS = [window(0, 0), window(10, 1), window(20, 2)]
LATE = [refused(4, "late")]
DEAD = [refused(5, "not_json")]
OTHER = base64.b64encode(published(5).replace(b"sku", b"ska")).decode()


def test_what_the_log_implies_has_no_differences() -> None:
    differences, tally = compared(WINDOWS, LATE, DEAD)
    assert differences.total == 0, differences.listed
    assert (tally.windows_expected, tally.windows_open) == (3, 1), "35 s is not closed yet"
    assert (tally.late_expected, tally.dead_expected) == (1, 1)


def test_an_open_bucket_that_was_written_since_is_not_compared() -> None:
    assert compared([*WINDOWS, window(30, 3, clicks=9)], LATE, DEAD)[0].total == 0
    assert compared([*WINDOWS, window(70, 3, clicks=9)], LATE, DEAD)[0].total == 0


@pytest.mark.parametrize(
    ("what", "windows", "late", "dead"),
    [
        ("window_missing", WINDOWS[1:], LATE, DEAD),
        ("window_differs", [window(0, 0, clicks=2), *WINDOWS[1:]], LATE, DEAD),
        ("window_repeated", [*WINDOWS, window(0, 3)], LATE, DEAD),
        ("window_conflicts", [*WINDOWS, window(0, 3, clicks=2)], LATE, DEAD),
        ("window_unexpected", [*WINDOWS, window(-10, 3)], LATE, DEAD),
        ("window_malformed", [*WINDOWS, window(0, 3, key=b"b")], LATE, DEAD),
        ("window_unreadable", [*WINDOWS, Record(3, 0, b"a", b"{}", [])], LATE, DEAD),
        ("late-events_missing", WINDOWS, [], DEAD),
        ("late-events_repeated", WINDOWS, LATE * 2, DEAD),
        ("late-events_unexpected", WINDOWS, [*LATE, refused(1, "late")], DEAD),
        ("late-events_unreadable", WINDOWS, [*LATE, Record(1, 0, b"a", None, [])], DEAD),
        ("dead-letters_missing", WINDOWS, LATE, []),
        ("dead-letters_differs", WINDOWS, LATE, [refused(5, "not_utf8")]),
        ("dead-letters_differs", WINDOWS, LATE, [refused(5, "not_json", value_length=7)]),
        ("dead-letters_differs", WINDOWS, LATE, [refused(5, "not_json", value="")]),
        ("dead-letters_differs", WINDOWS, LATE, [refused(5, "not_json", key=None)]),
        ("dead-letters_differs", WINDOWS, LATE, [refused(5, "not_json", value=OTHER)]),
        ("late-events_differs", WINDOWS, [refused(4, "late", under=KEY)], DEAD),
        ("dead-letters_unexpected", WINDOWS, LATE, [*DEAD, refused(0, "not_json")]),
    ],
)
def test_every_departure_is_found_and_named(
    what: str, windows: list[Record], late: list[Record], dead: list[Record]
) -> None:
    assert dict(compared(windows, late, dead)[0].counts) == {what: 1}


def test_shoppers_are_compared_under_their_pseudonyms() -> None:
    late, dead = [refused(4, "late", under=KEY)], [refused(5, "not_json", under=KEY)]
    differences, _ = compared(WINDOWS, late, dead, pseudonym_key=KEY)
    assert differences.total == 0, differences.listed
    differences, _ = compared(WINDOWS, late, dead, pseudonym_key=KEY + "!")
    assert dict(differences.counts) == {"late-events_differs": 1, "dead-letters_differs": 1}
    assert all("FLASHCAST_PSEUDONYM_KEY" in one.found for one in differences.listed)


def test_an_id_that_is_not_of_the_place_is_a_difference() -> None:
    forged = Record(0, NOW_MS, b"a", LATE[0].value, [("ce_id", b"another")])
    assert dict(compared(WINDOWS, [forged], DEAD)[0].counts) == {"late-events_id": 1}


def test_identical_repeats_are_counted_where_the_guarantee_allows_them() -> None:
    changed = {"processing_guarantee": "at_least_once"}
    differences, tally = compared(WINDOWS * 2, LATE * 2, DEAD * 2, **changed)
    assert differences.total == 0 and tally.repeats == 5
    conflicting = [*WINDOWS, window(0, 3, clicks=2)]
    differences, _ = compared(conflicting, LATE, DEAD, **changed)
    assert dict(differences.counts) == {"window_conflicts": 1}


def test_a_record_beyond_the_marker_need_not_have_been_refused_yet() -> None:
    differences, tally = compared(WINDOWS, [], [], processed_to=4)
    assert differences.total == 0
    assert tally.late_expected == tally.dead_expected == 0


def test_a_dead_letter_of_the_catalog_is_counted_apart() -> None:
    other = refused(5, "not_json", topic="shop.catalog")
    differences, tally = compared(WINDOWS, LATE, [*DEAD, other])
    assert differences.total == 0 and tally.not_events == 1


def test_a_value_above_the_limit_is_compared_by_its_hash() -> None:
    value = published(4)
    cut = base64.b64encode(value[:50]).decode()
    differences = Differences()
    limited = settings(dead_letter_bytes_max=256).model_copy(update={"dead_letter_bytes_max": 50})
    comparison = PartitionComparison(
        limited, 0, recomputed(), 0, {"clicks": 5}, differences, Tally()
    )
    comparison.add_refused(LATE_EVENTS, refused(4, "late", value=cut, truncated=True))
    comparison.finish()
    assert differences.total == 0, differences.listed


def test_the_markers_counts_are_compared() -> None:
    differences = Differences()
    comparison = PartitionComparison(
        settings(), 0, recomputed(), CLOSED_MS, {"clicks": 6}, differences, Tally()
    )
    comparison.compare_counters({"clicks": {Outcome.ACCEPTED: 4, Outcome.LATE: 1}})
    assert differences.total == 0
    comparison.compare_counters({"clicks": {Outcome.DUPLICATE: 1}})
    assert dict(differences.counts) == {"marker_count": 1}


def test_the_list_of_differences_is_bounded() -> None:
    differences = Differences()
    for index in range(LISTED_MAX + 50):
        differences.add("window_missing", str(index))
    assert differences.total == LISTED_MAX + 50 and len(differences.listed) == LISTED_MAX
