"""A small vector library: what a processor does with 4, 8 or 16 numbers at a time, by name.

A register holds a row of numbers, its lanes, and one instruction works on all of them. A compiler
that is given plain loops finds such code by luck; here a kernel says what it wants. It is written
as if vectors were numbers:

    a = load(x, at)                       LANES neighbours of a flat array
    b = load(x, at + row)
    store(fma(2.0, a, b), out, to)        2 * a + b, rounded once
    kept(a, b)                            a, but 0 where b <= 0

`fma`, `+`, `-` and `*` take vectors, and beside one of them numbers, which fill all lanes. Whatever
is not changed by the lanes' order is done for all of them; nothing here adds lanes up, so a sum
over pixels keeps one sum a channel, in the order in which the pixels come, and its bits do not
depend on the width.

`will_read` and `will_write` ask for the line of memory in which a number lies, and go on: when the
kernel comes to it some microseconds later, it is in the second-level cache.

A vector lives in a register and cannot be indexed or returned to Python. Where Numba is switched
off the same kernels run as Python: then a vector is a NumPy array of LANES numbers, which every
operation here takes as it is.

The width is that of the processor that Numba compiles for: 64 bytes with AVX-512, 32 with AVX,
16 elsewhere (SSE, NEON). NUMBA_CPU_NAME and NUMBA_CPU_FEATURES name another one.
"""

import operator
import platform
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.datamodel import models
from numba.extending import intrinsic, overload, register_model


def _features() -> set[str]:
    """Return the names of what the processor can do that Numba compiles for."""
    if numba.config.CPU_FEATURES is not None:
        named = str(numba.config.CPU_FEATURES).split(",")
        return {name[1:] for name in named if name.startswith("+")}
    if numba.config.CPU_NAME not in (None, "host"):
        return set()  # Numba then assumes none either
    return {name for name, there in llvm.get_host_cpu_features().items() if there}


FEATURES = _features()
ARM = platform.machine().lower() in ("arm64", "aarch64")
BYTES = 64 if "avx512f" in FEATURES else 32 if "avx" in FEATURES else 16
LINE = 64  # bytes of a line of the cache
REGISTERS = 32 if BYTES == 64 or ARM else 16
FUSED = ARM or "fma" in FEATURES  # whether a product and a sum are one instruction
INDEX = ir.IntType(64)


def lanes_of(dtype: np.dtype[Any]) -> int:
    """Return how many numbers of a dtype a vector holds."""
    return BYTES // dtype.itemsize


@overload(lanes_of)
def _lanes_of(dtype):
    lanes = BYTES * 8 // dtype.dtype.bitwidth
    return lambda dtype: lanes


class Vector(types.Type):
    """Numba's type of a register full of numbers."""

    def __init__(self, dtype: Any) -> None:
        self.dtype, self.lanes = dtype, BYTES * 8 // dtype.bitwidth
        super().__init__(name=f"Vector({dtype}, {self.lanes})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Vector) -> None:
        number = ir.FloatType() if kind.dtype.bitwidth == 32 else ir.DoubleType()
        super().__init__(manager, kind, ir.VectorType(number, kind.lanes))


def place(context, builder, kind, array, at):
    """Return the address of a number of an array."""
    return builder.gep(context.make_array(kind)(context, builder, array).data, [at])


def spread(builder, number, vector):
    """Return a vector of an LLVM type with a number in all lanes."""
    nothing, lane = ir.Constant(vector, ir.Undefined), ir.IntType(32)
    first = builder.insert_element(nothing, number, ir.Constant(lane, 0))
    same = ir.Constant(ir.VectorType(lane, vector.count), [0] * vector.count)
    return builder.shuffle_vector(first, nothing, same)


def multiply_add(builder, a, b, c):
    """Return a * b + c of LLVM vectors."""
    if not FUSED:
        return builder.fadd(builder.fmul(a, b), c)
    vector = a.type
    bits = 32 if isinstance(vector.element, ir.FloatType) else 64
    name = f"llvm.fma.v{vector.count}f{bits}"
    kind = ir.FunctionType(vector, [vector] * 3)
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [a, b, c])


