from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from streams.codec.plain import Record
from streams.errors import Reason
from streams.placement import Placement
from streams.recompute import Cut, Outcome, PartitionRules, Place, Recomputed
from streams.settings import Settings, load
from streams.topics import EVENT_TOPICS
from tests.streams.oracle import Event, verdicts, windows

BASE_MS = 1_600_000_000_000
NOW_MS = BASE_MS + 10_000_000
PLACEMENT = Placement("murmur2", 1)


def settings(**changed: Any) -> Settings:
    return load(**{"bucket_ms": 10_000, "allowed_lateness_ms": 5_000, **changed})


def record(offset: int, at_ms: int, **changed: Any) -> Record:
    """A click, unless `quantity` is given."""
    fields = {
        "event_id": f"e{offset}", "sku": "a", "user_id": "u", "event_time_ms": BASE_MS + at_ms,
        "price_cents": 100, **changed,
    }  # fmt: skip
    key = fields.pop("key", fields["sku"].encode())
    timestamp_ms = fields.pop("timestamp_ms", NOW_MS)
    return Record(offset, timestamp_ms, key, msgspec.json.encode(fields), [])


def judged(
    records: list[Record],
    cuts: list[Cut] | None = None,
    kind: int = 0,
    not_admitted: dict[int, str] | None = None,
    **changed: Any,
) -> tuple[list[Outcome], Recomputed]:
    recomputed = Recomputed()
    rules = PartitionRules(settings(**changed), kind, 0, PLACEMENT, cuts or [], not_admitted)
    return [rules.add(one, recomputed) for one in records], recomputed


def test_an_event_is_late_when_it_is_further_behind_than_allowed() -> None:
    #        10 s      5 s: just in time     4.999 s: late
    found, recomputed = judged([record(0, 10_000), record(1, 5_000), record(2, 4_999)])
    assert found == [Outcome.ACCEPTED, Outcome.ACCEPTED, Outcome.LATE]
    assert set(recomputed.late) == {Place("clicks", 0, 2)}


def test_late_and_repeated_events_move_the_clock_too() -> None:
    records = [
        record(0, 0),
        record(1, 20_000, event_id="e0"),  # a duplicate, and yet 20 s have been seen
        record(2, 14_000),
    ]
    assert judged(records)[0] == [Outcome.ACCEPTED, Outcome.DUPLICATE, Outcome.LATE]


def test_a_fast_client_clock_counts_for_no_more_than_the_records_timestamp() -> None:
    records = [record(0, 4_000, timestamp_ms=BASE_MS + 1_000), record(1, -3_500)]
    assert judged(records)[0] == [Outcome.ACCEPTED, Outcome.ACCEPTED]


def test_a_cut_makes_late_what_lies_behind_it_from_its_position_on() -> None:
    cuts = [Cut(2, BASE_MS + 30_000)]
    records = [record(0, 10_000), record(1, 10_000), record(2, 29_999), record(3, 30_000)]
    assert judged(records, cuts)[0] == [
        Outcome.ACCEPTED, Outcome.ACCEPTED, Outcome.LATE, Outcome.ACCEPTED,
    ]  # fmt: skip


def test_a_dead_letter_of_a_sku_not_admitted_is_believed_where_nothing_speaks_against_it() -> None:
    records = [
        record(0, 10_000),
        record(1, 11_000, event_id="e0"),  # a duplicate
        record(2, 4_000),  # late
        record(3, 12_000),  # the bucket that began at 10 s is open: the SKU has a row
        record(4, 12_000, sku="b"),
        record(5, 26_000, sku="b"),
        record(6, 26_000),  # the watermark is 21 s: the row may have been given back
    ]
    found, recomputed = judged(records, not_admitted=dict.fromkeys((1, 2, 3, 4, 6), "sku_limit"))
    assert found == [
        Outcome.ACCEPTED, Outcome.DUPLICATE, Outcome.LATE, Outcome.ACCEPTED, Outcome.DEAD_LETTER,
        Outcome.ACCEPTED, Outcome.DEAD_LETTER,
    ]  # fmt: skip
    assert [place.offset for place in recomputed.dead] == [4, 6]


