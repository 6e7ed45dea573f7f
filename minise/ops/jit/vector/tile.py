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

`add_tile` adds to c, `set_tile` sets it. `add_rows` sets or adds to any number of rows, whose
positions in a are listed, so that they need not be equally spaced; its steps are adjacent elements
of a. `add_tile_loops`, `set_tile_loops` and `add_rows_loops` do the same in plain loops; they run
if Numba is disabled.
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

ROWS = REGISTERS // 2  # half of the registers hold sums of `add_tile`
ROWS_PER_POINTER = 4  # rows of a that share a pointer register
# rows of a tile of add_rows, by the number of vectors: 12 of 16 registers hold sums, or 16 of 32
LISTED_ROWS = {1: 8, 2: {16: 6, 32: 8}[REGISTERS]}
MIN_ROWS = max(LISTED_ROWS.values())
BIT = ir.IntType(1)
UNROLL = 4  # steps per iteration of a tile with fewer than MANY_SUMS, or one vector
MANY_SUMS = 12  # so many multiply-adds of a step hide the overhead of the loop


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


def add_rows_loops(
    a, a0, rows, row_count, runs, count, b, b0, b_vector, vectors, sets, c, c0, c_row
):
    """Add a matrix product to rows of c, or with `sets` set them: the specification of `add_rows`.

    Row r of a begins at a0 + rows[r], and row r of c at c0 + r * c_row. Up to MIN_ROWS - 1 rows
    more may be computed, so that rows and c must have room for them; not with `sets` and at least
    MIN_ROWS rows, of which some may be computed twice instead.
    """
    lanes = VECTOR_BYTES // c.itemsize
    for r in range(row_count):
        for i in range(vectors * lanes):
            beside = b0 + i // lanes * b_vector + i % lanes
            total = c.dtype.type(0) if sets else c[c0 + r * c_row + i]
            for run in range(len(runs)):
                for s in range(count):
                    number = a[a0 + rows[r] + runs[run] + s]
                    total += number * b[beside + (run * count + s) * lanes]
            c[c0 + r * c_row + i] = total


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


