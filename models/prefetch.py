"""A hint to the processor, for kernels that meet the rows of a large table in any order.

Each row that is in no cache costs a wait for memory, of the order of a hundred nanoseconds; asked
for some rows ahead, those waits overlap with the work on the rows between. (Kernels kept on disk
do not notice a change here, see jit.py: it alters no answer.)
"""

from collections.abc import Callable
from typing import Any, Final, cast

import numpy as np

from models.jit import COMPILED

if COMPILED:
    import numba
    from llvmlite import ir  # type: ignore[import-untyped]
    from numba.core import cgutils, types
    from numba.extending import intrinsic

AHEAD: Final = 8  # rows: from 4 to 40 it made no difference


def _do_nothing(table: Any, row: np.uint64) -> None:
    """Where kernels run as plain Python."""


def _hint() -> Callable[[Any, np.uint64], None]:
    @intrinsic  # type: ignore[untyped-decorator]
    def begin_to_read(typing: Any, table: Any, row: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            array = context.make_array(signature.args[0])(context, builder, args[0])
            stride = cgutils.unpack_tuple(builder, array.strides)[0]
            begin = builder.ptrtoint(array.data, cgutils.intp_t)
            address = builder.add(begin, builder.mul(args[1], stride))
            pointer = builder.inttoptr(address, cgutils.voidptr_t)
            kind = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, *3 * [cgutils.int32_t]])
            instruction = builder.module.declare_intrinsic(
                "llvm.prefetch", [cgutils.voidptr_t], kind
            )
            how = [ir.Constant(cgutils.int32_t, of) for of in (0, 3, 1)]  # read, keep, data
            builder.call(instruction, [pointer, *how])
            return context.get_dummy_value()

        return types.none(table, types.uint64), generate

    return cast(Callable[[Any, np.uint64], None], begin_to_read)


# prefetch(table, row): `table[row]` will soon be read. A row that does not exist does no harm.
prefetch = _hint() if COMPILED and not numba.config.DISABLE_JIT else _do_nothing