@intrinsic
def _load(typingctx, array, at):
    vector = Vector(array.dtype)

    def codegen(context, builder, signature, args):
        begin = place(context, builder, signature.args[0], *args)
        kind = context.get_data_type(vector).as_pointer()
        return builder.load(builder.bitcast(begin, kind), align=array.dtype.bitwidth // 8)

    return vector(array, types.intp), codegen


@intrinsic
def _store(typingctx, vector, array, at):
    def codegen(context, builder, signature, args):
        begin = place(context, builder, signature.args[1], *args[1:])
        kind = args[0].type.as_pointer()
        builder.store(args[0], builder.bitcast(begin, kind), align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(vector, array, types.intp), codegen


def _fetch(writes: bool) -> Any:
    """Return an intrinsic that asks for a line of memory."""

    def fetch(typingctx, array, at):
        def codegen(context, builder, signature, args):
            begin = place(context, builder, signature.args[0], *args)
            byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
            kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
            function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
            how = (int(writes), 2, 1)  # into the second-level cache; data, not instructions
            hints = [ir.Constant(number, one) for one in how]
            builder.call(function, [builder.bitcast(begin, byte), *hints])
            return context.get_dummy_value()

        return types.void(array, types.intp), codegen

    return intrinsic(fetch)


def _operation(emit: Callable[..., Any], count: int) -> Any:
    """Return an intrinsic of so many vectors or numbers, at least one of them a vector."""

    def typed(arguments):
        vector = next(kind for kind in arguments if isinstance(kind, Vector))

        def codegen(context, builder, signature, args):
            wide = context.get_data_type(vector)

            def as_vector(kind, value):
                if isinstance(kind, Vector):
                    return value
                return spread(builder, context.cast(builder, value, kind, vector.dtype), wide)

            return emit(builder, *map(as_vector, signature.args, args))

        return vector(*arguments), codegen

    if count == 2:
        return intrinsic(lambda typingctx, a, b: typed((a, b)))
    return intrinsic(lambda typingctx, a, b, c: typed((a, b, c)))


@intrinsic
def _filled(typingctx, number, like):
    vector = Vector(like.dtype)

    def codegen(context, builder, signature, args):
        value = context.cast(builder, args[0], signature.args[0], vector.dtype)
        return spread(builder, value, context.get_data_type(vector))

    return vector(number, like), codegen


def _nonpositive(builder, test, value, other):
    """Return other where test <= 0, else value, also where test is NaN."""
    zero = ir.Constant(test.type, [0.0] * test.type.count)
    return builder.select(builder.fcmp_ordered("<=", test, zero), other, value)


def _cut(builder, value, test):
    zero = ir.Constant(value.type, [0.0] * value.type.count)
    return _nonpositive(builder, test, value, zero)


_fma, _kept = _operation(multiply_add, 3), _operation(_cut, 2)


def _overload(operation: Any, emit: str) -> None:
    """Let an operator of Python take vectors."""
    vectors = _operation(lambda builder, a, b: getattr(builder, emit)(a, b), 2)

    @overload(operation)
    def choose(a, b):
        if isinstance(a, Vector) or isinstance(b, Vector):
            return lambda a, b: vectors(a, b)
        return None


_overload(operator.add, "fadd")
_overload(operator.sub, "fsub")
_overload(operator.mul, "fmul")


def load_lanes(array, at):
    """Return a copy of a vector's lanes: the specification of `load`."""
    return array[at : at + lanes_of(array.dtype)].copy()


def store_lanes(vector, array, at):
    """Write a vector's lanes: the specification of `store`."""
    array[at : at + lanes_of(array.dtype)] = vector


def filled_lanes(number, like):
    """Return a vector with a number in all lanes: the specification of `filled`."""
    return np.full(lanes_of(like.dtype), number, like.dtype)


def fma_lanes(a, b, c):
    """Return a * b + c: the specification of `fma`, but for the rounding of the product."""
    return a * b + c


def kept_lanes(value, test):
    """Return value, and 0 where test <= 0, so that NaN stays: the specification of `kept`."""
    return np.where(test <= 0, np.zeros_like(value), value)


def fetch_nothing(array, at):
    """Do nothing: the specification of `will_read` and `will_write`, which only save time."""


AS_LOOPS = bool(numba.config.DISABLE_JIT)
filled = filled_lanes if AS_LOOPS else _filled
load = load_lanes if AS_LOOPS else _load
store = store_lanes if AS_LOOPS else _store
fma = fma_lanes if AS_LOOPS else _fma
kept = kept_lanes if AS_LOOPS else _kept
will_read = fetch_nothing if AS_LOOPS else _fetch(writes=False)
will_write = fetch_nothing if AS_LOOPS else _fetch(writes=True)
