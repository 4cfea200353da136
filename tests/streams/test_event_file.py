import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from streams.errors import ConfigurationError
from streams.event_file import ColumnNames, EventFile, look_over
from streams.replay import _chunks, keyed_records, run_replay
from streams.settings import load

DAY_S = 86_400
START_S = 1_500_000_000
NOW_MS = 1_700_000_000_000


def parquet_file(path: Path, **columns: Any) -> EventFile:
    parquet.write_table(pa.table(columns), path)
    return EventFile.open(path)


def rows(count: int, **changed: Any) -> dict[str, Any]:
    """`count` clicks a second apart."""
    return {
        "ts": [START_S + second for second in range(count)],
        "type": ["click"] * count,
        "sku": ["a"] * count,
        "user": ["u"] * count,
        "price": [1.0] * count,
        **changed,
    }


def test_prices_kept_as_float32_become_the_cents_they_were(tmp_path: Path) -> None:
    prices = np.asarray([16.99, 0.29, 1.15, 8_191.99, 0.07, 19.99], dtype=np.float32)
    assert float(prices[0]) * 100 < 1699, "truncation would lose a cent"
    file = parquet_file(tmp_path / "a.parquet", **rows(6, price=pa.array(prices)))
    assert file.read().price_cents.tolist() == [1699, 29, 115, 819_199, 7, 1999]


@given(cents=st.integers(0, 10_000_000))
def test_every_price_survives_a_float64(cents: int) -> None:
    assert round(float(np.rint(np.float64(cents / 100) * 100))) == cents


def test_times_are_rounded_to_the_millisecond(tmp_path: Path) -> None:
    times = [1470035212.645, 1470035212.6454, 1470035212.9999]
    file = parquet_file(tmp_path / "a.parquet", **rows(3, ts=times))
    assert file.read().event_time_ms.tolist() == [1470035212645, 1470035212645, 1470035213000]


