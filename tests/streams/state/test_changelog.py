"""A checkpoint's changelog records, read back, are the state it described."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.checkpoint import Checkpoint
from streams.codec.decode import Fetch
from streams.state import changelog
from streams.state import marker as markers
from streams.state.changelog import IDENTITY_KEY, Image, cut_place
from streams.state.marker import CUT_KEY_PREFIX, MARKER_KEY, MARKER_VERSION, Marker
from streams.state.partition_reader import LogRecord, log_records
from streams.state.snapshot import RowSchema

SCHEMA = RowSchema(1, {"level": np.zeros(1)})
skus = st.binary(min_size=1, max_size=6).filter(lambda sku: sku[0] != 0)


def checkpoint(step: int, names: list[bytes], cuts: list[int]) -> Checkpoint:
    return Checkpoint(
        0,
        [],
        names,
        SCHEMA.pack({"level": np.full(len(names), float(step))}),
        [(CUT_KEY_PREFIX + b"carts|%d" % at, b"{}") for at in cuts],
        Marker(MARKER_VERSION, step, {"carts": step}, 0, {}),
    )


def written(encoded: changelog.Encoded, at: int) -> tuple[list[LogRecord], int]:
    """The records as a broker would hand them out from offset `at` on, and the next offset."""
    records = []
    for batch in encoded.batches():
        data = batch.whole(at, 1_700_000_000_000)
        records += log_records(Fetch("changelog", 0, at, at + batch.count, data))
        at += batch.count
    return records, at


@settings(deadline=None)  # the first example compiles
@given(
    st.lists(
        st.tuples(
            st.lists(skus, max_size=8, unique=True),  # changed
            st.lists(skus, max_size=4, unique=True),  # forgotten
            st.lists(st.integers(0, 99), max_size=2, unique=True),  # cuts
        ),
        max_size=6,
    )
)
def test_the_newest_of_each_key_is_the_state(
    steps: list[tuple[list[bytes], list[bytes], list[int]]],
) -> None:
    log, copy, at = Image(), Image(), 1  # offset 0: some control record
    rows: dict[bytes, bytes] = {}
    cuts: set[int] = set()
    for step, (names, forgotten, cut) in enumerate(steps):
        one = checkpoint(step, names, cut)
        identity = b"which log" if step == 0 else None
        records, end = written(changelog.encode(one, forgotten, identity), at)
        assert records[-1] == (end - 1, MARKER_KEY, markers.encode(one.marker))
        log.apply(records)
        copy.apply((-1, key, value) for key, value in changelog.changes(one, forgotten))
        at = end + 1  # the transaction's control record
        for sku in forgotten:
            rows.pop(sku, None)
        rows |= {name: one.rows[i].tobytes() for i, name in enumerate(names)}
        cuts |= set(cut)
        assert log.marker == copy.marker == markers.encode(one.marker)
    assert log.rows == copy.rows == rows
    assert {cut_place(key) for key in log.cuts} == {("carts", at) for at in cuts}
    assert log.cuts == copy.cuts
    if steps:
        assert (log.identity, log.identity_offset) == (b"which log", 1)


def test_what_is_not_ours_is_ignored_and_counted() -> None:
    image = Image()
    image.apply([(0, None, b"x"), (1, b"", b"x"), (2, b"\x00later", b"x"), (3, IDENTITY_KEY, b"i")])
    assert image == Image(identity=b"i", identity_offset=3, ignored=3)


def test_rows_count_from_the_marker_behind_them_on() -> None:
    image = Image()
    first = [(5, b"A", b"a1"), (6, b"B", b"b1"), (7, MARKER_KEY, b"one")]
    assert image.apply(first) == [(key, value) for _, key, value in first]
    assert image.read_to(8) == 8
    assert image.apply([(8, b"A", b"a2"), (9, b"C", b"c2")]) == []
    assert image.apply([(10, b"B", None)]) == []
    assert image.rows == {b"A": b"a1", b"B": b"b1"}, "nothing of a checkpoint without end"
    assert image.read_to(11) == 8, "whoever reads on later must see its beginning again"
    image.apply([(11, b"A", b"a3"), (12, MARKER_KEY, b"two")])
    assert image.rows == {b"A": b"a3", b"C": b"c2"}
    assert image.read_to(13) == 13
