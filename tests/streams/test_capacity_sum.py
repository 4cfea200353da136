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
    assert read_share(msgspec.json.encode(SHARE)) == SHARE


@pytest.mark.parametrize("value", [None, b"", b"{", b"[]", b"\xff", b'{"partition":1}'])
def test_what_is_no_share_is_left_out(value: bytes | None) -> None:
    assert read_share(value) is None