def test_an_id_counts_as_seen_in_its_own_and_the_next_generation() -> None:
    records = [record(offset, 0, event_id="same") for offset in (0, 999, 1_000, 1_999, 3_000)]
    found, _ = judged(records, dedupe_horizon_records=1_000)
    dropped = [Outcome.DUPLICATE] * 3
    assert found == [Outcome.ACCEPTED, *dropped, Outcome.ACCEPTED], "2,000 to 2,999 passed by"


def test_what_breaks_the_contract_is_a_dead_letter_and_moves_nothing() -> None:
    records = [
        Record(0, NOW_MS, b"a", b"no json", []),
        record(1, 10**9),  # in the far future
        record(2, 0, key=b"b"),
        record(3, 0),
    ]
    found, recomputed = judged(records)
    assert found == [Outcome.DEAD_LETTER] * 3 + [Outcome.ACCEPTED]
    assert recomputed.reasons == {
        Reason.NOT_JSON: 1, Reason.EVENT_TIME_FUTURE: 1, Reason.KEY_MISMATCH: 1,
    }  # fmt: skip


def test_a_key_of_another_partition_is_a_dead_letter() -> None:
    placement = Placement("murmur2", 4)
    home = placement.of(b"a")
    for partition in range(4):
        recomputed = Recomputed()
        outcome = PartitionRules(settings(), 0, partition, placement, []).add(
            record(0, 0), recomputed
        )
        assert (outcome is Outcome.ACCEPTED) == (partition == home)
    unchecked = PartitionRules(settings(partitioner="none"), 0, 3 - home, placement, [])
    assert unchecked.add(record(0, 0), Recomputed()) is Outcome.ACCEPTED


def test_windows_hold_counts_units_revenue_and_the_mean_price() -> None:
    recomputed = Recomputed()
    for kind, prices in enumerate(([100, 101], [200], [300])):
        rules = PartitionRules(settings(), kind, 0, PLACEMENT, [])
        for offset, price in enumerate(prices):
            more = {"quantity": 7} if kind else {}
            rules.add(record(offset, 3_000, price_cents=price, **more), recomputed)
    (cell,) = recomputed.windows
    assert cell == ("a", BASE_MS)
    assert recomputed.figures(cell) == (2, 1, 1, 7, 2_100, 175)


EVENTS = st.lists(
    st.tuples(
        st.integers(-30_000, 60_000),  # event time
        st.integers(0, 12),  # id
        st.sampled_from("ab"),
        st.integers(1, 500),  # price
        st.integers(1, 9),  # quantity
        st.integers(0, 5),  # gap in the offsets before it
        st.sampled_from([0, 0, 0, 1]),  # refused
    ),
    max_size=40,
)
CUTS = st.lists(st.tuples(st.integers(0, 60), st.integers(-20_000, 60_000)), max_size=3)


@given(
    logs=st.tuples(EVENTS, EVENTS, EVENTS), cuts=CUTS, horizon=st.sampled_from([1000, 1_000_000])
)
def test_the_verdicts_are_the_oracles(
    logs: tuple[list[Any], ...], cuts: list[tuple[int, int]], horizon: int
) -> None:
    placed = [(position, BASE_MS + through) for position, through in cuts]
    recomputed = Recomputed()
    all_events, all_said = [], []
    for kind, log in enumerate(logs):
        rules = PartitionRules(
            settings(dedupe_horizon_records=horizon),
            kind, 0, PLACEMENT, [Cut(*cut) for cut in placed],
        )  # fmt: skip
        events, found, offset = [], {}, -1
        for at_ms, number, sku, price, quantity, gap, refused in log:
            offset += 1 + gap * 150
            events.append(
                Event(offset, NOW_MS, number, sku, BASE_MS + at_ms, price, quantity, bool(refused))
            )
            more = {"quantity": quantity} if kind else {}
            one = record(offset, at_ms, event_id=f"e{number}", sku=sku, price_cents=price, **more)
            spoilt = Record(offset, NOW_MS, one.key, b"{", [])
            found[offset] = rules.add(spoilt if refused else one, recomputed)
        said = verdicts(events, placed, 5_000, horizon)
        names = {"applied": "accepted", "refused": "dead_letter"}
        assert found == {at: names.get(verdict, verdict) for at, verdict in said.items()}
        all_events.append(events)
        all_said.append(said)
    expected = windows(all_events, all_said, 10_000)
    assert {cell: recomputed.figures(cell) for cell in recomputed.windows} == expected
    assert EVENT_TOPICS[0] == "clicks"
