"""What the sum over partitions takes from the topic of shares."""

import msgspec
import pytest

from streams.capacity_sum import read_share
from streams.records import CapacityShare

SHARE = CapacityShare(
    partition=1,
    bucket_start_ms=1_700_000_000_000,
    bucket_ms=10_000,
    observed=[3, 2, 1],
    horizons_ms=[60_000],
    mean_per_s=[[1.0, 0.5, 0.1]],
    variance_per_s2=[[1.0, 0.5, 0.1]],
    model_version="none",
)


def test_a_share_is_read_as_it_was_written() -> None:
    assert read_share(msgspec.json.encode(SHARE), 1) == SHARE


@pytest.mark.parametrize("value", [None, b"", b"{", b"[]", b"\xff", b'{"partition":1}'])
def test_what_is_no_share_is_left_out(value: bytes | None) -> None:
    assert read_share(value, 1) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"partition": 0},
        {"bucket_ms": 0},
        {"bucket_start_ms": 2**60},
        {"observed": [1, 2]},
        {"observed": [-1, 2, 3]},
        {"horizons_ms": [60_000, 60_000], "mean_per_s": [[1.0] * 3] * 2},
        {"horizons_ms": [0]},
        {"mean_per_s": [[1.0, 2.0]]},
        {"mean_per_s": [[1e300, 0.0, 0.0]]},
        {"variance_per_s2": []},
        {"variance_per_s2": [[-1.0, 0.0, 0.0]]},
        {"nested": [[]] * 3},
    ],
)
def test_a_share_that_nobody_could_add_up_is_left_out(changes: dict[str, object]) -> None:
    told = msgspec.to_builtins(SHARE) | changes
    accepted = "nested" in changes  # a field that nobody knows
    assert (read_share(msgspec.json.encode(told), 1) is not None) == accepted


def test_a_share_nested_without_end_is_left_out() -> None:
    assert read_share(b'{"partition":1,"x":' + b"[" * 100_000, 1) is None
