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

With `fresh` the sums begin at 0 instead of at what c holds. `tile_loops` and `fresh_loops` are the
same in plain loops, and run where Numba is switched off.
"""

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from minise.ops.jit.simd import AS_LOOPS, BYTES, INDEX, REGISTERS, multiply_add, place, spread

ROWS = REGISTERS // 2  # half of the registers hold sums
UNROLL = 4  # steps of one turn of the loop


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


def fresh_loops(a, a0, a_row, a_step, runs, count, b, b0, b_step, c, c0, c_row):
    """Set c to a tile of a matrix product: the specification of `fresh`."""
    for r in range(ROWS):
        c[c0 + r * c_row : c0 + r * c_row + BYTES // c.itemsize] = 0
    tile_loops(a, a0, a_row, a_step, runs, count, b, b0, b_step, c, c0, c_row)


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

    def load(self, pointer):
        """Load a vector; it may lie anywhere."""
        begin = self.builder.bitcast(pointer, self.vector.as_pointer())
        return self.builder.load(begin, align=self.size)

    def store(self, value, pointer):
        begin = self.builder.bitcast(pointer, self.vector.as_pointer())
        self.builder.store(value, begin, align=self.size)

    def add_product(self, total, number, vector):
        """Return total + the number at a place, in all lanes, * vector."""
        spread_out = spread(self.builder, self.builder.load(number, align=self.size), self.vector)
        return multiply_add(self.builder, spread_out, vector, total)


def _emit_tile(emit, fresh, a, a_row, a_step, runs, how_many, count, b, b_step, c, c_row):
    """Write the tile's instructions: sums into registers, run after run, sums back."""
    builder = emit.builder
    rows = [builder.mul(a_row, ir.Constant(INDEX, r)) for r in range(ROWS)]
    outs = [emit.at(c, c_row, ir.Constant(INDEX, r)) for r in range(ROWS)]
    zero = ir.Constant(emit.vector, [0.0] * emit.vector.count)
    sums = [cgutils.alloca_once(builder, emit.vector) for _ in outs]
    for one, out in zip(sums, outs, strict=True):
        builder.store(zero if fresh else emit.load(out), one)

    def steps(a, b, first, how_many):
        """Add some steps that begin at a place; the sums are registers in between."""
        held = [builder.load(one) for one in sums]
        for u in range(how_many):
            s = builder.add(first, ir.Constant(INDEX, u))
            vector, column = emit.load(emit.at(b, s, b_step)), emit.at(a, s, a_step)
            for r in range(ROWS):
                held[r] = emit.add_product(held[r], emit.at(column, rows[r]), vector)
        for one, value in zip(sums, held, strict=True):
            builder.store(value, one)

    turns = builder.udiv(count, ir.Constant(INDEX, UNROLL))
    done = builder.mul(turns, ir.Constant(INDEX, UNROLL))
    with cgutils.for_range(builder, how_many, intp=INDEX) as run:
        here = emit.at(a, builder.load(emit.at(runs, run.index)))
        beside = emit.at(b, run.index, count, b_step)
        with cgutils.for_range(builder, turns, intp=INDEX) as turn:
            steps(here, beside, builder.mul(turn.index, ir.Constant(INDEX, UNROLL)), UNROLL)
        with cgutils.for_range(builder, builder.sub(count, done), intp=INDEX) as rest:
            steps(here, beside, builder.add(done, rest.index), 1)
    for one, out in zip(sums, outs, strict=True):
        emit.store(builder.load(one), out)


def _tile(is_fresh):
    """Return the tile as an intrinsic, which adds to c or sets it."""

    def tile(typingctx, a, a0, a_row, a_step, runs, count, b, b0, b_step, c, c0, c_row):
        at = types.intp
        sig = types.void(a, at, at, at, runs, at, b, at, at, c, at, at)

        def codegen(context, builder, signature, args):
            emit = _Emitter(builder, context.get_data_type(a.dtype))
            given, kinds = args, signature.args
            places = [place(context, builder, kinds[i], given[i], given[i + 1]) for i in (0, 6, 9)]
            offsets = context.make_array(runs)(context, builder, given[4])
            how_many = builder.extract_value(offsets.shape, 0)
            left = places[0], given[2], given[3], offsets.data, how_many, given[5]
            _emit_tile(emit, is_fresh, *left, places[1], given[8], places[2], given[11])
            return context.get_dummy_value()

        return sig, codegen

    return intrinsic(tile)


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


tile = tile_loops if AS_LOOPS else _tile(is_fresh=False)
fresh = fresh_loops if AS_LOOPS else _tile(is_fresh=True)
copy = copy_loops if AS_LOOPS else copy_bytes
zero = zero_loops if AS_LOOPS else zero_bytes
