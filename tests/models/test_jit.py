"""Without numba everything runs, slower, and says so."""

import subprocess
import sys

from models.jit import COMPILED

SCRIPT = """
import sys, warnings
sys.modules["numba"] = None
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    from models import jit
assert "numba is not installed" in str(said[0].message)
assert not jit.COMPILED
warnings.simplefilter("error", RuntimeWarning)
from tests.streams.test_partitioner import KAFKA_CASES
from streams.partitioner import partition_of
for key, hashed in KAFKA_CASES:
    assert partition_of(key, 1_000, "murmur2") == (hashed & 0x7FFFFFFF) % 1_000
from tests.streams.test_windows_exact import Shell, check
for seed in range(4):
    shell = Shell(seed, exactly_once=seed % 2 == 0)
    for _ in range(60):
        shell.act()
    shell.finish()
    check(shell)
print("exact")
"""


def test_kernels_run_without_numba_with_the_same_results() -> None:
    assert COMPILED, "the tests are meant to run with numba; this one does without in a child"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120
    )
    assert done.stdout == "exact\n", done.stderr
