"""Small batches become large ones, record by record the same."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from streams.checkpoint import Output
from streams.codec.batches import iter_records
from streams.codec.write import HEADER_BYTES, encode_records
from streams.merging import SMALL_BYTES, merged, with_last

TIME_MS = 1_700_000_000_000
Record = tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]

records = st.lists(
    st.tuples(
        st.none() | st.binary(max_size=20),
        st.none() | st.binary(max_size=300),
        st.lists(st.tuples(st.text(max_size=5), st.binary(max_size=5)), max_size=2),
    ),
    max_size=5,
)


def outputs_of(topic: str, groups: Sequence[Sequence[Record]]) -> list[Output]:
    return [Output(topic, batch) for group in groups for batch in encode_records(group)]


def read(outputs: Sequence[Output], topic: str) -> list[tuple[int, Record]]:
    """(offset within its batch, record) of all of one topic."""
    return [
        (one.offset, (one.key, one.value, [(name, value or b"") for name, value in one.headers]))
        for output in outputs
        if output.topic == topic
        for one in iter_records(output.batch.whole(0, TIME_MS))
    ]


@given(a=st.lists(records, max_size=40), b=st.lists(records, max_size=5))
def test_nothing_is_lost_and_the_order_within_a_topic_stays(
    a: list[list[Record]], b: list[list[Record]]
) -> None:
    before = [*outputs_of("a", a), *outputs_of("b", b)]
    after = merged(before)
    for topic, groups in (("a", a), ("b", b)):
        flat = [record for group in groups for record in group]
        assert [record for _, record in read(after, topic)] == flat
        assert [offset for offset, _ in read(after, topic)] == list(range(len(flat)))
    assert len(after) == bool(sum(map(len, a))) + bool(sum(map(len, b)))


@given(groups=st.lists(records, max_size=40), bytes_max=st.integers(400, 2_000))
def test_no_merged_batch_is_above_the_limit(groups: list[list[Record]], bytes_max: int) -> None:
    before = outputs_of("a", groups)
    largest = max((output.batch.size_bytes for output in before), default=HEADER_BYTES)
    after = merged(before, bytes_max)
    assert all(output.batch.size_bytes <= max(bytes_max, largest) for output in after)
    assert [record for _, record in read(after, "a")] == [
        record for group in groups for record in group
    ]


def test_a_large_batch_is_left_as_it_is() -> None:
    large = outputs_of("a", [[(b"k", b"x" * (SMALL_BYTES + 1), [])]])
    small = outputs_of("a", [[(b"k", b"x", [])]] * 3)
    after = merged([*small, *large, *small])
    assert [output.batch.count for output in after] == [3, 1, 3]
    assert after[1] is not None and after[1].batch is large[0].batch


@given(several=st.lists(records.filter(bool), max_size=3), last=records.filter(bool))
def test_the_last_batch_goes_into_the_one_before_it(
    several: list[list[Record]], last: list[Record]
) -> None:
    before = [batch for group in several for batch in encode_records(group)]
    (marker,) = encode_records(last)
    found = with_last(before, marker)
    assert len(found) == max(1, len(before))
    told = [record for _, record in read([Output("t", batch) for batch in found], "t")]
    assert told == [record for group in [*several, last] for record in group]


def test_the_last_batch_stays_apart_where_there_is_no_room_for_it() -> None:
    (before,), (marker,) = (encode_records([(b"k", b"v" * 90, [])]) for _ in range(2))
    assert with_last([before], marker, bytes_max=2 * len(before.body)) == [before, marker]
    assert len(with_last([before], marker, bytes_max=HEADER_BYTES + 4 * len(before.body))) == 1
