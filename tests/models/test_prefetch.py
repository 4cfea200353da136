"""A hint that is compiled into the kernels, and changes nothing else."""

import numpy as np

from models.jit import njit
from models.prefetch import AHEAD, prefetch


@njit
def total(table: np.ndarray) -> int:
    """Of the first column, each row hinted at beforehand, and the last ones beyond the end."""
    sum_ = 0
    for row in range(len(table)):
        prefetch(table, np.uint64(row + AHEAD))
        sum_ += table[row, 0]
    return sum_


def test_a_hint_is_an_instruction_and_does_no_harm_beyond_the_table() -> None:
    table = np.arange(60).reshape(20, 3)
    assert total(table) == table[:, 0].sum()
    (code,) = total.inspect_llvm().values()
    assert "llvm.prefetch" in code
