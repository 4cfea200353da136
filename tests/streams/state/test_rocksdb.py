"""The local copy on a real RocksDB: whole checkpoints, and every way in which it can be wrong."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from streams.errors import StateError
from streams.state import snapshot
from streams.state.changelog import Change, Image
from streams.state.disk import CopyInUseError
from streams.state.local_copy import LocalCopy, Place
from streams.state.marker import CUT_KEY_PREFIX, MARKER_KEY
from streams.state.rocksdb import RocksDisk, RocksStore

NOW_MS = 1_700_000_000_000
PLACE = Place(offset=17, marker_offset=16, identity="0123", identity_offset=3, written_ms=NOW_MS)
DAY_MS = 86_400_000
ROWS: list[Change] = [(b"SKU-%03d" % i, b"row %d" % i) for i in range(300)]


def copy_with(folder: Path, changes: list[Change], place: Place = PLACE) -> LocalCopy:
    copy = LocalCopy(RocksDisk(), folder)
    copy.open()
    copy.write(changes, place)
    return copy


def flip(path: Path, at: int, count: int = 8) -> None:
    data = bytearray(path.read_bytes())
    data[at : at + count] = bytes(byte ^ 0x5A for byte in data[at : at + count])
    path.write_bytes(data)


def test_a_new_copy_is_empty_and_says_so(tmp_path: Path) -> None:
    copy = LocalCopy(RocksDisk(), tmp_path / "deep" / "p0")
    copy.open()
    assert copy.place(NOW_MS, DAY_MS) is None
    assert copy.load() == Image()
    copy.close()


def test_what_was_written_is_there_after_opening_again(tmp_path: Path) -> None:
    cut = CUT_KEY_PREFIX + b"carts|9"
    copy = copy_with(tmp_path / "p0", [*ROWS, (cut, b"cut"), (MARKER_KEY, b"one")])
    later = Place(
        offset=30, marker_offset=29, identity="0123", identity_offset=3, written_ms=NOW_MS + 1
    )
    copy.write([(b"SKU-007", None), (b"SKU-008", b"new"), (MARKER_KEY, b"two")], later)
    copy.close()
    copy.open()
    assert copy.place(NOW_MS, DAY_MS) == later
    image = copy.load()
    expected = {key: value for key, value in ROWS if key != b"SKU-007"} | {b"SKU-008": b"new"}
    assert image == Image(rows=expected, cuts={cut: b"cut"}, marker=b"two")
    copy.close()


def test_replacing_leaves_nothing_of_what_was_there(tmp_path: Path) -> None:
    copy = copy_with(tmp_path / "p0", ROWS)
    image = Image(rows={b"A": b"a"}, cuts={CUT_KEY_PREFIX + b"carts|1": b""}, marker=b"m")
    copy.replace(image, PLACE)
    assert copy.load() == image
    copy.replace(image, None)
    assert copy.place(NOW_MS, DAY_MS) is None
    copy.close()


@pytest.mark.parametrize("age_ms", [DAY_MS + 1, -60_001])
def test_a_copy_too_old_or_dated_by_a_wrong_clock_is_refused(tmp_path: Path, age_ms: int) -> None:
    copy = copy_with(tmp_path / "p0", ROWS)
    assert copy.place(NOW_MS + DAY_MS, DAY_MS) == PLACE
    with pytest.raises(StateError, match=f"{age_ms} ms old"):
        copy.place(NOW_MS + age_ms, DAY_MS)
    copy.close()


def test_a_copy_in_use_is_left_alone(tmp_path: Path) -> None:
    first = copy_with(tmp_path / "p0", ROWS)
    second = LocalCopy(RocksDisk(), tmp_path / "p0")
    with pytest.raises(CopyInUseError, match="p0"):
        second.open()
    assert len(first.load().rows) == len(ROWS)
    first.close()


def test_a_closed_copy_refuses_to_be_used(tmp_path: Path) -> None:
    copy = copy_with(tmp_path / "p0", ROWS)
    copy.close()
    for use in (copy.load, lambda: copy.place(NOW_MS, DAY_MS), lambda: copy.write([], PLACE)):
        with pytest.raises(StateError, match="closed"):
            use()


def test_an_abandoned_copy_is_never_opened_again(tmp_path: Path) -> None:
    copy = copy_with(tmp_path / "p0", ROWS)
    copy.abandon()
    copy.open()  # as a thread may that was started before
    with pytest.raises(StateError, match="closed"):
        copy.load()
    other = LocalCopy(RocksDisk(), tmp_path / "p0")
    other.open()
    assert len(other.load().rows) == len(ROWS)
    other.close()


def test_a_discarded_copy_begins_anew(tmp_path: Path) -> None:
    copy = copy_with(tmp_path / "p0", ROWS)
    copy.discard()
    assert not (tmp_path / "p0").exists()
    copy.open()
    assert copy.place(NOW_MS, DAY_MS) is None
    copy.close()


@pytest.mark.parametrize("at", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_corrupt_table_is_noticed_and_never_read_as_fewer_rows(tmp_path: Path, at: float) -> None:
    folder = tmp_path / "p0"
    rng = np.random.default_rng(7)
    rows: list[Change] = [(b"SKU-%05d" % i, rng.bytes(400)) for i in range(5_000)]
    copy = copy_with(folder, rows)
    assert isinstance(copy._store, RocksStore)
    copy._store.db.flush()
    copy.close()
    table = max(folder.glob("*.sst"), key=lambda path: path.stat().st_size)
    flip(table, int(table.stat().st_size * at))
    with pytest.raises(StateError, match="p0") as raised:
        copy.open()
        copy.place(NOW_MS, DAY_MS)
        copy.load()
    assert not isinstance(raised.value, CopyInUseError)
    copy.discard()


def test_a_torn_log_leaves_whole_checkpoints(tmp_path: Path) -> None:
    folder = tmp_path / "p0"
    copy = copy_with(folder, [*ROWS, (MARKER_KEY, b"one")])
    second: list[Change] = [(key, b"second") for key, _ in ROWS]
    copy.write([*second, (MARKER_KEY, b"two")], Place(99, 98, "0123", 3, NOW_MS))
    crashed = LocalCopy(RocksDisk(), shutil.copytree(folder, tmp_path / "crashed"))
    copy.close()
    (log,) = (tmp_path / "crashed").glob("*.log")
    log.write_bytes(log.read_bytes()[:-1_000])
    crashed.open()
    image = crashed.load()
    assert crashed.place(NOW_MS, DAY_MS) == PLACE
    assert (image.marker, image.rows) == (b"one", dict(ROWS))
    crashed.close()


@pytest.mark.parametrize("damage", ["manifest", "current", "place"])
def test_a_copy_whose_bookkeeping_is_damaged_is_noticed(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "p0"
    copy = copy_with(folder, ROWS)
    if damage == "place":
        assert isinstance(copy._store, RocksStore)
        copy._store.db[b"\x00place"] = b"\x00\x00\x00\x00{}"
    copy.close()
    if damage == "manifest":
        next(folder.glob("MANIFEST-*")).write_bytes(b"garbage")
    elif damage == "current":
        (folder / "CURRENT").write_text("MANIFEST-999999\n")
    with pytest.raises(StateError, match="p0"):
        copy.open()
        copy.place(NOW_MS, DAY_MS)
    copy.discard()


def test_packed_rows_come_back_byte_for_byte(tmp_path: Path) -> None:
    schema = snapshot.RowSchema(1, {"a": np.zeros((1, 5))})
    packed = schema.pack({"a": np.arange(50.0).reshape(10, 5)})
    copy = copy_with(tmp_path / "p0", [(b"%d" % i, packed[i].tobytes()) for i in range(10)])
    rows, bad = snapshot.stack(list(copy.load().rows.values()))
    assert not bad
    assert rows.tobytes() == packed.tobytes()
    copy.close()
