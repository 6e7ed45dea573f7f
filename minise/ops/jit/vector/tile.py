"""The vector micro-kernel of every convolution: a register tile of a matrix product.

A processor with 512-bit registers multiplies and adds vectors of 16 float32 values at once. It
reaches that speed only if the sums stay in registers over the whole inner loop, which compilers do
not reliably achieve with plain loops. So this kernel is written instruction by instruction:

    for r < ROWS, lane < vectors * lanes:   c[r, lane] += sum over s of a[r, s] * b[s, lane]

The sums stay in ROWS registers. Each step loads `vectors` vectors of b; for each row it broadcasts
one element of a to all lanes and multiplies it by every vector of b. With two vectors, on half of
the rows at a time, a step has 10 loads for 16 multiply-adds and keeps the multipliers busy
(measured on AVX-512: 260 GF/s on one core, the fastest of all variants); with one vector it has
about one load per multiply-add, and the multipliers sometimes wait (210 GF/s). One row in four has
its pointer in a register, and the next three rows are addressed relative to it: sixteen pointers
would not fit into the registers and would be reloaded in every step.

The steps s go through `runs` of `count` adjacent steps, such as the rows of a filter's window in an
image. a, b and c are flat arrays; a0, b0 and c0 are the indices of their first elements. Strides
are in elements: a_row and c_row from row to row, a_step and b_step from step to step, b_vector from
the first vector of b to the second. A row of c is `vectors` adjacent vectors.

`add_tile` adds to c, `set_tile` sets it. `add_tile_loops` and `set_tile_loops` do the same in plain
loops; they run if Numba is disabled.
"""

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from minise.ops.jit.compiler.compile import force_inlined
from minise.ops.jit.vector.simd import (
    AS_LOOPS,
    INDEX,
    REGISTERS,
    VECTOR_BYTES,
    element_pointer,
    multiply_add,
    splat,
)

ROWS = REGISTERS // 2  # half of the registers hold sums
ROWS_PER_POINTER = 4  # rows of a that share a pointer register
UNROLL = {1: 4, 2: 1 if REGISTERS == 32 else 4}  # steps per iteration, by the number of vectors


@np.errstate(over="ignore", invalid="ignore")
def add_tile_loops(
    a, a0, a_row, a_step, runs, count, b, b0, b_step, b_vector, vectors, c, c0, c_row
):
    """Add a tile of a matrix product to c: the specification of `add_tile`.

    Rows beyond the last one of a block are computed from arbitrary memory and discarded, so
    overflow and NaN give no warning.
    """
    lanes = VECTOR_BYTES // c.itemsize
    for r in range(ROWS):
        for i in range(vectors * lanes):
            beside = b0 + i // lanes * b_vector + i % lanes
            total = c[c0 + r * c_row + i]
            for run in range(len(runs)):
                for s in range(count):
                    number = a[a0 + runs[run] + r * a_row + s * a_step]
                    total += number * b[beside + (run * count + s) * b_step]
            c[c0 + r * c_row + i] = total


