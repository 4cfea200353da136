"""SKU to row and back, against a dictionary."""

import random

import numpy as np
import pytest

from streams.errors import ContractError, Reason
from streams.partitioner import partition_of
from streams.sku_table import MISPLACED, SkuTable
from tests.streams.oracle import Event
from tests.streams.stage import KEY, T0, columns_of


def table() -> SkuTable:
    return SkuTable(0, 1, "none", KEY)


def test_a_sku_keeps_its_row_however_the_table_grows() -> None:
    skus = table()
    names = [b"sku-%d" % number for number in range(5_000)]
    rows = [skus.insert(name) for name in names[:100]]
    rows += skus.insert_all(names[100:]).tolist()
    assert rows == list(range(5_000))
    assert skus.insert_all(names).tolist() == rows
    assert [skus.name(row) for row in rows] == names
    assert [skus.row_of(name) for name in names[::97]] == rows[::97]
    assert skus.row_of(b"unknown") == -1
    assert len(skus) == skus.size == 5_000
    assert skus.capacity == 8_192


def test_columns_find_the_rows_that_were_inserted_by_name() -> None:
    skus = table()
    expected = {name: skus.insert(name.encode()) for name in ("a", "ü" * 40, "SKU-1")}
    events = [Event(at, T0, at, sku, T0) for at, sku in enumerate([*expected, "new", "a"])]
    columns, data = columns_of(events)
    assert skus.rows(data, columns) == []
    assert columns.row[: columns.n].tolist() == [0, 1, 2, 3, 0]
    assert skus.name(3) == b"new"


def test_two_skus_of_one_hash_have_rows_of_their_own() -> None:
    skus = table()
    columns, data = columns_of([Event(at, T0, at, sku, T0) for at, sku in enumerate("abab")])
    columns.sku_hash[:] = 12345
    skus.rows(data, columns)
    assert columns.row[:4].tolist() == [0, 1, 0, 1]
    skus.remove(0)
    skus.rows(data, columns, room=0)
    assert columns.row[:4].tolist() == [-1, 1, -1, 1]


@pytest.mark.parametrize("partitioner", ["murmur2", "crc32"])
def test_a_key_of_another_partition_gets_no_row(partitioner: str) -> None:
    names = [f"sku-{number}" for number in range(60)]
    skus = SkuTable(2, 3, partitioner, KEY)  # type: ignore[arg-type]
    columns, data = columns_of([Event(at, T0, at, sku, T0) for at, sku in enumerate(names)])
    misplaced = skus.rows(data, columns)
    expected = [
        at
        for at, sku in enumerate(names)
        if partition_of(sku.encode(), 3, partitioner) != 2  # type: ignore[arg-type]
    ]
    assert misplaced == expected
    assert (columns.row[expected] == MISPLACED).all()
    assert len(skus) == 60 - len(expected)
    for at, sku in enumerate(names):
        assert skus.belongs(sku.encode()) == (at not in expected)
    with pytest.raises(ContractError, match="belongs to partition") as error:
        skus.insert(names[expected[0]].encode())
    assert error.value.reason == Reason.WRONG_PARTITION


def test_refused_records_have_no_row_and_looking_up_inserts_nothing() -> None:
    skus = table()
    events = [Event(0, T0, 0, "a", T0, refused=True), Event(1, T0, 1, "b", T0)]
    columns, data = columns_of(events)
    skus.rows(data, columns, room=0)
    assert columns.row[:2].tolist() == [-1, -1]
    skus.rows(data, columns)
    assert columns.row[:2].tolist() == [-1, 0]
    assert len(skus) == 1


def test_rows_are_recycled_and_names_found_under_any_coming_and_going() -> None:
    rng = random.Random(5)
    skus = table()
    known: dict[bytes, int] = {}
    for _ in range(20_000):
        name = b"x" * rng.randrange(1, 30) + b"%d" % rng.randrange(900)
        if name in known and rng.random() < 0.7:
            skus.remove(known.pop(name))
        else:
            row = skus.insert(name)
            assert known.setdefault(name, row) == row
    assert len(set(known.values())) == len(known) == len(skus)
    assert skus.insert_all(list(known)).tolist() == list(known.values())
    assert all(skus.name(row) == name for name, row in known.items())
    named = sum(map(len, known))
    assert len(skus.names.blob) < 6 * named, "names that went are cleared away"
    free = [row for row in range(skus.size) if row not in set(known.values())]
    assert all(skus.name(row) == b"" for row in free)
    assert np.array_equal(np.sort(skus.insert_all([b"n%d" % n for n in range(len(free))])), free)
