"""A row comes back as it was packed, and a changed byte or another layout is noticed."""

from typing import Any

import hypothesis.extra.numpy as npst
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from streams.errors import StateError
from streams.state import snapshot
from streams.state.snapshot import HEADER_BYTES, RowSchema

DTYPES = st.sampled_from(["?", "<i1", "<i4", "<i8", "<u2", "<u8", "<f4", "<f8", ">i8"])
SHAPES = st.sampled_from([(), (1,), (3,), (4, 3)])


@st.composite
def tables(draw: st.DrawFn) -> dict[str, NDArray[Any]]:
    """Fields [n, ...] of any types and shapes that the core could have."""
    n = draw(st.integers(0, 5))
    names = draw(st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=6, unique=True))
    return {name: draw(npst.arrays(draw(DTYPES), (n, *draw(SHAPES)))) for name in names}


@settings(deadline=None)
@given(tables())
def test_rows_come_back_as_they_were_packed(fields: dict[str, NDArray[Any]]) -> None:
    schema = RowSchema(3, fields)
    rows = schema.pack(fields)
    assert rows.shape == (len(next(iter(fields.values()))), schema.width)
    again, bad = snapshot.stack([row.tobytes() for row in rows])
    assert not bad
    for name, array in schema.unpack(again).items():
        assert array.shape == fields[name].shape
        assert array.flags.writeable
        assert array.astype(array.dtype).tobytes() == fields[name].astype(array.dtype).tobytes()


@given(tables(), st.data())
@settings(max_examples=50, deadline=None)
def test_any_changed_byte_is_noticed_and_only_its_row_is_lost(
    fields: dict[str, NDArray[Any]], data: st.DataObject
) -> None:
    schema = RowSchema(1, fields)
    rows = schema.pack(fields)
    if not len(rows):
        return
    row = data.draw(st.integers(0, len(rows) - 1))
    rows[row, data.draw(st.integers(0, schema.width - 1))] ^= data.draw(st.integers(1, 255))
    good, bad = snapshot.stack([one.tobytes() for one in rows])
    assert bad == [row]
    assert good.tobytes() == np.delete(rows, row, axis=0).tobytes()


def test_a_row_that_is_cut_short_is_bad() -> None:
    rows = RowSchema(1, {"a": np.zeros((2, 3))}).pack({"a": np.ones((2, 3))})
    good, bad = snapshot.stack([rows[0].tobytes()[:-1], b"", rows[1].tobytes()])
    assert (len(good), bad) == (1, [0, 1])


@pytest.mark.parametrize(
    "other",
    [
        RowSchema(2, {"a": np.zeros((1, 3)), "b": np.zeros(1, "i4")}),  # version
        RowSchema(1, {"b": np.zeros((1, 3)), "a": np.zeros(1, "i4")}),  # names
        RowSchema(1, {"a": np.zeros((1, 3)), "b": np.zeros(1, "f4")}),  # type
        RowSchema(1, {"a": np.zeros((1, 1, 3)), "b": np.zeros(1, "i4")}),  # shape
        RowSchema(1, {"a": np.zeros((1, 2)), "b": np.zeros(1, "i4")}),  # width
    ],
)
def test_rows_of_another_layout_are_refused_with_both_layouts_named(other: RowSchema) -> None:
    fields = {"a": np.ones((2, 3)), "b": np.ones(2, "i4")}
    ours = RowSchema(1, fields)
    with pytest.raises(StateError, match=rf"2 of 2 rows .*{ours.hash:08x}.*{other.hash:08x}"):
        other.unpack(ours.pack(fields))


def test_two_layouts_in_one_changelog_are_refused() -> None:
    one = RowSchema(1, {"a": np.zeros(1)}).pack({"a": np.zeros(1)})
    two = RowSchema(1, {"a": np.zeros((1, 2))}).pack({"a": np.zeros((1, 2))})
    with pytest.raises(StateError, match="different layouts"):
        snapshot.stack([one[0].tobytes(), two[0].tobytes()])


def test_no_rows_unpack_to_empty_fields_whatever_their_width() -> None:
    schema = RowSchema(1, {"a": np.zeros((1, 3)), "b": np.zeros(1, "i4")})
    rows, _ = snapshot.stack([])
    assert rows.shape == (0, HEADER_BYTES)
    assert {name: array.shape for name, array in schema.unpack(rows).items()} == {
        "a": (0, 3),
        "b": (0,),
    }


@pytest.mark.parametrize("array", [np.array(["a"]), np.array([None]), np.array(1.0)])
def test_a_field_without_a_fixed_layout_is_refused(array: NDArray[Any]) -> None:
    with pytest.raises(ValueError, match="field 'a'"):
        RowSchema(1, {"a": array})
