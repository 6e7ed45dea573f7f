"""Sums in float32 have the same precision in every memory layout.

Long sums have up to 2^20 positive terms: sequential summation in float32 would have a relative
error of 1e-5 to 1e-2. Inputs are rounded to float32 first, so that float64 gives the exact result.
"""

import ast
import inspect
from pathlib import Path

import numpy as np
import pytest

from minise.contract.spec import SPECS
from minise.gradcheck.strategies.drawing import draw_arrays
from minise.ops import jit, reference
from minise.ops.reference import sums
from tests.ops.cases import line, magnitudes
from tests.ops.loops import each

over_both = pytest.mark.parametrize("ops", [reference, jit], ids=["reference", "jit"])

# A rounding to float32 has a relative error of at most 2^-24. magnitudes() counts one rounding per
# step of an op; the longest chain has fewer than 16: rstd, from mean, centred, its square, var,
# + eps, the square root and its reciprocal. A sum adds at most one, because its terms are summed in
# float64, with an error of at most 2^20 * 2^-53. 16 * 2^-24 is 9.5e-7.
REL_TOL_FLOAT32 = 16 * 2.0**-24


def stored(array, axis, position):
    """Return a copy of the array whose axis is at another position in memory."""
    if array.ndim < 2:
        return array
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, axis, position)), position, axis)


LAYOUTS = {
    "C order": lambda a: a.copy(order="C"),
    "Fortran order": lambda a: a.copy(order="F"),
    "channels last": lambda a: stored(a, 1, -1),
    "channels outermost": lambda a: stored(a, 1, 0),
    "strided": lambda a: a.repeat(2, axis=-1)[..., ::2] if a.ndim else a,
    "reversed": lambda a: np.flip(np.flip(a).copy()),
}
in_layouts = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)

LONG = [case for spec in SPECS.values() for case in spec.long_sums]


def draw_positive(op, sizes, settings):
    """Return positive float32 inputs, keyword arguments and dout."""
    rng = np.random.default_rng(0)
    arrays, keywords = draw_arrays(line(op), sizes, rng, np.float32)
    inputs = [abs(a) for a in arrays]
    if "running_mean" in keywords:
        inputs[2] += 10  # beta is so large that all ReLUs are active
    keywords.update(settings)
    out, _ = getattr(jit, f"{op}_forward")(*inputs, **keywords)
    dout = np.asarray(abs(rng.standard_normal(out.shape)), np.float32)
    return inputs, keywords, dout


def widened(value):
    floats = isinstance(value, np.ndarray) and value.dtype == np.float32
    return value.astype(np.float64) if floats else value


def run(ops, op, inputs, keywords, dout):
    """Return a list of out and the gradients, and a dict of batch statistics."""
    out, cache = getattr(ops, f"{op}_forward")(*inputs, **keywords)
    gradients = getattr(ops, f"{op}_backward")(dout, cache)
    names = [name for name in ("mean", "running_var") if hasattr(cache, name)]
    return [out, *gradients], {name: getattr(cache, name) for name in names}


@pytest.mark.parametrize("case", LONG, ids=[case.op for case in LONG])
def test_every_layout_against_float64(case):
    op = case.op
    inputs, keywords, dout = draw_positive(op, case.sizes, case.settings)
    wide = [widened(a) for a in inputs], {k: widened(a) for k, a in keywords.items()}, widened(dout)
    exact, exact_statistics = run(reference, op, *wide)
    bounds = magnitudes(op, *wide)
    for name, layout in LAYOUTS.items():
        arranged = [layout(a) for a in inputs], keywords, layout(dout)
        for ops in (reference, jit):
            ours, statistics = run(ops, op, *arranged)
            for a, b, magnitude in zip(ours, exact, bounds, strict=True):
                if b is not None:
                    assert a.dtype == np.float32
                    assert (abs(a - b) <= REL_TOL_FLOAT32 * magnitude).all(), (name, ops)
            for key, b in exact_statistics.items():  # all terms are positive
                assert (abs(statistics[key] - b) <= REL_TOL_FLOAT32 * b).all(), (name, ops, key)


