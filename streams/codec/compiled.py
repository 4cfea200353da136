"""How kernels are compiled: without Python objects or the interpreter lock, kept on disk."""

import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple, ParamSpec, TypeVar, cast

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.core.caching import FunctionCache
from numba.extending import intrinsic

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


class Memory(NamedTuple):
    """The bytes of an array, for parts of kernels: an array itself would be counted as held and
    released, atomically, at every call. Whoever makes one holds the array.
    """

    address: int
    size: int


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """A kernel that Python calls; compiled at its first call and kept on disk."""
    dispatcher = njit(nogil=True, error_model="numpy")(function)
    # With nowhere to write, as in a container with a read-only disk, it is compiled at every start.
    with contextlib.suppress(RuntimeError):
        dispatcher._cache = _Cache(function)
    return cast(Callable[P, R], dispatcher)


def apart(function: Callable[P, R]) -> Callable[P, R]:
    """A part of kernels that they call: for what is seldom wanted, out of the hot code's way."""
    return cast(Callable[P, R], njit(nogil=True, error_model="numpy")(function))


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """A part of kernels; its code becomes part of theirs."""
    return cast(Callable[P, R], njit(nogil=True, error_model="numpy", forceinline=True)(function))


@intrinsic  # type: ignore[untyped-decorator]
def _byte(typing: Any, memory: Any, at: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(builder, args, ir.IntType(8))
        return builder.zext(builder.load(pointer), ir.IntType(64))

    return types.int64(memory, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def _word(typing: Any, memory: Any, at: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_pointer(builder, args, ir.IntType(64)), align=1)

    return types.uint64(memory, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def _put_byte(typing: Any, memory: Any, at: Any, number: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        low = builder.trunc(args[2], ir.IntType(8))
        builder.store(low, _pointer(builder, args, ir.IntType(8)))
        return context.get_dummy_value()

    return types.none(memory, types.int64, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def _put_word(typing: Any, memory: Any, at: Any, number: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[2], _pointer(builder, args, ir.IntType(64)), align=1)
        return context.get_dummy_value()

    return types.none(memory, types.int64, types.uint64), generate


@intrinsic  # type: ignore[untyped-decorator]
def _zeros(typing: Any, word: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


@inlined
def signed(number: np.integer[Any]) -> int:
    """As a signed word: arithmetic of signed and unsigned ones would be in floats."""
    return np.int64(number)  # type: ignore[return-value]


def _pointer(builder: Any, args: Any, item: Any) -> Any:
    """To `item` at the place args[1] of the Memory args[0]."""
    address = builder.add(builder.extract_value(args[0], 0), args[1])
    return builder.inttoptr(address, item.as_pointer())


# No access is checked: the caller shows that [at, at + 1) or [at, at + 8) is inside.
byte = cast("Callable[[Memory, int], int]", _byte)
word = cast("Callable[[Memory, int], np.uint64]", _word)  # 8 bytes, little endian
put_byte = cast("Callable[[Memory, int, int], None]", _put_byte)
put_word = cast("Callable[[Memory, int, np.uint64], None]", _put_word)
trailing_zeros = cast("Callable[[np.uint64], int]", _zeros)  # of a word that is not 0
