"""State with right checksums and hostile content: refused, before any kernel sees it."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest

from models.forecaster import Forecaster
from streams import topics
from streams.checkpoint import Restored
from streams.errors import StateError
from streams.pipeline import ROW_VERSION, Pipeline
from streams.settings import load
from streams.state.marker import Marker
from streams.state.snapshot import RowSchema
from streams.watermark import Cut
from tests.streams.harness import HASH_KEY, NOW_MS, Core, Log, event, nothing_restored

SETTINGS = load(clock="event", partitions=1)
FORECASTER = Forecaster.load(None, "cpu")


def honest() -> Restored:
    """A checkpoint of two SKUs, with open and closed buckets, forecasts and decisions."""
    core = Core(SETTINGS, Log(), FORECASTER)
    for step in range(12):
        for kind, topic in enumerate(topics.EVENT_TOPICS):
            at_ms = NOW_MS + step * 10_000
            core.log.add(
                topic,
                *(
                    event(100 * step + 10 * kind + sku, f"S{sku}", at_ms, quantity=kind and 2)
                    for sku in range(2)
                ),
            )
            core.feed(topic)
        core.run()
    core.checkpoint()
    assert core.marker is not None
    return replace(
        nothing_restored(),
        marker=core.marker,
        names=list(core.rows),
        rows=np.stack(list(core.rows.values())),
        history=[record.value for record in core.outputs[topics.DEMAND_WINDOWS]],
    )


HONEST = honest()


def opened(restored: Restored) -> Pipeline:
    return Pipeline(SETTINGS, 0, 1, FORECASTER, restored, HASH_KEY)


def with_field(name: str, change: Callable[[np.ndarray], None]) -> Restored:
    """The checkpoint with one field of its first row changed, packed again with its checksum."""
    pipeline = opened(nothing_restored())
    schema = RowSchema(ROW_VERSION, pipeline._gather(np.zeros(0, np.int64)))
    fields = schema.unpack(HONEST.rows)
    change(fields[name][0:1])
    return replace(HONEST, rows=schema.pack(fields))


def with_core(change: Callable[[dict[str, Any]], None]) -> Restored:
    assert HONEST.marker is not None
    core = copy.deepcopy(HONEST.marker.core)
    change(core)
    marker = Marker(
        HONEST.marker.version, 0, HONEST.marker.offsets, HONEST.marker.history_offset, core
    )
    return replace(HONEST, marker=marker)


HARMLESS = [(("decider", "counts"), {"a": 1}), (("season", "filling"), 1.5)]


def put(value: Any) -> Callable[[np.ndarray], None]:
    def change(array: np.ndarray) -> None:
        array[...] = value

    return change


def test_an_honest_checkpoint_is_restored() -> None:
    pipeline = opened(HONEST)
    assert len(pipeline.skus) == 2
    assert pipeline.decider.counts["forecast_state_lost"] == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("open_bucket", -1),
        ("open_bucket", 1),
        ("open_bucket", 2**62),
        ("open_events", 0),
        ("open_units", -1),
        ("open_units", 2**62),
        ("open_revenue_cents", -(2**63)),
        ("open_price_sum", 2**63 - 1),
        ("stamps", -2),
        ("stamps", 2**63 - 1),
        ("last_bucket", 2**63 - 1),
        ("last_bucket", -(2**63)),
        ("stock_sold", -1),
        ("stock_as_of_ms", 2**63 - 1),
        ("restock_origin_ms", -1),
        ("restock_quantity", 2**63 - 1),
        ("price_set_cents", -5),
        ("price_changed_ms", 2**62),
        ("price_information", np.nan),
        ("price_score", np.inf),
        ("price_pending", -np.inf),
        ("shown_cents", 2**40),
        ("shown_at_ms", -1),
    ],
)
def test_a_row_that_no_checkpoint_could_have_made_is_refused_by_sku_and_field(
    field: str, value: Any
) -> None:
    with pytest.raises(StateError, match=rf"the row of SKU 'S0' has {field}|has open_"):
        opened(with_field(field, put(value)))


def test_a_cell_that_lies_where_another_bucket_belongs_is_refused() -> None:
    def shift(array: np.ndarray) -> None:
        array += array > 0

    with pytest.raises(StateError, match="open_bucket"):
        opened(with_field("open_bucket", shift))


def test_a_byte_that_is_no_truth_value_is_refused() -> None:
    def change(array: np.ndarray) -> None:
        array.view(np.uint8)[...] = 255

    with pytest.raises(StateError, match="active = 255, no truth value"):
        opened(with_field("active", change))


def test_hostile_numbers_in_the_forecasters_memory_make_it_begin_anew() -> None:
    memory = opened(HONEST).memory
    assert memory is not None
    rows = np.arange(2)
    schema = RowSchema(1, memory.gather(rows[:0]))
    for name, value in [("level_sums", np.nan), ("due_ms", 2**62), ("steps", -1), ("hidden", 9e99)]:
        fields = memory.gather(rows)
        with np.errstate(over="ignore"):
            fields[name][0] = value
        packed = schema.pack(fields)
        pipeline = opened(with_field("forecast_memory", put(_padded(packed[0]))))
        assert pipeline.decider.counts["forecast_state_lost"] == 1
        assert pipeline.memory is not None
        assert pipeline.memory.steps[:2].tolist() == [0, memory.steps[1]], name


def _padded(packed: np.ndarray) -> np.ndarray:
    return np.concatenate([packed, np.zeros(512 - len(packed), np.uint8)])


@pytest.mark.parametrize(
    "name", [b"", b"x" * 129, b"x" * 10**6, b"\xff", b"\0marker"], ids=lambda name: repr(name[:9])
)
def test_a_row_whose_key_is_no_sku_is_refused(name: bytes) -> None:
    with pytest.raises(StateError, match="which is no SKU"):
        opened(replace(HONEST, names=[HONEST.names[0], name]))


@pytest.mark.parametrize(
    "path",
    [
        ("windows",),
        ("windows", "closed_through_ms"),
        ("windows", "topics"),
        ("windows", "topics", 0),
        ("windows", "topics", 0, "position"),
        ("windows", "topics", 1, "cut_ms"),
        ("windows", "topics", 2, "max_event_time_ms"),
        ("windows", "counts"),
        ("decider", "origins", "next_ms"),
        ("decider", "origins", "last_ms"),
        ("decider", "load"),
        ("decider", "load", "known"),
        ("decider", "load", "mean"),
        ("decider", "load", "variance"),
        ("decider", "counts"),
        ("decider", "memory"),
        ("decider", "memory", "bucket_ms"),
        ("decider", "memory", "sale", "sums"),
        ("decider", "memory", "sale", "exposure"),
        ("decider", "memory", "sale", "last_bucket_ms"),
        ("decider", "memory", "season", "hours"),
        ("decider", "memory", "season", "filling"),
        ("decider", "memory", "common", "squared"),
        ("decider", "memory", "common", "open"),
        ("decider", "memory", "calibration", "state"),
        ("decider", "memory", "calibration", "seen"),
        ("counts",),
        ("history",),
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "value", ["text", -(2**70), 2**70, [[1]], [2**62, -5], {"a": 1}, 1.5], ids=str
)
def test_a_marker_that_no_checkpoint_could_have_written_is_refused(
    path: tuple[str | int, ...], value: Any
) -> None:
    def change(core: dict[str, Any]) -> None:
        inner: Any = core
        for step in path[:-1]:
            inner = inner[step]
        inner[path[-1]] = value

    if (path[-2:], value) in HARMLESS:
        opened(with_core(change))
        return
    with pytest.raises(StateError):
        opened(with_core(change))


def test_every_part_of_a_marker_is_missed_when_it_is_not_there() -> None:
    assert HONEST.marker is not None
    for part in ("windows", "decider"):
        for name in HONEST.marker.core[part].keys() - {"model_version"}:
            with pytest.raises(StateError):
                opened(with_core(lambda core, part=part, name=name: core[part].pop(name)))  # type: ignore[misc]


@pytest.mark.parametrize("value", [b"{", b"\xff", b"[" * 100_000, b'{"topic":"clicks"}'])
def test_a_cut_that_cannot_be_read_is_refused(value: bytes) -> None:
    with pytest.raises(StateError, match="a cut in the changelog"):
        opened(replace(HONEST, cuts=[(b"\0cut|clicks|5", value)]))


@pytest.mark.parametrize(("position", "through_ms"), [(-1, 5), (2**63, 5), (5, -1), (5, 2**60)])
def test_a_cut_to_where_no_event_can_be_is_refused(position: int, through_ms: int) -> None:
    value = msgspec.json.encode({"topic": "clicks", "position": position, "through_ms": through_ms})
    with pytest.raises(StateError):
        Cut.decode(value)


def test_what_is_no_window_in_the_history_is_passed_over() -> None:
    window = msgspec.json.decode(HONEST.history[-1])
    hostile = [
        b"",
        b"\xff",
        b"[" * 100_000,
        msgspec.json.encode(window | {"units": 2**64 - 1}),
        msgspec.json.encode(window | {"units": -1}),
        msgspec.json.encode(window | {"sku": "é" * 128}),
        msgspec.json.encode(window | {"sku": "\0marker"}),
        b'{"a":' * 100_000,
    ]
    several = opened(replace(HONEST, history=[*HONEST.history, *hostile]))
    one = opened(HONEST)
    rows = np.arange(2)
    assert len(several.skus) == 2
    for left, right in zip(
        several.windows.history.of(rows), one.windows.history.of(rows), strict=True
    ):
        np.testing.assert_array_equal(left, right)
