"""Which modules numba compiles anything of: an instrumented function cannot be compiled."""

import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
COMPILED: Final = re.compile(r"^\s*@(njit|compiled|inlined|apart|intrinsic)\b", re.MULTILINE)


def kernels() -> list[str]:
    """The modules with anything in them that numba compiles."""
    sources = [*(ROOT / "streams").rglob("*.py"), *(ROOT / "models").rglob("*.py")]
    return [
        ".".join(source.relative_to(ROOT).with_suffix("").parts)
        for source in sources
        if COMPILED.search(source.read_text())
    ]
