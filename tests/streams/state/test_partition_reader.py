"""Records read back for a restore are those that our own decoder finds."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.codec.batches import iter_records
from streams.codec.decode import Fetch
from streams.codec.write import encode_records
from streams.errors import CodecError
from streams.state.partition_reader import log_records

some_bytes = st.none() | st.binary(max_size=20)


@settings(deadline=None)
@given(st.lists(st.tuples(some_bytes, some_bytes), max_size=30), st.integers(0, 35))
def test_both_parsers_agree(records: list[tuple[bytes | None, bytes | None]], first: int) -> None:
    batches = encode_records(((key, value, []) for key, value in records), bytes_max=150)
    data, offset = b"", 0
    for batch in batches:
        data += batch.whole(offset, 1_700_000_000_000)
        offset += batch.count
    expected = [(one.offset, one.key, one.value) for one in iter_records(data, first)]
    assert log_records(Fetch("clicks", 0, first, offset, data)) == expected


def test_a_corrupt_record_is_named_by_its_place() -> None:
    (batch,) = encode_records([(b"key", b"value", [])])
    data = bytearray(batch.whole(7, 1_700_000_000_000))
    data[61:63] = b"\xff\xff"
    with pytest.raises(CodecError, match="clicks/3 at offset 7"):
        log_records(Fetch("clicks", 3, 7, 8, bytes(data)))
