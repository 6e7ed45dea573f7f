"""The back end of shapes: the reference's shapes, dtypes, errors, aliases and temporaries."""

import tracemalloc
import types

import numpy as np
import pytest

from minise import models, nn
from minise.contract.case import line, optional
from minise.contract.rules import cache_class
from minise.ops import cost, jit, reference
from minise.ops.backend import load_ops
from minise.ops.cost.array import ShapeArray
from minise.ops.cost.ledger import CachingLedger
from minise.ops.cuda.workspace import workspace as cuda_workspace
from minise.ops.jit.convolution.workspace import workspace
from minise.ops.jit.vector import memory
from tests.ops.cases import CASES, OPS, draw

ALL = {f"{op} {name}": case for op, cases in CASES.items() for name, case in cases.items()}
FIRST = {case.op: case for case in reversed(ALL.values())}


def shapes_of(ops, value):
    """Return arguments with arrays of shapes in place of arrays."""
    if isinstance(value, np.ndarray):
        return ops.shaped(value.shape, value.dtype)
    if isinstance(value, dict):
        return {name: shapes_of(ops, entry) for name, entry in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(shapes_of(ops, entry) for entry in value)
    return value


def kinds(value):
    """Return shapes and dtypes of nested results, with the classes of caches."""
    if isinstance(value, tuple):
        return type(value), [kinds(entry) for entry in value]
    return (value.shape, value.dtype) if hasattr(value, "dtype") else value


def leaves(value):
    """Return all arrays of nested tuples."""
    if isinstance(value, tuple):
        return [array for entry in value for array in leaves(entry)]
    return [value] if isinstance(value, np.ndarray) else []


def aliases(inputs, results):
    """Return the numbers of the results that are, or share memory with, each input and result."""
    arrays = [*leaves(tuple(inputs)), *leaves(results)]
    if isinstance(arrays[0], ShapeArray):
        return [[a.memory is b.memory for b in arrays] for a in arrays]
    return [[np.shares_memory(a, b) for b in arrays] for a in arrays]


@pytest.mark.parametrize("case", ALL.values(), ids=ALL)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_op_has_the_references_results(case, dtype):
    ops, op = cost.Shapes(), case.op
    arrays, keywords = draw(case, np.random.default_rng(0), dtype)
    keywords = {n: v.astype(dtype) if hasattr(v, "astype") else v for n, v in keywords.items()}
    forward, backward = (f"{op}_{half}" for half in ("forward", "backward"))
    real = getattr(reference, forward)(*arrays, **keywords)
    gradients = getattr(reference, backward)(np.ones_like(real[0]), real[1])
    for _ in range(2):  # the second call follows the recipe of the first
        inputs = shapes_of(ops, arrays)
        result = getattr(ops, forward)(*inputs, **shapes_of(ops, keywords))
        assert kinds(result) == kinds(real)
        assert type(result[1]) is cache_class(op)
        if np.ndim(real[0]):  # NumPy returns numbers as scalars
            assert aliases(inputs, result) == aliases(arrays, real)
        dout = ops.shaped(real[0].shape, real[0].dtype)
        assert kinds(getattr(ops, backward)(dout, result[1])) == kinds(gradients)
    assert all(isinstance(array, ShapeArray) for array in leaves(result))


@pytest.mark.parametrize("op", [op for op in OPS if optional(op)])
def test_arrays_that_may_be_none(op):
    ops, case = cost.Shapes(), FIRST[op]
    arrays, keywords = draw(case, np.random.default_rng(0), without=optional(op))
    out, cache = getattr(ops, f"{op}_forward")(*shapes_of(ops, arrays), **shapes_of(ops, keywords))
    real, real_cache = getattr(reference, f"{op}_forward")(*arrays, **keywords)
    assert kinds((out, cache)) == kinds((real, real_cache))
    gradients = getattr(ops, f"{op}_backward")(out, cache)
    assert kinds(gradients) == kinds(getattr(reference, f"{op}_backward")(real, real_cache))


@pytest.mark.parametrize("op", OPS)
def test_mistakes_raise_the_references_errors(op):
    ops = cost.Shapes()
    arrays, keywords = draw(FIRST[op], np.random.default_rng(0), np.float32)
    arrays[0] = arrays[0][None]  # one axis too many, or another shape than the other arrays
    if len(arrays) == 1 and line(op) == "x: ...":
        arrays[0] = arrays[0].astype(np.float16)
    raised = []
    for functions, values in ((reference, arrays), (ops, shapes_of(ops, arrays))):
        with pytest.raises((ValueError, TypeError)) as error:
            getattr(functions, f"{op}_forward")(*values, **shapes_of(ops, keywords))
        raised.append((error.type, str(error.value)))
    assert raised[0] == raised[1]


BUFFERS = 150_000  # bytes of NumPy's own buffers, in which reductions convert to float64
TEMPORARIES = [  # calls of large arrays: an op's name, shapes of its arrays, settings
    ("conv2d", [(16, 16, 32, 32), (16, 16, 3, 3)], dict(padding=(1, 1))),
    ("conv2d", [(16, 16, 32, 32), (16, 16, 1, 1)], {}),
    ("conv2d", [(16, 16, 32, 32), (32, 4, 3, 3), (32,)], dict(stride=(2, 2), groups=4)),
    ("squeeze_excite", [(16, 16, 32, 32), (4, 16), (4,), (16, 4), (16,)], {}),
    ("max_pool2d", [(16, 16, 32, 32)], dict(kernel=(2, 2))),
    ("avg_pool2d", [(16, 16, 32, 32)], dict(kernel=(2, 2))),
    ("add", [(16, 16, 32, 32)] * 2, {}),
    ("concat", [(16, 16, 32, 32)] * 3, {}),
    ("channel_shuffle", [(16, 16, 32, 32)], dict(groups=4)),
    ("relu", [(16, 16, 32, 32)], {}),
    ("flatten", [(16, 16, 32, 32)], {}),
    ("global_avg_pool2d", [(16, 16, 32, 32)], {}),
    *[
        (op, [(16, 16, 32, 32), (16,), (16,), *others], dict(training=True))
        for op, others in (
            ("batch_norm2d", []),
            ("batch_norm2d_relu", []),
            ("batch_norm2d_add_relu", [(16, 16, 32, 32)]),
            ("se_block_tail", [(4, 16), (4,), (16, 4), (16,), (16, 16, 32, 32)]),
        )
    ],
]


def traced(function, *arguments, **settings):
    """Return the results of a call, and its largest number of bytes by NumPy's own count."""
    tracemalloc.start()
    try:
        results = function(*arguments, **settings)
        return results, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("op", "sizes", "settings"), TEMPORARIES)
