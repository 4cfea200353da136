"""How kernels are compiled: without Python objects or the interpreter lock, kept on disk."""

import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar, cast

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.core.caching import FunctionCache
from numba.extending import intrinsic

from streams.codec.columns import Bytes

P = ParamSpec("P")
R = TypeVar("R")


def _digest() -> str:
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()


_SOURCES: Final = _digest()


class _Cache(FunctionCache):  # type: ignore[misc]
    """Numba's cache, which looks at a kernel's own file alone, made to see all that it calls."""

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        return (super()._index_key(sig, codegen), _SOURCES)


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """A kernel that Python calls; compiled at its first call and kept on disk."""
    dispatcher = njit(nogil=True, error_model="numpy")(function)
    # With nowhere to write, as in a container with a read-only disk, it is compiled at every start.
    with contextlib.suppress(RuntimeError):
        dispatcher._cache = _Cache(function)
    return cast(Callable[P, R], dispatcher)


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """A part of kernels; its code becomes part of theirs."""
    return cast(Callable[P, R], njit(nogil=True, error_model="numpy", forceinline=True)(function))


@intrinsic  # type: ignore[untyped-decorator]
def _byte(typing: Any, array: Any, at: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, signature, args)
        return builder.zext(builder.load(pointer), ir.IntType(64))

    return types.int64(array, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def _word(typing: Any, array: Any, at: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, signature, args)
        word = ir.IntType(64)
        return builder.load(builder.bitcast(pointer, word.as_pointer()), align=1)

    return types.uint64(array, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def _zeros(typing: Any, word: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


@inlined
def signed(number: np.uint64) -> int:
    """The bits of an unsigned word as a signed one: mixed arithmetic would be in floats."""
    return np.int64(number)  # type: ignore[return-value]


def _pointer(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    array = context.make_array(signature.args[0])(context, builder, args[0])
    return builder.gep(array.data, [args[1]])


# The memory read is not checked: the caller shows that [at, at + 1) or [at, at + 8) is inside.
byte = cast("Callable[[Bytes, int], int]", _byte)
word = cast("Callable[[Bytes, int], np.uint64]", _word)  # 8 bytes, little endian
trailing_zeros = cast("Callable[[np.uint64], int]", _zeros)  # of a word that is not 0