@pytest.mark.parametrize(("unit", "scale"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
def test_the_unit_of_time_is_told_from_its_size(tmp_path: Path, unit: str, scale: int) -> None:
    file = parquet_file(tmp_path / "a.parquet", **rows(2, ts=[START_S * scale, START_S * scale]))
    assert file.read().event_time_ms.tolist() == [START_S * 1000] * 2, unit


def test_csv_and_json_lines_read_like_parquet(tmp_path: Path) -> None:
    csv = tmp_path / "a.csv"
    csv.write_text(
        "ts,type,sku,user,price,qty\n"
        "2017-07-14T02:40:00.250Z,cart,a,7,16.99,2\n"
        "2017-07-14T02:40:01Z,click,b,8,3.50,\n"
    )
    lines = tmp_path / "a.jsonl"
    lines.write_text(
        json.dumps({"ts": 1500000000.25, "type": "cart", "sku": "a", "user": 7, "price": 16.99,
                    "qty": 2}) + "\n"
        + json.dumps({"ts": 1500000001, "type": "click", "sku": "b", "user": 8, "price": 3.5})
        + "\n"
    )  # fmt: skip
    for path in (csv, lines):
        events = EventFile.open(path).read()
        assert events.event_time_ms.tolist() == [1500000000250, 1500000001000]
        assert events.kind.tolist() == [1, 0]
        assert events.user.tolist() == ["7", "8"]
        assert events.price_cents.tolist() == [1699, 350]
        assert events.quantity.tolist() == [2.0, 1.0]


def test_other_names_and_words_are_mapped(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    columns = {"when": [START_S] * 2, "what": ["view", "purchase"], "item": ["a", "b"],
               "amount": [2, 5], "cost": [1.0, 2.0], "who": ["x", "y"]}  # fmt: skip
    parquet.write_table(pa.table(columns), path)
    names = ColumnNames(
        time="when", type="what", sku="item", quantity="amount", price="cost", user="who",
        types={"view": "click", "purchase": "order"},
    )  # fmt: skip
    events = EventFile.open(path, names).read()
    assert events.kind.tolist() == [0, 2] and events.quantity.tolist() == [1.0, 5.0]
    only = ColumnNames(time="when", sku="item", quantity="amount", only_type="order")
    assert EventFile.open(path, only).read().kind.tolist() == [2, 2]


def test_a_file_that_cannot_be_replayed_is_refused_with_what_it_has(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"ends in .parquet, .csv"):
        EventFile.open(tmp_path / "a.xlsx")
    with pytest.raises(ConfigurationError, match="missing"):
        EventFile.open(tmp_path / "missing.parquet")
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(ConfigurationError, match="torn"):
        EventFile.open(tmp_path / "torn.parquet")
    parquet.write_table(pa.table({"ts": [1.0], "kind": ["click"]}), tmp_path / "b.parquet")
    with pytest.raises(ConfigurationError, match="'sku', 'type'; the file has ts, kind"):
        EventFile.open(tmp_path / "b.parquet")
    parquet.write_table(pa.table(rows(1)), tmp_path / "c.parquet")
    with pytest.raises(ConfigurationError, match="'refund'"):
        EventFile.open(tmp_path / "c.parquet", ColumnNames(types={"x": "refund"}))


def test_what_a_row_lacks_its_record_lacks(tmp_path: Path) -> None:
    file = parquet_file(
        tmp_path / "a.parquet",
        ts=[START_S] * 5,
        type=["cart", "cart", "order", "order", "click"],
        sku=["a"] * 5,
        user=["u", None, "u", "u", "u"],
        price=[1.0, 1.0, None, float("nan"), 2.0],
        qty=[None, 2.0, 2.5, 1.0, None],
        order_id=[None, None, "o", None, "ignored"],
    )
    events = file.read()
    digest = file.digest()
    assert events.usable.tolist() == [False, False, False, False, True]
    records = [json.loads(value) for _, (_, value) in keyed_records(events, digest)]
    assert "quantity" not in records[0]
    assert "user_id" not in records[1] and records[1]["quantity"] == 2
    assert "price_cents" not in records[2] and records[2]["quantity"] == 2.5
    assert records[2]["order_id"] == "o" and "price_cents" not in records[3]
    assert records[4] == {
        "event_id": f"{digest}-4", "sku": "a", "user_id": "u", "event_time_ms": START_S * 1000,
        "price_cents": 200,
    }  # fmt: skip
    assert len({record["event_id"] for record in records}) == 5


def test_the_look_over_counts_what_is_doubtful(tmp_path: Path) -> None:
    times: list[float | None] = [START_S + second for second in range(2_000)]
    times[500] = START_S - 400 * DAY_S  # long before all others
    times[600] = 2 * START_S  # in the future
    times[700] = 12.0  # no real time
    times[800] = None
    times[900], times[901] = times[901], times[900]
    file = parquet_file(tmp_path / "a.parquet", **rows(2_000, ts=times))
    found = look_over(file.read(), NOW_MS, 5_000)
    assert found.rows == 2_000 and found.kinds == {"click": 2_000, "cart": 0, "order": 0}
    assert found.without_time == 1 and found.in_the_future == 1 and found.too_small_times == 1
    assert [count for count, _, _ in found.far_off] == [2, 1]
    assert found.out_of_order == 1_399  # all after the one in the future, and the one before it
    assert found.outlying


def test_a_clean_file_has_nothing_outlying(tmp_path: Path) -> None:
    found = look_over(parquet_file(tmp_path / "a.parquet", **rows(2_000)).read(), NOW_MS, 5_000)
    assert not found.outlying and found.out_of_order == found.incomplete == 0
    assert (found.first_ms, found.last_ms) == (START_S * 1000, (START_S + 1_999) * 1000)


def test_a_speed_spreads_the_events_over_the_wall_clock() -> None:
    times = np.asarray([0, 10, 1_000, 1_001, 60_000, 61_000]) + START_S * 1000
    chunks = list(_chunks(times, speed=10.0))
    assert [(begin, end) for begin, end, _ in chunks] == [(0, 4), (4, 6)]
    assert [due for _, _, due in chunks] == [0.0, 6.0]
    assert list(_chunks(times, speed=None)) == [(0, 6, 0.0)]
    assert list(_chunks(times[:0], speed=1.0)) == []


def test_an_empty_file_has_nothing_to_publish(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    columns = {name: pa.array([], pa.string()) for name in ("type", "sku", "user")}
    table = pa.table({"ts": pa.array([], pa.float64()), **columns})
    parquet.write_table(table, tmp_path / "a.parquet")
    assert run_replay(load(), tmp_path / "a.parquet", dry_run=True, json_output=True) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["published"] == {"clicks": 0, "carts": 0, "orders": 0}


def test_rows_without_time_sku_or_known_type_are_skipped_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    columns = rows(
        5, ts=[START_S, None, START_S, START_S, START_S], sku=["a", "a", None, "", "a"],
        type=["click", "click", "click", "click", "refund"],
    )  # fmt: skip
    file = parquet_file(tmp_path / "a.parquet", **columns)
    assert run_replay(load(), file.path, dry_run=True, json_output=True) == 0
    said = capsys.readouterr()
    report = json.loads(said.out)
    assert report["published"]["clicks"] == 1 and report["skipped"] == 4
    assert "no click, cart or order" in said.err and "have no time" in said.err