def test_temporaries_count_as_numpy_counts_them(op, sizes, settings):
    arrays, ops = [np.ones(size, np.float32) for size in sizes], cost.Shapes()
    keywords = dict(settings)
    if "training" in settings:
        keywords |= {name: np.ones(16, np.float32) for name in ("running_mean", "running_var")}
    inputs, shaped = shapes_of(ops, arrays), shapes_of(ops, keywords)
    forward, backward = (f"{op}_{half}" for half in ("forward", "backward"))
    real, most = traced(getattr(reference, forward), *arrays, **keywords)
    for _ in range(2):  # the second call follows the recipe of the first
        before = ops.ledger.live
        ops.ledger.reset()
        result = getattr(ops, forward)(*inputs, **shaped)
        assert ops.ledger.peak - before == pytest.approx(most, rel=0.02, abs=BUFFERS)
    _, most = traced(getattr(reference, backward), np.ones_like(real[0]), real[1])
    before = ops.ledger.live
    ops.ledger.reset()
    getattr(ops, backward)(*result)
    assert ops.ledger.peak - before == pytest.approx(most, rel=0.02, abs=BUFFERS)


def test_bytes_count_while_an_array_or_a_view_of_it_lives():
    ops = cost.Shapes()
    x = ops.shaped((2, 3, 4), np.float32)
    view = x.transpose(2, 0, 1)[:, :1]
    assert (ops.ledger.live, view.shape) == (96, (4, 1, 3))
    del x
    assert ops.ledger.live == 96
    total = view + view
    assert (ops.ledger.live, total.strides) == (96 + 48, (0, 0, 0))
    del view, total
    assert (ops.ledger.live, ops.ledger.peak) == (0, 144)


