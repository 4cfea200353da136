"""`python -m tests.fuzz.one TARGET FOLDER SECONDS SEED`: one target under libFuzzer, which ends the
process.

Run by run.py. What numba compiles is seen by its answers alone, for it cannot be instrumented; with
NUMBA_DISABLE_JIT=1 the kernels run as plain Python instead, their branches are seen, and every
access to memory is checked.
"""

import sys

import atheris
import numba
import numpy as np

from tests.fuzz.kernels import kernels

INTERPRETED = bool(numba.config.DISABLE_JIT)
TIMEOUT_S = 60 if INTERPRETED else 30
RSS_MB_MAX = 4_096
MEMORY = "streams.codec.compiled"  # intrinsics: never Python


def check_memory() -> None:
    """Before any kernel is imported: they take their access to memory from here."""
    import streams.codec.compiled as memory
    from tests.fuzz import checked_memory

    for name in ("byte", "word", "put_byte", "put_word", "trailing_zeros"):
        setattr(memory, name, getattr(checked_memory, name))


def main(name: str, folder: str, seconds: str, seed: str) -> None:
    if INTERPRETED:
        check_memory()
        np.seterr(all="ignore")  # as compiled: what is too large wraps, and x / 0 is no error
    unseen = [MEMORY] if INTERPRETED else kernels()
    with atheris.instrument_imports(include=["streams", "models"], exclude=unseen):
        from tests.fuzz.targets import TARGETS
    options = [
        f"-max_total_time={seconds}", f"-timeout={TIMEOUT_S}", f"-rss_limit_mb={RSS_MB_MAX}",
        "-max_len=65536", f"-seed={seed}", "-print_final_stats=1",
        f"-artifact_prefix={folder}/find-", folder,
    ]  # fmt: skip
    atheris.Setup([sys.argv[0], *options], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