@in_layouts
@pytest.mark.parametrize(("C", "K"), [(1, 3), (2, 3), (3, 1)])
def test_convolution_in_every_layout(layout, C, K):
    """dweight has the same bits; out and dx are sums of few terms."""
    sizes = dict(N=2, C=C, K=K, KH=1, KW=1, H=256, W=256)
    inputs, keywords, dout = draw_positive("conv2d", sizes, {})
    arranged = [layout(a) for a in inputs], keywords, layout(dout)
    wide = [widened(a) for a in inputs], keywords, widened(dout)
    (*_, dweight, _), _ = run(reference, "conv2d", inputs, keywords, dout)
    exact, _ = run(reference, "conv2d", *wide)
    bounds = magnitudes("conv2d", *wide)
    for ops in (reference, jit):
        ours, _ = run(ops, "conv2d", *arranged)
        if ops is reference:
            np.testing.assert_array_equal(ours[2], dweight)
        for k in (0, 1, 3):  # out, dx and dbias
            assert (abs(ours[k] - exact[k]) <= REL_TOL_FLOAT32 * bounds[k]).all(), ops


@over_both
@each("value", [255.0, 0.1, -1000.3, 1 / 3, 1e30])
@each("shape", [(128, 2, 32, 32), (7, 3, 5, 11)])
@in_layouts
def test_a_constant_channel_normalises_to_zero(ops, value, shape, layout):
    """Sums of up to 2^29 equal float32 are exact in float64, so the mean is exact."""
    C = shape[1]
    ones, zeros = np.ones(C, np.float32), np.zeros(C, np.float32)
    statistics = dict(running_mean=zeros, running_var=ones, training=True)
    x = layout(np.full(shape, value, np.float32))
    out, cache = ops.batch_norm2d_forward(x, ones, zeros, **statistics)
    assert not out.any()
    assert (cache.mean == np.float32(value)).all()
    shortcut = np.full_like(x, 3)
    out, _ = ops.batch_norm2d_add_relu_forward(x, ones, zeros, shortcut, **statistics)
    assert (out == 3).all()


@over_both
def test_broadcast_images(ops):
    """All pixels share one number in memory, as in global_avg_pool2d's dx."""
    x = np.broadcast_to(np.float32(0.1), (1, 2, 1024, 1024))
    assert (ops.global_avg_pool2d_forward(x)[0] == np.float32(0.1)).all()
    weight = np.ones((2, 2, 1, 1), np.float32)
    _, cache = ops.conv2d_forward(x, weight, np.ones(2, np.float32))
    *_, dbias = ops.conv2d_backward(x, cache)
    assert (dbias == np.float32(0.1) * 2**20).all()  # a power of two is exact


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
def test_sums_by_hand(dtype):
    a = np.array([[1, 2, 3], [4, 5, 6]], dtype)
    results = [
        (sums.sum_over(a, 0), [5, 7, 9]),
        (sums.sum_over(a, (0, 1), keepdims=True), [[21]]),
        (sums.sum_over(a, ()), [[1, 2, 3], [4, 5, 6]]),
        (sums.mean_over(a, 1), [2, 5]),
        (sums.mean_over(a, (1,), keepdims=True), [[2], [5]]),
        (sums.einsum("nc,nr->cr", a, a[:, :1]), [[17], [22], [27]]),
        (sums.matmul(a, a[:1].T), [[1 + 4 + 9], [4 + 10 + 18]]),
    ]
    for ours, expected in results:
        assert ours.dtype == dtype
        assert ours.tolist() == expected


def test_a_complex_factor_makes_a_complex_product():
    """As in a complex step of a single intermediate."""
    a, step = np.ones((2, 2)), np.full((2, 2), 1e-200j)
    assert sums.matmul(a, step).tolist() == [[2e-200j] * 2] * 2
    assert sums.einsum("ij,jk->ik", a, step).tolist() == [[2e-200j] * 2] * 2


def test_the_reference_sums_nowhere_else():
    """Except convolution's products of contiguous rows, and counts of channels."""
    folder = Path(inspect.getfile(reference)).parent
    summing = {"sum", "mean", "einsum", "dot", "matmul", "tensordot", "vdot", "inner", "cumsum"}
    files = []
    for file in sorted(folder.glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            method = "." in called and called.rpartition(".")[2] in summing
            if method or called == "sum" or isinstance(node, ast.MatMult):
                files.append(file.name)
    assert set(files) == {"combine.py", "conv.py", "sums.py"}
    assert (files.count("combine.py"), files.count("conv.py")) == (1, 3)