def _equally_spaced(emit, a, a_row, a_step, height):
    """Return a function of the first step that returns one of (step, row): pointers to elements."""
    rows = [emit.builder.mul(a_row, ir.Constant(INDEX, r)) for r in range(height)]

    def from_step(run, first):
        column = emit.at(emit.at(a, run), first, a_step)
        quads = [emit.pinned(emit.at(column, rows[r])) for r in range(0, height, ROWS_PER_POINTER)]

        def pointers(u):
            columns = [emit.at(quad, ir.Constant(INDEX, u), a_step) for quad in quads]
            return [
                emit.at(columns[r // ROWS_PER_POINTER], rows[r % ROWS_PER_POINTER])
                for r in range(height)
            ]

        return pointers

    return from_step


def _listed(emit, a, rows, height):
    """Return such a function for listed rows: each has a pointer, all share an index."""
    builder = emit.builder
    begins = [emit.at(a, builder.load(emit.at(rows, ir.Constant(INDEX, r)))) for r in range(height)]

    def from_step(run, first):
        index = builder.add(run, first)
        return lambda u: [
            emit.at(begin, builder.add(index, ir.Constant(INDEX, u))) for begin in begins
        ]

    return from_step


def _emit_tile(emit, sets, left, span, count, b, b_step, offsets, begins):
    """Emit the instructions of a tile: load the sums, add run after run, store the sums.

    left gives the pointers to the elements of a, span is the pointer to the runs and their number,
    begins are the pointers to the rows of c. If `sets`, a
    bit, is 1, the sums start at 0 instead of the values in c.
    """
    builder, vectors = emit.builder, len(offsets)
    unroll = UNROLL if vectors == 1 or vectors * len(begins) < MANY_SUMS else 1
    neighbours = [ir.Constant(INDEX, v * emit.vector.count) for v in range(vectors)]
    outs = [emit.at(begin, v) for begin in begins for v in neighbours]
    zero = ir.Constant(emit.vector, [0.0] * emit.vector.count)
    sums = [cgutils.alloca_once(builder, emit.vector) for _ in outs]
    with builder.if_else(sets) as (then, otherwise):
        with then:
            for slot in sums:
                builder.store(zero, slot)
        with otherwise:
            for slot, out in zip(sums, outs, strict=True):
                builder.store(emit.load(out), slot)

    def steps(run, b, first, step_count):
        """Add `step_count` steps from step `first` on, with the sums in registers."""
        held = [builder.load(slot) for slot in sums]
        pointers = left(run, first)
        for u in range(step_count):
            beside = emit.at(b, builder.add(first, ir.Constant(INDEX, u)), b_step)
            columns = [emit.load(emit.at(beside, offset)) for offset in offsets]
            for r, pointer in enumerate(pointers(u)):
                number = emit.splat(pointer)
                for i, vector in enumerate(columns, r * vectors):
                    held[i] = multiply_add(builder, number, vector, held[i])
        for slot, value in zip(sums, held, strict=True):
            builder.store(value, slot)

    iterations = builder.udiv(count, ir.Constant(INDEX, unroll))
    done = builder.mul(iterations, ir.Constant(INDEX, unroll))
    with cgutils.for_range(builder, span[1], intp=INDEX) as loop:
        run = builder.load(emit.at(span[0], loop.index))
        beside = emit.at(b, loop.index, count, b_step)
        with cgutils.for_range(builder, iterations, intp=INDEX) as iteration:
            steps(run, beside, builder.mul(iteration.index, ir.Constant(INDEX, unroll)), unroll)
        if unroll > 1:
            with cgutils.for_range(builder, builder.sub(count, done), intp=INDEX) as rest:
                steps(run, beside, builder.add(done, rest.index), 1)
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
            height = ROWS // vectors
            left = _equally_spaced(emit, pointers[0], args[2], args[3], height)
            begins = [emit.at(pointers[2], args[12], ir.Constant(INDEX, r)) for r in range(height)]
            span = _pointer_and_length(context, builder, runs, args[4])
            offsets = [ir.Constant(INDEX, 0), args[9]][:vectors]
            right = args[5], pointers[1], args[8], offsets, begins
            _emit_tile(emit, ir.Constant(BIT, sets), left, span, *right)
            return context.get_dummy_value()

        return sig, codegen

    return intrinsic(tile)


def _pointer_and_length(context, builder, kind, array):
    """Return an LLVM pointer to the elements of a 1-D array, and their number."""
    made = context.make_array(kind)(context, builder, array)
    return made.data, builder.extract_value(made.shape, 0)


def _listed_tile(vectors):
    """Return an intrinsic that adds a tile of listed rows and `vectors` vectors to c."""
    height, b_step = LISTED_ROWS[vectors], VECTOR_BYTES

    def tile(typingctx, a, a0, rows, first, runs, count, b, b0, b_vector, sets, c, c0, c_row):
        at = types.intp
        sig = types.void(a, at, rows, at, runs, at, b, at, at, types.boolean, c, at, at)

        def codegen(context, builder, signature, args):
            emit = _Emitter(builder, context.get_data_type(a.dtype))
            pointers = [
                element_pointer(context, builder, signature.args[i], args[i], args[i + 1])
                for i in (0, 2, 6, 10)
            ]
            left = _listed(emit, pointers[0], pointers[1], height)
            lanes = b_step // emit.size
            begins = [emit.at(pointers[3], args[12], ir.Constant(INDEX, r)) for r in range(height)]
            span = _pointer_and_length(context, builder, runs, args[4])
            offsets = [ir.Constant(INDEX, 0), args[8]][:vectors]
            right = args[5], pointers[2], ir.Constant(INDEX, lanes), offsets, begins
            _emit_tile(emit, builder.trunc(args[9], BIT), left, span, *right)
            return context.get_dummy_value()

        return sig, codegen

    return intrinsic(tile)


_add_one, _add_two = _tile(sets=False, vectors=1), _tile(sets=False, vectors=2)
_set_one, _set_two = _tile(sets=True, vectors=1), _tile(sets=True, vectors=2)

_add_one_listed, _add_two_listed = _listed_tile(1), _listed_tile(2)
ONE_HEIGHT, TWO_HEIGHT = LISTED_ROWS[1], LISTED_ROWS[2]


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


@force_inlined
def _add_rows_vectors(
    a, a0, rows, row_count, runs, count, b, b0, b_vector, vectors, sets, c, c0, c_row
):
    span, right = (runs, count), (b, b0, b_vector, sets, c)
    height = TWO_HEIGHT if vectors == 2 else ONE_HEIGHT
    for first in range(0, row_count, height):
        r = max(0, min(first, row_count - height)) if sets else first
        if vectors == 2:
            _add_two_listed(a, a0, rows, r, *span, *right, c0 + r * c_row, c_row)
        else:
            _add_one_listed(a, a0, rows, r, *span, *right, c0 + r * c_row, c_row)


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
add_rows = add_rows_loops if AS_LOOPS else _add_rows_vectors
copy = copy_loops if AS_LOOPS else copy_bytes
zero = zero_loops if AS_LOOPS else zero_bytes
