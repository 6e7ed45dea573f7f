"""One vector micro-kernel under every convolution: a small tile of a matrix product.

A processor multiplies and adds whole vectors: 16 numbers of float32 at once where it has 512-bit
registers. It is fast only if the sums stay in registers while the products stream past, and a
compiler that is given plain loops finds that arrangement by luck. So it is written out:

    for r < ROWS, lane < vectors * LANES:   c[r, lane] += sum over s of a[r, s] * b[s, lane]

The sums stay in ROWS registers. Each step loads `vectors` vectors of b, and for each row one number
of a, spread over all lanes, which every vector of b is then multiplied with. With two vectors, half
of the rows at a time, that is 10 loads for 16 multiply-adds, and the multipliers are busy all the
time (measured on AVX-512: 260 GF/s on one core, where nothing was faster); with one vector it is a
load for each, and they wait now and then (210). Of four rows one has its place in a register, and
the other three are addressed from there: sixteen places would not fit, and would themselves be
loaded again and again.

The steps s go through `runs` of `count` neighbours: a kernel's row of an image, say, and then the
next one. a, b and c are flat arrays, each with the place of its first number, and distances in
numbers: b_step from one step of b to the next and b_apart from its first vector to its second, a
row of c is `vectors` vectors that are neighbours.

`fresh` sets c where `tile` adds to it. `tile_loops` and `fresh_loops` are the same in plain loops,
and run where Numba is switched off.
"""

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from minise.ops.jit.compiler.compile import inlined
from minise.ops.jit.vector.simd import (
    AS_LOOPS,
    BYTES,
    INDEX,
    REGISTERS,
    multiply_add,
    place,
    spread,
)

ROWS = REGISTERS // 2  # half of the registers hold sums
QUAD = 4  # rows of a that share a register with their place
UNROLL = {1: 4, 2: 1}  # steps of one turn of the loop, for one vector and for two


@np.errstate(over="ignore", invalid="ignore")
def tile_loops(a, a0, a_row, a_step, runs, count, b, b0, b_step, b_apart, vectors, c, c0, c_row):
    """Add a tile of a matrix product to c: the specification of `tile`.

    Rows beyond the last one of a block are made of whatever stands there, and thrown away: no
    reason for a warning.
    """
    lanes = BYTES // c.itemsize
    for r in range(ROWS):
        for i in range(vectors * lanes):
            beside = b0 + i // lanes * b_apart + i % lanes
            total = c[c0 + r * c_row + i]
            for run in range(len(runs)):
                for s in range(count):
                    number = a[a0 + runs[run] + r * a_row + s * a_step]
                    total += number * b[beside + (run * count + s) * b_step]
            c[c0 + r * c_row + i] = total


