"""Winograd's convolution: its error is within the bound, and its memory accesses within arrays."""

from typing import NamedTuple

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minise import models
from minise.ops import jit, reference
from minise.ops.jit.convolution.algorithm import winograd_applies
from minise.ops.jit.convolution.blocks import blocks_of
from minise.ops.jit.convolution.rounding import rounding
from minise.ops.jit.vector.simd import AS_LOOPS, lanes_of
from tests.ops.cases import SEEDS, few
from tests.ops.jit.backward_settings import check_settings
from tests.ops.jit.guards import guarded

over_dtypes = pytest.mark.parametrize(  # in float64, Winograd's is used on request only
    "dtype", [np.float32, pytest.param(np.float64, marks=pytest.mark.long)]
)
OPS = jit.using(algorithm="winograd")
NHWC = (0, 2, 3, 1)
some = settings(few, max_examples=8 if AS_LOOPS else few.max_examples)
VECTORS = st.integers(1, 1 if AS_LOOPS else 3)
# The largest ratio of an error to its bound: `exact` has rounding errors of its own.
MAX_RATIO = 1 + 9 * np.finfo(np.longdouble).eps / np.finfo(float).eps


class Sizes(NamedTuple):
    """The sizes of a convolution; C and K are vectors of channels and filters per group."""

    N: int = 2
    C: int = 1
    K: int = 1
    H: int = 5
    W: int = 6
    padding: tuple = (1, 1)
    groups: int = 1
    bias: bool = True


SIZES = st.builds(
    Sizes,
    N=st.integers(1, 3),
    C=VECTORS,
    K=VECTORS,
    H=st.integers(1, 13),
    W=st.integers(1, 13),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    groups=VECTORS,
    bias=st.booleans(),
).filter(lambda sizes: min(sizes.H + 2 * sizes.padding[0], sizes.W + 2 * sizes.padding[1]) >= 3)
CUTS = {  # sizes for each way of splitting images into blocks
    "one tile": Sizes(N=1, H=4, W=4),
    "rows of an image": Sizes(N=1, H=30, W=22),
    "a row each": Sizes(N=1, H=6, W=70, padding=(0, 2)),
    "images together, and a rest": Sizes(N=21, H=4, W=3, padding=(2, 1)),
    "few tiles": Sizes(N=1, C=2, K=2, H=4, W=5, groups=2),
    **({} if AS_LOOPS else {"two blocks a part": Sizes(N=1, H=66, W=140)}),  # slow as Python
    **({} if AS_LOOPS else {"few tiles, two runs": Sizes(N=2, C=9, K=5, H=7, W=4, groups=2)}),
}


def draw(sizes, dtype, seed=0, *, integers=False):
    """Return x, weight, bias or None, and dout."""
    rng, lanes = np.random.default_rng(seed), lanes_of(np.dtype(dtype))
    N, C, K, H, W, (rows, columns), groups, with_bias = sizes
    C, K = C * lanes, K * lanes * groups
    shapes = (
        (N, C * groups, H, W),
        (K, C, 3, 3),
        (K,),
        (N, K, H + 2 * rows - 2, W + 2 * columns - 2),
    )
    if integers:
        x, weight, bias, dout = (rng.integers(-3, 4, shape).astype(dtype) for shape in shapes)
    else:
        x, weight, bias, dout = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
    return x, weight, bias if with_bias else None, dout


def exact(x, weight, bias, dout, padding, groups):
    """Return out, dx and dweight as direct sums, in float64 for float32, otherwise longdouble."""
    wide = np.float64 if x.dtype == np.float32 else np.longdouble
    (top, left), (_, _, H, W), (_, _, OH, OW) = padding, x.shape, dout.shape
    frame = (0, 0), (0, 0), (top, top), (left, left)
    seen = np.pad(x.astype(wide), frame).reshape(len(x), groups, -1, H + 2 * top, W + 2 * left)
    filters = weight.astype(wide).reshape(groups, -1, *weight.shape[1:])
    d = dout.astype(wide).reshape(len(x), groups, -1, OH, OW)
    out, dseen, dfilters = np.zeros_like(d), np.zeros_like(seen), np.zeros_like(filters)
    for i, j in np.ndindex(3, 3):
        here = (..., slice(i, i + OH), slice(j, j + OW))
        out += np.einsum("ngcpq,gkc->ngkpq", seen[here], filters[..., i, j])
        dseen[here] += np.einsum("ngkpq,gkc->ngcpq", d, filters[..., i, j])
        dfilters[..., i, j] = np.einsum("ngkpq,ngcpq->gkc", d, seen[here])
    out = out.reshape(dout.shape) + (0 if bias is None else bias[:, None, None])
    dx = dseen[..., top : top + H, left : left + W].reshape(x.shape)
    return out, dx, dfilters.reshape(weight.shape)


def winograd_results(sizes, arrays, ops=OPS):
    """Return out, dx and dweight, and the bounds of their errors; check the guard bands."""
    x, weight, bias, dout = arrays
    with guarded() as guards:
        laid = guards.array(x, NHWC), guards.array(weight)
        added = None if bias is None else guards.array(bias)
        where = dict(padding=sizes.padding, groups=sizes.groups)
        out, cache = ops.conv2d_forward(*laid, added, **where)
        assert winograd_applies(cache)
        laid_dout, plus = guards.array(dout, NHWC), guards.array(x, NHWC)
        dx, dweight, dbias = ops.conv2d_backward(laid_dout, cache)
        check_settings(laid_dout, cache, (dx, dweight, dbias), plus, ops)
        return [a.copy() for a in (out, dx, dweight)], rounding(dout, cache)


