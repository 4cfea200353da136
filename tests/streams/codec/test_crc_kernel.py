"""The processor's CRC32C against aiokafka's."""

import numpy as np
import pytest
from aiokafka.record.util import calc_crc32c

from models.jit import COMPILED

if not COMPILED:
    pytest.skip("there is no compiler", allow_module_level=True)

from streams.codec.crc import crc32c
from streams.codec.crc_kernel import HAS_INSTRUCTION, checksums

pytestmark = pytest.mark.skipif(
    not HAS_INSTRUCTION, reason="this processor has no such instruction"
)


@pytest.mark.parametrize("width", [4, 5, 11, 12, 13, 19, 20, 983])
def test_every_row_has_the_checksum_that_the_library_finds(width: int) -> None:
    rows = np.random.default_rng(width).integers(0, 256, (50, width), np.uint8)
    expected = [calc_crc32c(row[4:].tobytes()) for row in rows]
    assert checksums(rows, 4).tolist() == expected


@pytest.mark.parametrize("size", [0, 1, 1_023, 1_024, 1_031, 100_000])
def test_of_a_batch_it_is_the_librarys(size: int) -> None:
    data = np.random.default_rng(size).integers(0, 256, size, np.uint8).tobytes()
    assert crc32c(data) == crc32c(memoryview(data)) == calc_crc32c(data)


def test_no_rows_have_no_checksums() -> None:
    assert checksums(np.zeros((0, 20), np.uint8), 4).tolist() == []