def fresh_loops(a, a0, a_row, a_step, runs, count, b, b0, b_step, b_apart, vectors, c, c0, c_row):
    """Set c to a tile of a matrix product: the specification of `fresh`."""
    for r in range(ROWS):
        c[c0 + r * c_row : c0 + r * c_row + vectors * BYTES // c.itemsize] = 0
    tile_loops(a, a0, a_row, a_step, runs, count, b, b0, b_step, b_apart, vectors, c, c0, c_row)


class _Emitter:
    """Writes instructions; a place is a pointer to one number."""

    def __init__(self, builder, number):
        self.builder = builder
        self.size = 4 if isinstance(number, ir.FloatType) else 8
        self.vector = ir.VectorType(number, BYTES // self.size)

    def at(self, pointer, *factors):
        """Return the place that is a product of some factors further."""
        index = factors[0]
        for factor in factors[1:]:
            index = self.builder.mul(index, factor)
        return self.builder.gep(pointer, [index])

    def kept(self, pointer):
        """Return the same place, but so that it has to stand in a register of its own."""
        kind = ir.FunctionType(pointer.type, [pointer.type])
        return self.builder.asm(kind, "", "=r,0", [pointer], False)

    def load(self, pointer):
        """Load a vector; it may lie anywhere."""
        begin = self.builder.bitcast(pointer, self.vector.as_pointer())
        return self.builder.load(begin, align=self.size)

    def store(self, value, pointer):
        begin = self.builder.bitcast(pointer, self.vector.as_pointer())
        self.builder.store(value, begin, align=self.size)

    def spread(self, pointer):
        """Load one number into all lanes."""
        return spread(self.builder, self.builder.load(pointer, align=self.size), self.vector)


def _emit_tile(emit, fresh, a, a_row, a_step, runs, how_many, count, b, b_step, offsets, c, c_row):
    """Write the tile's instructions: sums into registers, run after run, sums back."""
    builder, unroll = emit.builder, UNROLL[len(offsets)]
    height = ROWS // len(offsets)
    rows = [builder.mul(a_row, ir.Constant(INDEX, r)) for r in range(height)]
    begins = [emit.at(c, c_row, ir.Constant(INDEX, r)) for r in range(height)]
    neighbours = [ir.Constant(INDEX, v * emit.vector.count) for v in range(len(offsets))]
    outs = [emit.at(begin, v) for begin in begins for v in neighbours]
    zero = ir.Constant(emit.vector, [0.0] * emit.vector.count)
    sums = [cgutils.alloca_once(builder, emit.vector) for _ in outs]
    for one, out in zip(sums, outs, strict=True):
        builder.store(zero if fresh else emit.load(out), one)

    def steps(a, b, first, how_many):
        """Add some steps that begin at a place; the sums are registers in between."""
        held = [builder.load(one) for one in sums]
        column = emit.at(a, first, a_step)
        quads = [emit.kept(emit.at(column, rows[r])) for r in range(0, height, QUAD)]
        for u in range(how_many):
            beside = emit.at(b, builder.add(first, ir.Constant(INDEX, u)), b_step)
            vectors = [emit.load(emit.at(beside, offset)) for offset in offsets]
            columns = [emit.at(quad, ir.Constant(INDEX, u), a_step) for quad in quads]
            for r in range(height):
                number = emit.spread(emit.at(columns[r // QUAD], rows[r % QUAD]))
                for i, vector in enumerate(vectors, r * len(vectors)):
                    held[i] = multiply_add(builder, number, vector, held[i])
        for one, value in zip(sums, held, strict=True):
            builder.store(value, one)

    turns = builder.udiv(count, ir.Constant(INDEX, unroll))
    done = builder.mul(turns, ir.Constant(INDEX, unroll))
    with cgutils.for_range(builder, how_many, intp=INDEX) as run:
        here = emit.at(a, builder.load(emit.at(runs, run.index)))
        beside = emit.at(b, run.index, count, b_step)
        with cgutils.for_range(builder, turns, intp=INDEX) as turn:
            steps(here, beside, builder.mul(turn.index, ir.Constant(INDEX, unroll)), unroll)
        if unroll > 1:
            with cgutils.for_range(builder, builder.sub(count, done), intp=INDEX) as rest:
                steps(here, beside, builder.add(done, rest.index), 1)
    for one, out in zip(sums, outs, strict=True):
        emit.store(builder.load(one), out)


def _tile(is_fresh, vectors):
    """Return the tile as an intrinsic, which adds to c or sets it."""

    def tile(typingctx, a, a0, a_row, a_step, runs, count, b, b0, b_step, b_apart, c, c0, c_row):
        at = types.intp
        sig = types.void(a, at, at, at, runs, at, b, at, at, at, c, at, at)

        def codegen(context, builder, signature, args):
            emit = _Emitter(builder, context.get_data_type(a.dtype))
            places = [
                place(context, builder, signature.args[i], args[i], args[i + 1]) for i in (0, 6, 10)
            ]
            run = context.make_array(runs)(context, builder, args[4])
            how_many = builder.extract_value(run.shape, 0)
            left = places[0], args[2], args[3], run.data, how_many, args[5]
            offsets = [ir.Constant(INDEX, 0), args[9]][:vectors]
            _emit_tile(emit, is_fresh, *left, places[1], args[8], offsets, places[2], args[12])
            return context.get_dummy_value()

        return sig, codegen

    return intrinsic(tile)


_add_one, _add_two = _tile(is_fresh=False, vectors=1), _tile(is_fresh=False, vectors=2)
_set_one, _set_two = _tile(is_fresh=True, vectors=1), _tile(is_fresh=True, vectors=2)


@inlined
def _tile_vectors(a, a0, a_row, a_step, runs, count, b, b0, b_step, b_apart, vectors, c, c0, c_row):
    if vectors == 2:
        right = b, b0, b_step, b_apart
        for r in (0, ROWS // 2):
            _add_two(
                a, a0 + r * a_row, a_row, a_step, runs, count, *right, c, c0 + r * c_row, c_row
            )
    else:
        _add_one(a, a0, a_row, a_step, runs, count, b, b0, b_step, b_apart, c, c0, c_row)


@inlined
def _fresh_vectors(
    a, a0, a_row, a_step, runs, count, b, b0, b_step, b_apart, vectors, c, c0, c_row
):
    if vectors == 2:
        right = b, b0, b_step, b_apart
        for r in (0, ROWS // 2):
            _set_two(
                a, a0 + r * a_row, a_row, a_step, runs, count, *right, c, c0 + r * c_row, c_row
            )
    else:
        _set_one(a, a0, a_row, a_step, runs, count, b, b0, b_step, b_apart, c, c0, c_row)


def copy_loops(source, at, target, to, count):
    """Copy neighbours: the specification of `copy`."""
    for i in range(count):
        target[to + i] = source[at + i]


def zero_loops(target, to, count):
    """Set neighbours to 0: the specification of `zero`."""
    for i in range(count):
        target[to + i] = 0


@intrinsic
def copy_bytes(typingctx, source, at, target, to, count):
    """Copy neighbours in one piece; a loop would ask at each number whether its place is < 0."""
    place = types.intp
    sig = types.void(source, place, target, place, place)

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
    """Set neighbours to 0 in one piece."""
    sig = types.void(target, types.intp, types.intp)

    def codegen(context, builder, signature, args):
        kind = signature.args[0]
        begin = builder.gep(context.make_array(kind)(context, builder, args[0]).data, [args[1]])
        size = context.get_abi_sizeof(context.get_data_type(kind.dtype))
        cgutils.memset(builder, begin, builder.mul(args[2], ir.Constant(INDEX, size)), 0)
        return context.get_dummy_value()

    return sig, codegen


tile = tile_loops if AS_LOOPS else _tile_vectors
fresh = fresh_loops if AS_LOOPS else _fresh_vectors
copy = copy_loops if AS_LOOPS else copy_bytes
zero = zero_loops if AS_LOOPS else zero_bytes
