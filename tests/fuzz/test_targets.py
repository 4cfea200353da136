"""Good inputs damaged in many ways: nothing but our own errors, within bounded time.

The coverage-guided fuzzer (`make fuzz`) runs the same targets for as long as one likes; what it has
found lies in `corpus` and is tried again here.
"""

import random
import sys
import time

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from numba.core.registry import CPUDispatcher

from tests.fuzz.kernels import kernels
from tests.fuzz.targets import CORPUS, TARGETS

SEED = 20261128
SECONDS_MAX = 30.0  # of one input, on a machine under load
HEAVY = ("checkpoint_marker", "state_row", "model_card", "model_weights", "event_lines")
PIECES = [
    b"\x00", b"\xff", b"\x80", b"\xc3", b'"', b"\\", b"\\ud800", b"{", b"}", b"[" * 70, b"]",
    b":", b",", b"-0", b"1e400", b"1.5", b"null", b"true", b"NaN", b"9223372036854775808",
    b"-9223372036854775809", b"18446744073709551616", b"9" * 400,
    b"\x7f\xff\xff\xff\xff\xff\xff\xff",
]  # fmt: skip


def damaged(data: bytes, rng: random.Random) -> bytes:
    """`data` with one to four changes."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(out) + 1)
        match rng.randrange(5):
            case 0 if at < len(out):
                out[at] ^= 1 << rng.randrange(8)
            case 1:
                out[at : at + rng.choice((0, 1, 8))] = rng.choice(PIECES)
            case 2:
                del out[at : at + rng.randint(1, 20)]
            case 3:
                start = rng.randrange(len(out) + 1)
                out[at:at] = out[start : start + rng.randint(1, 40)]
            case _:
                del out[rng.randrange(len(out) + 1) :]
    return bytes(out)


@pytest.mark.parametrize("name", TARGETS)
def test_good_inputs_damaged_are_read_or_refused(name: str) -> None:
    target = TARGETS[name]

    @seed(SEED)
    @settings(
        max_examples=60 if name in HEAVY else 400,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.sampled_from(target.seeds), st.integers(0, 2**32))
    def attempt(good: bytes, number: int) -> None:
        data = damaged(good, random.Random(number))
        began = time.monotonic()
        target(data)
        assert time.monotonic() - began < SECONDS_MAX

    print("seed", SEED)
    attempt()


@pytest.mark.parametrize("name", TARGETS)
def test_good_inputs_are_good(name: str) -> None:
    for good in TARGETS[name].seeds:
        if name != "model_weights":  # a head of the file, which is refused
            TARGETS[name].run(good)


@pytest.mark.parametrize(
    "path", sorted(CORPUS.glob("*/*")), ids=lambda path: f"{path.parent.name}/{path.name}"
)
def test_what_was_found_once_is_read_or_refused(path: object) -> None:
    TARGETS[path.parent.name](path.read_bytes())  # type: ignore[attr-defined]


def test_every_kernel_is_found_that_must_not_be_instrumented() -> None:
    compiled = {
        name
        for name, module in list(sys.modules.items())
        if name.startswith(("streams.", "models."))
        for item in vars(module).values()
        if isinstance(item, CPUDispatcher) and item.py_func.__module__ == name
    }
    assert "streams.codec.kernel" in compiled
    assert compiled <= set(kernels())