def test_a_reshape_copies_where_numpy_does():
    ops = cost.Shapes()
    for shape, axes, to in [
        ((2, 3, 4), (0, 1, 2), (6, 4)),
        ((2, 3, 4), (1, 0, 2), (3, -1)),
        ((2, 3, 4), (1, 0, 2), (6, 4)),
        ((2, 3, 4), (0, 2, 1), (2, 12)),
        ((4, 1, 6), (2, 1, 0), (2, 3, 4)),
        ((4, 1, 6), (2, 1, 0), (24,)),
    ]:
        real, shaped = np.zeros(shape).transpose(axes), ops.shaped(shape, float).transpose(axes)
        ours, theirs = shaped.reshape(to), real.reshape(to)
        assert ours.shape == theirs.shape
        assert (ours.memory is shaped.memory) == np.shares_memory(real, theirs)
        steps = [s // 8 for s, size in zip(theirs.strides, theirs.shape, strict=True) if size > 1]
        assert [s for s, size in zip(ours.steps, ours.shape, strict=True) if size > 1] == steps


def test_settings_of_a_backward():
    ops = cost.Shapes()
    x, weight = ops.shaped((2, 3, 8, 8), np.float32), ops.shaped((4, 3, 3, 3), np.float32)
    out, cache = ops.conv2d_forward(x, weight)
    dx, dweight, dbias = ops.conv2d_backward(out, cache, plus=x)
    assert (dx.shape, dweight.shape, dbias) == (x.shape, weight.shape, None)
    assert ops.conv2d_backward(out, cache, needs_dx=False)[0] is None
    with pytest.raises(ValueError, match=r"conv2d: plus has shape \(2, 4, 6, 6\), expected"):
        ops.conv2d_backward(out, cache, plus=out)


def test_a_method_of_numpy_without_a_rule_is_counted():
    ops = cost.Shapes()
    x = ops.shaped((2, 50), np.float32)
    repeated, total = x.repeat(3, axis=1), np.cumsum(x, axis=1)
    assert (type(repeated), repeated.shape, total.shape) == (ShapeArray, (2, 150), (2, 50))
    assert ops.ledger.live == 400 + 1200 + 400


def test_the_module_is_a_back_end():
    net = models.build("se_resnet8", ops=cost)
    out, cache = net.forward(cost.shaped((4, 3, 8, 8), np.float32), training=True)
    dx, grads = net.backward(out, cache)
    assert (out.shape, dx.shape, dx.strides) == ((4, 10), (4, 3, 8, 8), (0, 0, 0, 0))
    assert {name: grad.shape for name, grad in grads.items()} == {
        name: param.shape for name, param in net.named_parameters().items()
    }
    assert net.predict(cost.shaped((4, 3, 8, 8), np.float32)).shape == (4, 10)
    assert load_ops("minise.ops.cost") is cost


def test_parameters_are_not_drawn():
    ops = cost.Shapes()
    models.build("resnet8", ops=ops)
    _, most = traced(models.build, "wrn_16_8", ops=ops)
    assert most < 1e6 < 40e6 < ops.ledger.peak


def test_a_layer_of_the_users_own_in_numpy():
    class Own(nn.Layer):
        def forward(self, x, training):
            scaled = np.tanh(x) * 2 - x.mean(axis=(2, 3), keepdims=True)
            return np.stack([scaled, np.sort(x, axis=3)], axis=1).sum(axis=1), None

    ops = cost.Shapes()
    out, _ = Own(ops).forward(ops.shaped((2, 3, 4, 5), np.float32), training=True)
    assert (out.shape, out.dtype, type(out)) == ((2, 3, 4, 5), np.float32, ShapeArray)


def test_the_caching_allocator_is_imitated():
    rng = np.random.default_rng(0)
    region, ledger, living = memory.Region(10_000_000), CachingLedger(smallest=100), []
    for size in rng.choice([1000, 2000, 3000, 7000, 50_000], 300).tolist():
        if living and rng.random() < 0.5:
            freed, owner = living.pop(int(rng.integers(len(living))))
            ledger.give(freed, True)
            region.freed.append(owner.block)
        living.append((size, types.SimpleNamespace()))
        assert region.allocate(living[-1][1], size)
        ledger.take(size, True)
        assert (ledger.used, ledger.most_used) == (region.used_bytes, region.peak)
        assert ledger.resident() == region.peak <= region.touched_bytes < 1.3 * region.peak


CONVOLUTIONS = {  # channels, filters, kernel, settings
    "winograd": (32, 64, 3, dict(padding=(1, 1))),
    "winograd in groups": (64, 64, 3, dict(padding=(1, 1), groups=2)),
    "winograd of few tiles": (128, 160, 3, dict(padding=(1, 0))),
    "planes": (3, 32, 3, dict(padding=(1, 1))),
    "direct": (32, 64, 3, dict(padding=(1, 1), stride=(2, 2))),
    "pointwise": (64, 128, 1, {}),
    "depthwise": (64, 64, 3, dict(padding=(1, 1), groups=64)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_workspaces_of_jit_are_those_of_its_allocator(name, monkeypatch):
    channels, filters, kernel, settings = CONVOLUTIONS[name]
    sizes, allocate = [], memory._region.allocate
    monkeypatch.setattr(
        memory._region,
        "allocate",
        lambda owner, size: (sizes.append(size), allocate(owner, size))[1],
    )
    size = 8 if name == "winograd of few tiles" else 32
    x = np.ones((8, channels, size, size), np.float32)
    weight = np.ones((filters, channels // settings.get("groups", 1), kernel, kernel), np.float32)
    out, cache = jit.conv2d_forward(x, weight, **settings)
    pooled, _ = workspace("conv2d_forward", (x, weight), settings, (out, cache))
    assert sorted(sizes) == counted([out.nbytes, *pooled])
    dout = np.ascontiguousarray(out.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    sizes.clear()
    dx, dweight, dbias = jit.conv2d_backward(dout, cache)
    pooled, _ = workspace("conv2d_backward", (dout, cache), {}, (dx, dweight, dbias))
    results = [dx.nbytes] if name == "depthwise" else [dx.nbytes, dweight.nbytes]
    assert sorted(sizes) == counted([*results, *pooled])


def counted(sizes):
    """Return the sizes that the allocator of jit is asked for, with its padding."""
    return sorted(memory.padded(size) for size in sizes if size > memory.MAX_UNPOOLED_BYTES)


def columns_of_cuda(x, weight, **settings):
    results = cost.conv2d_forward(x, weight, **settings)
    return cuda_workspace("conv2d_forward", (x, weight), settings, results)


def test_columns_of_cuda_are_bounded():
    x, weight = (cost.shaped(shape, np.float32) for shape in ((8, 4, 16, 16), (6, 4, 3, 3)))
    declared = columns_of_cuda(x, weight, padding=(1, 1))
    assert declared == ([], 8 * 4 * 9 * 16 * 16 * 4)
    many = cost.shaped((1 << 20, 4, 16, 16), np.float32)
    assert (1 << 27) < columns_of_cuda(many, weight)[1] <= 1 << 28
    assert cuda_workspace("relu_forward", (x,), {}, cost.relu_forward(x)) == ([], 0)
    assert cost.modelled("cuda").workspace is cuda_workspace


def test_an_unknown_back_end():
    with pytest.raises(ValueError, match="cost: ops is 'mine', expected one of reference, jit, cu"):
        cost.modelled("mine")
