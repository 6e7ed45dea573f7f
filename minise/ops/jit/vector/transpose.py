"""Transpose a block of a matrix in registers: as many rows and columns as a vector has lanes.

Element by element a transposition takes a load and a store for each number. In registers the block
is transposed by swapping its quarters that are off the diagonal, then those of each quarter, and so
on: log2(lanes) shuffles for each vector.

`transpose_loops` does the same in plain loops; it runs if Numba is disabled.
"""

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from minise.ops.jit.vector.simd import AS_LOOPS, INDEX, VECTOR_BYTES, element_pointer


def transpose_loops(source, at, stride, target, to):
    """Set target[to + i * lanes + j] to source[at + j * stride + i]: what `transpose` does."""
    lanes = VECTOR_BYTES // target.itemsize
    for i in range(lanes):
        for j in range(lanes):
            target[to + i * lanes + j] = source[at + j * stride + i]


def _swapped(builder, rows):
    """Return the rows of the transposed block."""
    lanes, number = len(rows), ir.IntType(32)
    half = lanes // 2
    while half:
        upper = [j if not j & half else lanes + j - half for j in range(lanes)]
        lower = [j + half if not j & half else lanes + j for j in range(lanes)]
        masks = [ir.Constant(ir.VectorType(number, lanes), mask) for mask in (upper, lower)]
        for i in range(lanes):
            if not i & half:
                pair = rows[i], rows[i + half]
                rows[i], rows[i + half] = (builder.shuffle_vector(*pair, mask) for mask in masks)
        half //= 2
    return rows


@intrinsic
def _transpose(typingctx, source, at, stride, target, to):
    def codegen(context, builder, signature, args):
        size = source.dtype.bitwidth // 8
        lanes = VECTOR_BYTES // size
        vector = ir.VectorType(context.get_data_type(source.dtype), lanes).as_pointer()
        begin = element_pointer(context, builder, source, args[0], args[1])
        end = element_pointer(context, builder, target, args[3], args[4])
        rows = []
        for j in range(lanes):
            row = builder.gep(begin, [builder.mul(args[2], ir.Constant(INDEX, j))])
            rows.append(builder.load(builder.bitcast(row, vector), align=size))
        for i, row in enumerate(_swapped(builder, rows)):
            column = builder.gep(end, [ir.Constant(INDEX, i * lanes)])
            builder.store(row, builder.bitcast(column, vector), align=size)
        return context.get_dummy_value()

    return types.void(source, types.intp, types.intp, target, types.intp), codegen


transpose = transpose_loops if AS_LOOPS else _transpose
