"""One vector micro-kernel under every convolution: a small tile of a matrix product.

A processor multiplies and adds whole vectors: 16 numbers of float32 at once where it has 512-bit
registers. It is fast only if the sums stay in registers while the products stream past, and a
compiler that is given plain loops finds that arrangement by luck. So it is written out:

    for r < ROWS, lane < LANES:   c[r, lane] += sum over s of a[r, s] * b[s, lane]

ROWS vectors of sums stay in as many registers. Each step loads one vector of b, and for each row
one number of a, which the multiply-add itself spreads over all lanes. That is one load for each
multiply-add, which is what these processors sustain.

The steps s go through `runs` of `count` neighbours: a kernel's row of an image, say, and then the
next one. a, b and c are flat arrays, each with the place of its first number, and distances in
numbers; a row of c and a step of b are LANES neighbours in memory.

`tile_loops` is the same in plain loops, and runs where Numba is switched off.
"""

from typing import Any

import llvmlite.binding as llvm
import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

FEATURES = llvm.get_host_cpu_features()
WIDE = bool(FEATURES.get("avx512f"))  # 32 registers of 64 bytes; else 16 of 32 bytes
BYTES = 64 if WIDE else 32
ROWS = 16 if WIDE else 8  # half of the registers hold sums
UNROLL = 4  # steps of one turn of the loop
INDEX = ir.IntType(64)


def lanes_of(dtype: np.dtype[Any]) -> int:
    """Return how many numbers of a dtype a vector holds."""
    return BYTES // dtype.itemsize


def tile_loops(a, a0, a_row, a_step, runs, count, b, b0, b_step, c, c0, c_row):
    """Add a tile of a matrix product to c: the specification of `tile`."""
    for r in range(ROWS):
        for lane in range(BYTES // c.itemsize):
            total = c[c0 + r * c_row + lane]
            for i in range(len(runs)):
                for s in range(count):
                    number = a[a0 + runs[i] + r * a_row + s * a_step]
                    total += number * b[b0 + (i * count + s) * b_step + lane]
            c[c0 + r * c_row + lane] = total


class _Emitter:
    """Writes vector instructions; addresses are pointers to one number."""

    def __init__(self, builder, number):
        self.builder, self.number = builder, number
        bits = 32 if isinstance(number, ir.FloatType) else 64
        self.size, lanes = bits // 8, BYTES * 8 // bits
        self.vector = ir.VectorType(number, lanes)
        self.same = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
        name = f"llvm.fma.v{lanes}f{bits}"
        function = ir.FunctionType(self.vector, [self.vector] * 3)
        self.fma_function = cgutils.get_or_insert_function(builder.module, function, name)

    def at(self, pointer, *terms):
        """Return the address of a number, some numbers further."""
        for term in terms:
            pointer = self.builder.gep(pointer, [term])
        return pointer

    def times(self, index, by):
        return self.builder.mul(index, ir.Constant(INDEX, by))

    def load(self, pointer):
        """Load a vector; it may lie anywhere."""
        place = self.builder.bitcast(pointer, self.vector.as_pointer())
        return self.builder.load(place, align=self.size)

    def store(self, value, pointer):
        place = self.builder.bitcast(pointer, self.vector.as_pointer())
        self.builder.store(value, place, align=self.size)

    def spread(self, pointer):
        """Load one number into all lanes."""
        number = self.builder.load(pointer, align=self.size)
        nothing = ir.Constant(self.vector, ir.Undefined)
        first = self.builder.insert_element(nothing, number, ir.Constant(ir.IntType(32), 0))
        return self.builder.shuffle_vector(first, nothing, self.same)

    def fma(self, a, b, c):
        return self.builder.call(self.fma_function, [a, b, c])


def _emit_tile(emit, a, a_row, a_step, runs, how_many, count, b, b_step, c, c_row):
    """Write the tile's instructions: sums into registers, run after run, sums back."""
    builder = emit.builder
    rows = [emit.times(a_row, r) for r in range(ROWS)]
    outs = [emit.at(c, emit.times(c_row, r)) for r in range(ROWS)]
    sums = [cgutils.alloca_once_value(builder, emit.load(out)) for out in outs]

    def steps(a, b, first, how_many):
        """Add some steps that begin at a place; the sums are registers in between."""
        held = [builder.load(one) for one in sums]
        for u in range(how_many):
            s = builder.add(first, ir.Constant(INDEX, u))
            vector = emit.load(emit.at(b, builder.mul(s, b_step)))
            column = emit.at(a, builder.mul(s, a_step))
            for r in range(ROWS):
                held[r] = emit.fma(emit.spread(emit.at(column, rows[r])), vector, held[r])
        for one, value in zip(sums, held, strict=True):
            builder.store(value, one)

    turns = builder.udiv(count, ir.Constant(INDEX, UNROLL))
    done = emit.times(turns, UNROLL)
    with cgutils.for_range(builder, how_many, intp=INDEX) as run:
        here = emit.at(a, builder.load(emit.at(runs, run.index)))
        beside = emit.at(b, builder.mul(builder.mul(run.index, count), b_step))
        with cgutils.for_range(builder, turns, intp=INDEX) as turn:
            steps(here, beside, emit.times(turn.index, UNROLL), UNROLL)
        with cgutils.for_range(builder, builder.sub(count, done), intp=INDEX) as rest:
            steps(here, beside, builder.add(done, rest.index), 1)
    for one, out in zip(sums, outs, strict=True):
        emit.store(builder.load(one), out)


@intrinsic
def tile_vectors(typingctx, a, a0, a_row, a_step, runs, count, b, b0, b_step, c, c0, c_row):
    """Add a tile of a matrix product to c: as tile_loops, in vector instructions."""
    place = types.intp
    sig = types.void(a, place, place, place, runs, place, b, place, place, c, place, place)

    def codegen(context, builder, signature, args):
        emit = _Emitter(builder, context.get_data_type(signature.args[0].dtype))

        def array(i):
            return context.make_array(signature.args[i])(context, builder, args[i])

        _, a0, a_row, a_step, _, count, _, b0, b_step, _, c0, c_row = args
        a, b, c = (emit.at(array(i).data, first) for i, first in ((0, a0), (6, b0), (9, c0)))
        how_many = builder.extract_value(array(4).shape, 0)
        _emit_tile(emit, a, a_row, a_step, array(4).data, how_many, count, b, b_step, c, c_row)
        return context.get_dummy_value()

    return sig, codegen


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


AS_LOOPS = numba.config.DISABLE_JIT
tile = tile_loops if AS_LOOPS else tile_vectors
copy = copy_loops if AS_LOOPS else copy_bytes
zero = zero_loops if AS_LOOPS else zero_bytes
