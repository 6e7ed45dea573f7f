"""The passes of normalisations: vectors compute what the plain loops do, and touch nothing else."""

from functools import cache

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minise.ops.jit.compiler.compile import OPTIONS
from minise.ops.jit.norm import NOTHING
from minise.ops.jit.normalisation import passes
from minise.ops.jit.normalisation.passes import MIN_BLOCKS, PIXELS_PER_BLOCK, blocks_of
from minise.ops.jit.vector.layout import frozen
from minise.ops.jit.vector.simd import lanes_of
from tests.ops.cases import SEEDS, few
from tests.ops.jit.guards import Guarded

over_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
over_switch = pytest.mark.parametrize("switch", [True, False])
SIZES = dict(
    images=st.integers(1, 2),
    parts=st.integers(1, 2),
    pixels=st.integers(1, 13),  # four registers are used in turn, with a remainder
    vectors=st.integers(0, 2),
    rest=st.integers(0, 3),  # channels that do not fill a vector
    seed=SEEDS,
)


@cache
def compiled(device_function):
    """Return the device function, compiled so that Python can call it."""
    return numba.njit(**OPTIONS)(getattr(device_function, "py_func", device_function))


class Drawn:
    """Small integers between bands of NaN: sums are exact, and a stray read gives NaN."""

    def __init__(self, dtype, images, parts, pixels, vectors, rest, seed):
        self.rng, self.dtype, self.guards = np.random.default_rng(seed), dtype, Guarded()
        C = max(1, vectors * lanes_of(np.dtype(dtype)) + rest)
        self.blocks, self.image, self.channel = (images * parts, pixels, C), (images, C), (C,)
        self.nothing = NOTHING[np.dtype(dtype)]

    def integers(self, shape, nan=False):
        """Return a read-only array of integers, with `nan` some of them replaced by NaN."""
        values = self.rng.integers(-3, 4, shape).astype(self.dtype)
        if nan:
            values[self.rng.random(shape) < 0.05] = np.nan
        return frozen(self.guards.array(values))

    def empty(self, *shapes):
        """Return two sets of arrays full of NaN: for the kernel, and for the loops."""
        ours = [self.guards.array(np.full(shape, np.nan, self.dtype)) for shape in shapes]
        return ours, [np.full(shape, np.nan, self.dtype) for shape in shapes]

    def check(self, ours, theirs):
        """Assert that both sets are equal, and that no guard band was written to."""
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a, b)
        self.guards.check()


@over_dtypes
@few
@given(level=st.sampled_from([0, 1000, -(2**15)]), **SIZES)
def test_moments(dtype, level, **sizes):
    """Only the division by the number of pixels is rounded, and the squares that follow from it."""
    drawn = Drawn(dtype, **sizes)
    x = frozen(drawn.guards.array(drawn.integers(drawn.blocks) + dtype(level)))
    ours, (means, squares) = drawn.empty(*[x.shape[::2]] * 2)
    for block in range(len(x)):
        compiled(passes.moments)(block, x, *ours)
        compiled(passes.moments_loops)(x[block], 0, means[block], squares[block])
    pixels, eps = x.shape[1], np.finfo(dtype).eps
    off = 0 if pixels & (pixels - 1) == 0 else eps * (abs(means) + 6)  # x is at most 6 from x[0]
    assert (abs(ours[0] - means) <= 2 * off).all()
    lost = 0 if pixels & (pixels - 1) == 0 else pixels * off**2 + (pixels + 4) * eps * squares
    assert (abs(ours[1] - squares) <= 4 * lost).all()
    drawn.guards.check()


@over_dtypes
@over_switch
@pytest.mark.parametrize("relu", [True, False])
@few
@given(**SIZES)
def test_normalise(dtype, switch, relu, **sizes):
    """With and without a shortcut."""
    drawn = Drawn(dtype, **sizes)
    x, mean = drawn.integers(drawn.blocks, nan=True), drawn.integers(drawn.channel)
    scale, shift = drawn.integers(drawn.image), drawn.integers(drawn.image)
    shortcut = drawn.integers(drawn.blocks) if switch else drawn.nothing
    ours, (out,) = drawn.empty(drawn.blocks)
    for block in range(len(x)):
        compiled(passes.normalise)(block, x, mean, scale, shift, shortcut, relu, *ours)
        n, other = block // sizes["parts"], shortcut[block if switch else 0]
        compiled(passes.normalise_loops)(
            x[block], 0, mean, scale[n], shift[n], other, relu, out[block]
        )
    drawn.check(ours, [out])


@over_dtypes
@over_switch
@pytest.mark.parametrize("with_g", [True, False])
@few
@given(**SIZES)
def test_sums(dtype, switch, with_g, **sizes):
    """With and without the output of a ReLU as mask, and with and without the masked gradient."""
    drawn = Drawn(dtype, **sizes)
    dout, x = drawn.integers(drawn.blocks), drawn.integers(drawn.blocks)
    mean = drawn.integers(drawn.channel)
    out = drawn.integers(drawn.blocks, nan=True) if switch else drawn.nothing
    of_g = drawn.blocks if with_g else (1, 0, 0)
    ours, (sum_g, sum_gx, masked) = drawn.empty(*[x.shape[::2]] * 2, of_g)
    for block in range(len(x)):
        compiled(passes.gradient_sums)(block, dout, out, x, mean, *ours)
        arrays = dout[block], out[block if switch else 0], x[block]
        results = sum_g[block], sum_gx[block], masked[block if with_g else 0]
        compiled(passes.gradient_sums_loops)(*arrays, 0, mean, *results)
    drawn.check(ours, [sum_g, sum_gx, masked])


@over_dtypes
@over_switch
@few
@given(**SIZES)
def test_input_gradient(dtype, switch, **sizes):
    """With and without the output of a ReLU as mask."""
    drawn = Drawn(dtype, **sizes)
    dout, x = drawn.integers(drawn.blocks, nan=True), drawn.integers(drawn.blocks)
    out = drawn.integers(drawn.blocks, nan=True) if switch else drawn.nothing
    scale, shift = drawn.integers(drawn.image), drawn.integers(drawn.image)
    mean, slope = drawn.integers(drawn.channel), drawn.integers(drawn.channel)
    ours, (dx,) = drawn.empty(drawn.blocks)
    for block in range(len(x)):
        compiled(passes.input_gradient)(block, dout, out, x, scale, shift, mean, slope, *ours)
        n, arrays = block // sizes["parts"], (dout[block], out[block if switch else 0], x[block])
        compiled(passes.input_gradient_loops)(
            *arrays, 0, scale[n], shift[n], mean, slope, dx[block]
        )
    drawn.check(ours, [dx])


@few
@given(N=st.integers(1, 40), H=st.integers(1, 70), W=st.integers(1, 70))
def test_blocks(N, H, W):
    """A view in the fewest blocks: at least MIN_BLOCKS, of at most PIXELS_PER_BLOCK pixels."""
    rows = np.zeros((N, H * W, 3), np.float32)
    blocks = blocks_of(rows)
    assert np.shares_memory(blocks, rows)
    assert blocks.shape[1] <= PIXELS_PER_BLOCK
    assert len(blocks) >= min(MIN_BLOCKS, N * H * W)
    for parts in range(1, len(blocks) // N):
        assert parts * PIXELS_PER_BLOCK < H * W or N * parts < MIN_BLOCKS or H * W % parts