def set_tile_loops(
    a, a0, a_row, a_step, runs, count, b, b0, b_step, b_vector, vectors, c, c0, c_row
):
    """Set c to a tile of a matrix product: the specification of `set_tile`."""
    for r in range(ROWS):
        c[c0 + r * c_row : c0 + r * c_row + vectors * VECTOR_BYTES // c.itemsize] = 0
    add_tile_loops(
        a, a0, a_row, a_step, runs, count, b, b0, b_step, b_vector, vectors, c, c0, c_row
    )


class _Emitter:
    """Emits LLVM instructions; its pointers point to scalars."""

    def __init__(self, builder, number):
        self.builder = builder
        self.size = 4 if isinstance(number, ir.FloatType) else 8
        self.vector = ir.VectorType(number, VECTOR_BYTES // self.size)

    def at(self, pointer, *factors):
        """Return pointer + the product of the factors."""
        index = factors[0]
        for factor in factors[1:]:
            index = self.builder.mul(index, factor)
        return self.builder.gep(pointer, [index])

    def pinned(self, pointer):
        """Return the same pointer, forced into a register of its own."""
        kind = ir.FunctionType(pointer.type, [pointer.type])
        return self.builder.asm(kind, "", "=r,0", [pointer], False)

    def load(self, pointer):
        """Load a vector from any address, aligned or not."""
        begin = self.builder.bitcast(pointer, self.vector.as_pointer())
        return self.builder.load(begin, align=self.size)

    def store(self, value, pointer):
        begin = self.builder.bitcast(pointer, self.vector.as_pointer())
        self.builder.store(value, begin, align=self.size)

    def splat(self, pointer):
        """Load one element and broadcast it to all lanes."""
        return splat(self.builder, self.builder.load(pointer, align=self.size), self.vector)


def _emit_tile(emit, sets, a, a_row, a_step, runs, run_count, count, b, b_step, offsets, c, c_row):
    """Emit the instructions of a tile: load the sums, add run after run, store the sums.

    With `sets`, the sums start at 0 instead of the values in c.
    """
    builder, unroll = emit.builder, UNROLL[len(offsets)]
    height = ROWS // len(offsets)
    rows = [builder.mul(a_row, ir.Constant(INDEX, r)) for r in range(height)]
    begins = [emit.at(c, c_row, ir.Constant(INDEX, r)) for r in range(height)]
    neighbours = [ir.Constant(INDEX, v * emit.vector.count) for v in range(len(offsets))]
    outs = [emit.at(begin, v) for begin in begins for v in neighbours]
    zero = ir.Constant(emit.vector, [0.0] * emit.vector.count)
    sums = [cgutils.alloca_once(builder, emit.vector) for _ in outs]
    for slot, out in zip(sums, outs, strict=True):
        builder.store(zero if sets else emit.load(out), slot)

    def steps(a, b, first, step_count):
        """Add `step_count` steps from step `first` on, with the sums in registers."""
        held = [builder.load(slot) for slot in sums]
        column = emit.at(a, first, a_step)
        quads = [emit.pinned(emit.at(column, rows[r])) for r in range(0, height, ROWS_PER_POINTER)]
        for u in range(step_count):
            beside = emit.at(b, builder.add(first, ir.Constant(INDEX, u)), b_step)
            vectors = [emit.load(emit.at(beside, offset)) for offset in offsets]
            columns = [emit.at(quad, ir.Constant(INDEX, u), a_step) for quad in quads]
            for r in range(height):
                number = emit.splat(
                    emit.at(columns[r // ROWS_PER_POINTER], rows[r % ROWS_PER_POINTER])
                )
                for i, vector in enumerate(vectors, r * len(vectors)):
                    held[i] = multiply_add(builder, number, vector, held[i])
        for slot, value in zip(sums, held, strict=True):
            builder.store(value, slot)

    iterations = builder.udiv(count, ir.Constant(INDEX, unroll))
    done = builder.mul(iterations, ir.Constant(INDEX, unroll))
    with cgutils.for_range(builder, run_count, intp=INDEX) as run:
        here = emit.at(a, builder.load(emit.at(runs, run.index)))
        beside = emit.at(b, run.index, count, b_step)
        with cgutils.for_range(builder, iterations, intp=INDEX) as iteration:
            steps(here, beside, builder.mul(iteration.index, ir.Constant(INDEX, unroll)), unroll)
        if unroll > 1:
            with cgutils.for_range(builder, builder.sub(count, done), intp=INDEX) as rest:
                steps(here, beside, builder.add(done, rest.index), 1)
    for slot, out in zip(sums, outs, strict=True):
        emit.store(builder.load(slot), out)


def _tile(sets, vectors):
    """Return an intrinsic that adds a tile of `vectors` vectors to c, or with `sets`, sets c."""

    def tile(typingctx, a, a0, a_row, a_step, runs, count, b, b0, b_step, b_vector, c, c0, c_row):
        at = types.intp
        sig = types.void(a, at, at, at, runs, at, b, at, at, at, c, at, at)

        def codegen(context, builder, signature, args):
            emit = _Emitter(builder, context.get_data_type(a.dtype))
            pointers = [
                element_pointer(context, builder, signature.args[i], args[i], args[i + 1])
                for i in (0, 6, 10)
            ]
            run = context.make_array(runs)(context, builder, args[4])
            run_count = builder.extract_value(run.shape, 0)
            left = pointers[0], args[2], args[3], run.data, run_count, args[5]
            offsets = [ir.Constant(INDEX, 0), args[9]][:vectors]
            _emit_tile(emit, sets, *left, pointers[1], args[8], offsets, pointers[2], args[12])
            return context.get_dummy_value()

        return sig, codegen

    return intrinsic(tile)


_add_one, _add_two = _tile(sets=False, vectors=1), _tile(sets=False, vectors=2)
_set_one, _set_two = _tile(sets=True, vectors=1), _tile(sets=True, vectors=2)


@force_inlined
def _add_tile_vectors(
    a, a0, a_row, a_step, runs, count, b, b0, b_step, b_vector, vectors, c, c0, c_row
):
    if vectors == 2:
        right = b, b0, b_step, b_vector
        for r in (0, ROWS // 2):
            _add_two(
                a, a0 + r * a_row, a_row, a_step, runs, count, *right, c, c0 + r * c_row, c_row
            )
    else:
        _add_one(a, a0, a_row, a_step, runs, count, b, b0, b_step, b_vector, c, c0, c_row)


@force_inlined
def _set_tile_vectors(
    a, a0, a_row, a_step, runs, count, b, b0, b_step, b_vector, vectors, c, c0, c_row
):
    if vectors == 2:
        right = b, b0, b_step, b_vector
        for r in (0, ROWS // 2):
            _set_two(
                a, a0 + r * a_row, a_row, a_step, runs, count, *right, c, c0 + r * c_row, c_row
            )
    else:
        _set_one(a, a0, a_row, a_step, runs, count, b, b0, b_step, b_vector, c, c0, c_row)


def copy_loops(source, at, target, to, count):
    """Copy `count` adjacent elements: the specification of `copy`."""
    for i in range(count):
        target[to + i] = source[at + i]


def zero_loops(target, to, count):
    """Set `count` adjacent elements to 0: the specification of `zero`."""
    for i in range(count):
        target[to + i] = 0


@intrinsic
def copy_bytes(typingctx, source, at, target, to, count):
    """Copy `count` adjacent elements by memcpy; a loop would test if each index is negative."""
    index = types.intp
    sig = types.void(source, index, target, index, index)

    def codegen(context, builder, signature, args):
        source, target = (context.make_array(signature.args[i]) for i in (0, 2))
        begin = builder.gep(source(context, builder, args[0]).data, [args[1]])
        end = builder.gep(target(context, builder, args[2]).data, [args[3]])
        size = context.get_abi_sizeof(context.get_data_type(signature.args[0].dtype))
        cgutils.raw_memcpy(builder, end, begin, args[4], size)
        return context.get_dummy_value()

    return sig, codegen


@intrinsic
def zero_bytes(typingctx, target, to, count):
    """Set `count` adjacent elements to 0 by memset."""
    sig = types.void(target, types.intp, types.intp)

    def codegen(context, builder, signature, args):
        kind = signature.args[0]
        begin = builder.gep(context.make_array(kind)(context, builder, args[0]).data, [args[1]])
        size = context.get_abi_sizeof(context.get_data_type(kind.dtype))
        cgutils.memset(builder, begin, builder.mul(args[2], ir.Constant(INDEX, size)), 0)
        return context.get_dummy_value()

    return sig, codegen


add_tile = add_tile_loops if AS_LOOPS else _add_tile_vectors
set_tile = set_tile_loops if AS_LOOPS else _set_tile_vectors
copy = copy_loops if AS_LOOPS else copy_bytes
zero = zero_loops if AS_LOOPS else zero_bytes