def ratios(sizes, arrays):
    """Return the largest ratio of an error to its bound, for out, dx and dweight."""
    ours, bounds = winograd_results(sizes, arrays)
    theirs = exact(*arrays, sizes.padding, sizes.groups)
    results = []
    for a, b, bound in zip(ours, theirs, bounds, strict=True):
        assert a.shape == b.shape == bound.shape
        assert np.isfinite(a).all()
        error = abs(a.astype(b.dtype) - b)
        assert not error[bound == 0].any()
        results.append(float((error / np.where(bound == 0, 1, bound)).max()))
    return results


@over_dtypes
@some
@given(sizes=SIZES, seed=SEEDS)
def test_within_the_bound(dtype, sizes, seed):
    """NaN is around all arrays, and in all uninitialised arrays."""
    assert max(ratios(sizes, draw(sizes, dtype, seed))) <= MAX_RATIO


@over_dtypes
@pytest.mark.parametrize("cut", CUTS)
def test_every_cut_into_blocks(dtype, cut):
    assert max(ratios(CUTS[cut], draw(CUTS[cut], dtype))) <= MAX_RATIO


@over_dtypes
def test_the_bound_is_not_far_away(dtype):
    """Most errors cancel, but a bound that is too large by a factor of 100 fails."""
    sizes = Sizes(N=1, H=4, W=4, bias=False)
    assert min(ratios(sizes, draw(sizes, dtype))) > 1 / 1000


def test_merged_groups_are_within_the_bound_too():
    lanes = lanes_of(np.dtype(np.float32))
    x, weight, bias, dout = draw(Sizes(C=2, K=2), np.float32)
    arrays = x, np.ascontiguousarray(weight[:, :2]), bias, dout
    assert max(ratios(Sizes(groups=lanes), arrays)) <= MAX_RATIO


@pytest.mark.skipif(AS_LOOPS or numba.config.NUMBA_NUM_THREADS < 2, reason="there is one thread")
@over_dtypes
@pytest.mark.parametrize("cut", CUTS)
def test_the_same_bits_on_one_and_two_threads(dtype, cut):
    arrays = draw(CUTS[cut], dtype)
    runs = [winograd_results(CUTS[cut], arrays, OPS.using(threads=k))[0] for k in (1, 2, 2)]
    for array, two_threads, again in zip(*runs, strict=True):
        assert array.tobytes() == two_threads.tobytes() == again.tobytes()


@np.errstate(all="ignore")  # where kernels run as Python
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_reaches_its_tile(bad):
    """In the direct convolution, it would only reach the windows that read it."""
    x, weight, _, dout = draw(Sizes(N=2, H=12, W=12), np.float32)
    _, cache = OPS.conv2d_forward(x, weight, padding=(1, 1))
    dout[0, 2, 4, 4] = bad
    dx, dweight, _ = OPS.conv2d_backward(dout, cache)
    assert not np.isfinite(dx[0, :, 3:6, 3:6]).any()
    assert np.isfinite(dx[1]).all()
    assert not np.isfinite(dweight[2]).any()
    assert np.isfinite(dweight[:2]).all()
    x[1, 3, 5, 6] = bad
    out, _ = OPS.conv2d_forward(x, weight, padding=(1, 1))
    assert not np.isfinite(out[1, :, 4:7, 5:8]).any()  # the windows that read it
    assert not np.isfinite(out[1, :, 4:8, 4:8]).any() or np.isinf(bad)
    out[1, :, 4:8, 4:8] = 0
    assert np.isfinite(out).all()


@over_dtypes
def test_a_training_step_of_a_net(dtype):
    """Loss, gradients and statistics agree to half of their digits, as no ReLU changes sign."""
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((4, 3, 32, 32)), rng.integers(0, 10, 4)
    results = []
    for ops, kind in ((reference, np.float64), (OPS, dtype)):
        net = models.build("se_resnet8", reduction=4, ops=ops, dtype=kind)
        logits, cache = net.forward(x.astype(kind), training=True)
        loss, loss_cache = ops.softmax_cross_entropy_forward(logits, labels)
        dlogits, _ = ops.softmax_cross_entropy_backward(np.ones((), kind), loss_cache)
        _, grads = net.backward(dlogits, cache)
        results.append({"loss": loss, **grads, **net.named_state()})
    half = np.sqrt(np.finfo(dtype).eps)
    for name, theirs in results[0].items():
        assert np.linalg.norm(results[1][name] - theirs) <= half * np.linalg.norm(theirs), name


@few
@given(N=st.integers(1, 300), H=st.integers(1, 100), W=st.integers(1, 100))
def test_blocks_are_made_of_all_tiles_once(N, H, W):
    high, wide, images, rows = blocks_of(N, (H, W))
    assert (high, wide) == ((H + 3) // 4, (W + 3) // 4)
    assert 1 <= images <= N
    assert 1 <= rows <= high
    assert images == 1 or rows == high
