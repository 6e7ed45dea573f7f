"""A small library of SIMD vectors for Numba kernels: 2 to 16 values in one register.

A register holds several values, its lanes, and one instruction computes all of them. Compilers do
not vectorise plain loops reliably, so kernels use vectors explicitly, with the syntax of scalars:

    a = load(x, at)                       x[at : at + lanes] of a flat array
    b = load(x, at + row)
    store(fma(2.0, a, b), out, to)        2 * a + b, rounded once
    where_positive(a, b)                  a, but 0 where b <= 0

`fma`, `+`, `-` and `*` take vectors, or vectors and scalars: a scalar is broadcast to all lanes.
All operations are elementwise and none adds lanes, so a sum over pixels is one sum per channel, in
the order of the pixels, and its bits do not depend on the vector width.

`prefetch_read` and `prefetch_write` request the cache line of an element without waiting for it:
when the kernel needs the element some microseconds later, it is in the L2 cache.

A vector is a register: it cannot be indexed or returned to Python. If Numba is disabled
(NUMBA_DISABLE_JIT=1), the same kernels run as Python, and a vector is a NumPy array of its lanes.

The width is that of the processor that Numba compiles for: 64 bytes with AVX-512, 32 with AVX,
16 elsewhere (SSE, NEON). NUMBA_CPU_NAME and NUMBA_CPU_FEATURES select another processor.
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
    """Return the feature names (avx, fma, …) of the processor that Numba compiles for."""
    if numba.config.CPU_FEATURES is not None:
        named = str(numba.config.CPU_FEATURES).split(",")
        return {name[1:] for name in named if name.startswith("+")}
    if numba.config.CPU_NAME not in (None, "host"):
        return set()  # as Numba assumes, too
    return {name for name, there in llvm.get_host_cpu_features().items() if there}


FEATURES = _features()
ARM = platform.machine().lower() in ("arm64", "aarch64")
VECTOR_BYTES = 64 if "avx512f" in FEATURES else 32 if "avx" in FEATURES else 16
CACHE_LINE_BYTES = 64
REGISTERS = 32 if VECTOR_BYTES == 64 or ARM else 16
HAS_FMA = ARM or "fma" in FEATURES  # fused multiply-add: a * b + c in one instruction
INDEX = ir.IntType(64)


def lanes_of(dtype: np.dtype[Any]) -> int:
    """Return the number of lanes of a vector of a dtype."""
    return VECTOR_BYTES // dtype.itemsize


@overload(lanes_of)
def _lanes_of(dtype):
    lanes = VECTOR_BYTES * 8 // dtype.dtype.bitwidth
    return lambda dtype: lanes


class Vector(types.Type):
    """The Numba type of a vector."""

    def __init__(self, dtype: Any) -> None:
        self.dtype, self.lanes = dtype, VECTOR_BYTES * 8 // dtype.bitwidth
        super().__init__(name=f"Vector({dtype}, {self.lanes})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Vector) -> None:
        number = ir.FloatType() if kind.dtype.bitwidth == 32 else ir.DoubleType()
        super().__init__(manager, kind, ir.VectorType(number, kind.lanes))


def element_pointer(context, builder, kind, array, at):
    """Return an LLVM pointer to array[at]."""
    return builder.gep(context.make_array(kind)(context, builder, array).data, [at])


def splat(builder, number, vector):
    """Return an LLVM vector with the scalar in all lanes."""
    nothing, lane = ir.Constant(vector, ir.Undefined), ir.IntType(32)
    first = builder.insert_element(nothing, number, ir.Constant(lane, 0))
    same = ir.Constant(ir.VectorType(lane, vector.count), [0] * vector.count)
    return builder.shuffle_vector(first, nothing, same)


def multiply_add(builder, a, b, c):
    """Return a * b + c of LLVM vectors, fused if the processor has FMA."""
    if not HAS_FMA:
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
        begin = element_pointer(context, builder, signature.args[0], *args)
        kind = context.get_data_type(vector).as_pointer()
        return builder.load(builder.bitcast(begin, kind), align=array.dtype.bitwidth // 8)

    return vector(array, types.intp), codegen


@intrinsic
def _store(typingctx, vector, array, at):
    def codegen(context, builder, signature, args):
        begin = element_pointer(context, builder, signature.args[1], *args[1:])
        kind = args[0].type.as_pointer()
        builder.store(args[0], builder.bitcast(begin, kind), align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(vector, array, types.intp), codegen


def _prefetch(writes: bool) -> Any:
    """Return an intrinsic that prefetches the cache line of array[at]."""

    def prefetch(typingctx, array, at):
        def codegen(context, builder, signature, args):
            begin = element_pointer(context, builder, signature.args[0], *args)
            byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
            kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
            function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
            flags = (int(writes), 2, 1)  # locality 2: the L2 cache; 1: data
            hints = [ir.Constant(number, flag) for flag in flags]
            builder.call(function, [builder.bitcast(begin, byte), *hints])
            return context.get_dummy_value()

        return types.void(array, types.intp), codegen

    return intrinsic(prefetch)


def _vector_intrinsic(emit: Callable[..., Any], count: int) -> Any:
    """Return an intrinsic of 2 or 3 (count) vectors or scalars, at least one of them a vector."""

    def typed(arguments):
        vector = next(kind for kind in arguments if isinstance(kind, Vector))

        def codegen(context, builder, signature, args):
            wide = context.get_data_type(vector)

            def as_vector(kind, value):
                if isinstance(kind, Vector):
                    return value
                return splat(builder, context.cast(builder, value, kind, vector.dtype), wide)

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
        return splat(builder, value, context.get_data_type(vector))

    return vector(number, like), codegen


def _select(builder, test, value, other):
    """Return `other` where test <= 0, and value elsewhere, also where test is NaN."""
    zero = ir.Constant(test.type, [0.0] * test.type.count)
    return builder.select(builder.fcmp_ordered("<=", test, zero), other, value)


def _mask(builder, value, test):
    zero = ir.Constant(value.type, [0.0] * value.type.count)
    return _select(builder, test, value, zero)


_fma, _where_positive = _vector_intrinsic(multiply_add, 3), _vector_intrinsic(_mask, 2)


def _overload(operation: Any, emit: str) -> None:
    """Define a Python operator for vectors by an LLVM instruction."""
    vectors = _vector_intrinsic(lambda builder, a, b: getattr(builder, emit)(a, b), 2)

    @overload(operation)
    def choose(a, b):
        if isinstance(a, Vector) or isinstance(b, Vector):
            return lambda a, b: vectors(a, b)
        return None


_overload(operator.add, "fadd")
_overload(operator.sub, "fsub")
_overload(operator.mul, "fmul")


def load_lanes(array, at):
    """Return a copy of array[at : at + lanes]: the specification of `load`."""
    return array[at : at + lanes_of(array.dtype)].copy()


def store_lanes(vector, array, at):
    """Set array[at : at + lanes] to the vector: the specification of `store`."""
    array[at : at + lanes_of(array.dtype)] = vector


def filled_lanes(number, like):
    """Return a vector with the scalar in all lanes: the specification of `filled`."""
    return np.full(lanes_of(like.dtype), number, like.dtype)


def fma_lanes(a, b, c):
    """Return a * b + c: the specification of `fma`, which may skip the rounding of the product."""
    return a * b + c


def where_positive_lanes(value, test):
    """Return value, but 0 where test <= 0 (not where NaN): the specification of where_positive."""
    return np.where(test <= 0, np.zeros_like(value), value)


def prefetch_noop(array, at):
    """Do nothing: the specification of both prefetches, which change no result."""


AS_LOOPS = bool(numba.config.DISABLE_JIT)
filled = filled_lanes if AS_LOOPS else _filled
load = load_lanes if AS_LOOPS else _load
store = store_lanes if AS_LOOPS else _store
fma = fma_lanes if AS_LOOPS else _fma
where_positive = where_positive_lanes if AS_LOOPS else _where_positive
prefetch_read = prefetch_noop if AS_LOOPS else _prefetch(writes=False)
prefetch_write = prefetch_noop if AS_LOOPS else _prefetch(writes=True)
