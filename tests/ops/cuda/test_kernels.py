"""Every kernel against the reference in float64: edge-case shapes, several thread orders."""

import numpy as np
import pytest

from minise.contract.case import Case
from minise.gradcheck.strategies.drawing import LAYOUTS
from minise.ops import reference
from minise.ops.cuda import arrays
from minise.ops.cuda.launcher import rows_per_warp
from minise.ops.cuda.plan import ENTRIES
from minise.ops.cuda.sources import parameters, source
from tests.ops.cuda.accuracy import (
    REL_TOL_FLOAT32,
    REL_TOL_MOMENTS,
    SHAPES,
    backend,
    cases,
    max_relative_error,
    relative_error,
    relative_error_of_moments,
    simple_backend,
)
from tests.ops.cuda.device import DeviceArray, device
from tests.ops.cuda.emulator import Emulator
from tests.ops.cuda.hosted import on_gpu
from tests.ops.loops import each

FILES = [
    "squeeze_excite",
    "squeeze_excite_tile",
    "block_tail",
    "windows",
    "cross_entropy",
    "sgd",
    "copy",
]
ORDERS = [dict(seed=seed, resident=1 + seed) for seed in range(4)]
over_cases = pytest.mark.parametrize(
    "case", list(cases()), ids=lambda case: f"{case.op} {case.sizes} {case.settings}"
)


@over_cases
@each("order", ORDERS)
def test_close_to_the_reference_in_any_order(case, order):
    assert max_relative_error(backend(**order), case) < REL_TOL_FLOAT32


@each("sizes", SHAPES.values())
@each("order", ORDERS)
def test_simple_kernels_for_shapes_that_fit_a_tile(sizes, order):
    case = Case("squeeze_excite", sizes)
    assert max_relative_error(simple_backend(**order), case) < REL_TOL_FLOAT32


@pytest.mark.gpu
@over_cases
def test_close_to_the_reference_on_a_gpu(case):
    assert max_relative_error(on_gpu, case) < REL_TOL_FLOAT32


@pytest.mark.gpu
@pytest.mark.parametrize("sizes", SHAPES.values(), ids=SHAPES)
def test_simple_kernels_on_a_gpu(sizes):
    ops = on_gpu.using(squeeze_excite="simple")
    assert max_relative_error(ops, Case("squeeze_excite", sizes)) < REL_TOL_FLOAT32


@pytest.mark.gpu
def test_the_update_on_a_gpu():
    rng, settings = np.random.default_rng(0), dict(rate=0.1, momentum=0.9, weight_decay=0.1)
    arrays = [rng.standard_normal(1001).astype(np.float32) for _ in range(3)]
    expected = [array.astype(np.float64) for array in arrays]
    on_gpu.sgd_update(*arrays, **settings, nesterov=True)
    reference.sgd_update(*expected, **settings, nesterov=True)
    assert max(map(relative_error, arrays, expected)) < REL_TOL_FLOAT32


def update_one_by_one(params, grads, velocities, *, weight_decays, **settings):
    for *param, weight_decay in zip(params, grads, velocities, weight_decays, strict=True):
        reference.sgd_update(*param, weight_decay=weight_decay, **settings)


@pytest.mark.parametrize("size", [1, 2047, 2048, 6145])
def test_copies_by_one_kernel(size):
    rng, launcher = np.random.default_rng(0), Emulator(device)
    sources = [rng.standard_normal(k * size).astype(np.float32) for k in (1, 2, 3)]
    results = arrays.copies(launcher, [DeviceArray(a) for a in sources])
    assert launcher.launches == ["copies"]
    for a, b in zip(results, sources, strict=True):
        np.testing.assert_array_equal(a.array, b)
        assert not np.shares_memory(a.array, b)


def test_copies_of_any_layout_dtype_and_number():
    launcher = Emulator(device)
    floats = [np.full(2, k, np.float32) for k in range(113)]
    sources = [*floats, np.arange(6.0).reshape(2, 3).T, np.array(7), np.zeros((0, 2), np.float32)]
    results = arrays.copies(launcher, [DeviceArray(a) for a in sources])
    assert launcher.launches == 3 * ["copies"]
    for a, b in zip(results, sources, strict=True):
        np.testing.assert_array_equal(a.array, b)
        assert a.dtype == b.dtype


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@each("order", ORDERS)
def test_many_updates_by_one_kernel(dtype, order):
    """Sizes that are and are not multiples of a chunk, below and above a block's."""
    rng, sizes = np.random.default_rng(0), [1, 4, 2047, 2048, 2049, 6144, 5]
    rows = [[rng.standard_normal(size) for size in sizes] for _ in range(3)]
    settings = dict(rate=0.1, momentum=0.9, nesterov=True)
    settings["weight_decays"] = [0.1 * (k % 3) for k in range(len(sizes))]
    launcher = Emulator(device, **order)
    params, grads, velocities = ([device.asarray(a, dtype) for a in row] for row in rows)
    arrays.sgd_updates(launcher, params, grads, velocities, **settings)
    assert launcher.launches == ["sgd_updates"]
    update_one_by_one(*rows, **settings)
    tolerance = REL_TOL_FLOAT32 if dtype == np.float32 else 1e-15
    for results, expected in ((params, rows[0]), (velocities, rows[2])):
        for a, b in zip(results, expected, strict=True):
            assert relative_error(a.get(), b) < tolerance
    for a, b in zip(grads, rows[1], strict=True):
        np.testing.assert_array_equal(a.get(), b.astype(dtype))


def test_updates_of_any_layout_dtype_and_number():
    """Three launches: 112 parameters in float32, the other eight, and one in float64."""
    rng = np.random.default_rng(0)
    plain = [rng.standard_normal(3).astype(np.float32) for _ in range(120)]
    strided = rng.standard_normal((4, 6)).astype(np.float32)
    wide, empty = rng.standard_normal(5), np.zeros((0, 2), np.float32)

    def rows():
        copies = [array.copy() for array in (*plain, wide, empty)]
        return [*copies, strided.copy()[:, ::2]]

    launcher = Emulator(device)
    settings = dict(rate=0.1, momentum=0.5, nesterov=False, weight_decays=[0.1] * 123)
    expected, params = rows(), [DeviceArray(a) for a in rows()]
    update_one_by_one(expected, rows(), rows(), **settings)
    others = ([DeviceArray(a) for a in rows()] for _ in range(2))
    arrays.sgd_updates(launcher, params, *others, **settings)
    assert launcher.launches == 3 * ["sgd_updates"]
    for a, b in zip(params, expected, strict=True):
        np.testing.assert_allclose(a.array, b, rtol=1e-6)


def test_an_update_refuses_an_array_that_a_kernel_would_misread():
    param, grad = device.asarray([1.0, 2.0], np.float32), device.asarray([1.0, 2.0])
    settings = dict(rate=0.1, momentum=0.5, nesterov=False, weight_decays=[0.1])
    with pytest.raises(TypeError, match="sgd_updates: grads is float64 of .*, expected an arr"):
        arrays.sgd_updates(Emulator(device), [param], [grad], [param], **settings)
    host = np.ones(2, np.float32)
    with pytest.raises(TypeError, match="sgd_updates: grads is float32 of numpy, expected an arr"):
        arrays.sgd_updates(Emulator(device), [param], [host], [param], **settings)


@pytest.mark.parametrize("name", ["grad", "velocity"])
def test_an_update_refuses_an_array_of_another_shape(name):
    """The kernel would read and write beyond its end."""
    by_name = {"param": device.asarray([1.0, 2.0]), name: device.asarray([1.0])}
    rows = [[by_name.get(key, by_name["param"])] for key in ("param", "grad", "velocity")]
    settings = dict(rate=0.1, momentum=0.5, nesterov=False, weight_decays=[0.1])
    with pytest.raises(ValueError, match=rf"sgd_update: {name} has shape \(1,\), expected \(2,\)"):
        arrays.sgd_updates(Emulator(device), *rows, **settings)


def test_the_tables_of_an_update_fit_a_kernels_parameters():
    """At most 4 KB: three addresses, two integers and a number for each parameter, and scalars."""
    line = f"ENTRIES = sizeof(real) == 4 ? {ENTRIES[4]} : {ENTRIES[8]};"
    assert line in source("sgd.cu", np.dtype(np.float32)).text
    for size, entries in ENTRIES.items():
        assert entries * (3 * 8 + 2 * 4 + size) + 4 * 8 <= 4096


def test_every_kernel_is_run():
    """By the cases above, together with the update."""
    ops = backend()
    sizes = SHAPES["all sizes one"]
    simple = simple_backend()
    for case in cases():
        max_relative_error(ops, case)
    max_relative_error(simple, Case("squeeze_excite", sizes))
    param = np.ones(3, np.float32)
    ops.sgd_update(
        param, param, param.copy(), rate=0.1, momentum=0.9, nesterov=True, weight_decay=0.1
    )
    ops.ops.copies([DeviceArray(param)])
    ran = {*ops.ops.launcher.launches, *simple.ops.launcher.launches}
    assert ran - {"multiply"} == {
        name for file in FILES for name in parameters(source(f"{file}.cu", param.dtype).text)
    }


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: f"seed{order['seed']}")
def test_the_same_bits_in_any_order(order):
    case = Case("se_block_tail", SHAPES["C no multiple of a warp"], dict(training=True))
    for op, settings in (("se_block_tail", dict(training=True)), ("squeeze_excite", {})):
        case = Case(op, SHAPES["C no multiple of a warp"], settings)
        assert max_relative_error(backend(**order), case) == max_relative_error(backend(), case)


@pytest.mark.parametrize("kernels", ["simple", "tile"])
@each("sizes", [dict(C=8, W=7, R=2), dict(C=6, W=7, R=9), dict(C=160, W=1, R=60)])
def test_the_bits_of_an_image_do_not_depend_on_the_batch(kernels, sizes):
    """In forward; rows of 7 x 7 are read in groups of one image, and large gates by 8 images."""
    C, W, R = sizes["C"], sizes["W"], sizes["R"]
    rng = np.random.default_rng(0)
    x = rng.standard_normal((9, C, W, W)).astype(np.float32)
    w1, w2 = (rng.standard_normal(shape).astype(np.float32) for shape in ((R, C), (C, R)))
    ops = backend().using(squeeze_excite=kernels)
    out, cache = ops.squeeze_excite_forward(x, w1, None, w2, None)
    dx, *_ = ops.squeeze_excite_backward(out, cache)
    for n in (0, 8):
        single, cache = ops.squeeze_excite_forward(x[n : n + 1], w1, None, w2, None)
        np.testing.assert_array_equal(single[0], out[n])
        np.testing.assert_array_equal(ops.squeeze_excite_backward(single, cache)[0][0], dx[n])


@pytest.mark.parametrize(
    ("C", "H", "W", "dtype", "rows"),
    [
        (2048, 7, 7, np.float32, 4),
        (2048, 7, 7, np.float64, 2),
        (1024, 14, 14, np.float32, 1),  # a row is 49 chunks
        (6, 7, 7, np.float32, 1),  # a group would have rows of two images
        (8, 1, 3, np.float32, 1),  # a chunk would have three rows
        (8, 15, 15, np.float32, 1),
    ],
)
def test_the_rows_of_a_warp(C, H, W, dtype, rows):
    assert rows_per_warp(np.zeros((1, C, H, W), dtype)) == rows


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64, np.uint64])
def test_labels_of_any_dtype(dtype):
    """Labels out of range make the loss NaN, and only the gradients of their rows wrong."""
    logits = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    labels = np.array([0, 2, 1, 1], dtype)
    loss, cache = backend().softmax_cross_entropy_forward(logits, labels)
    expected, _ = reference.softmax_cross_entropy_forward(logits, labels)
    assert loss.dtype == np.float32
    assert float(loss) == pytest.approx(float(expected), rel=1e-6)
    for wrong in {3, np.iinfo(dtype).max, np.iinfo(dtype).min or 3}:
        labels[1] = wrong
        loss, cache = backend().softmax_cross_entropy_forward(logits, labels)
        assert np.isnan(loss)
        dlogits, _ = backend().softmax_cross_entropy_backward(np.ones((), np.float32), cache)
        assert (dlogits[1] == 0).all()
        assert (dlogits[0] != 0).all()


def test_logits_that_are_not_finite():
    """Log-probabilities are equal to those of the reference."""
    logits = np.zeros((5, 40), np.float32)
    logits[1, 39], logits[2, 3], logits[3, 0], logits[4] = np.nan, -np.inf, np.inf, -np.inf
    labels = np.zeros(5, np.int64)
    with np.errstate(invalid="ignore"):
        _, cache = backend().softmax_cross_entropy_forward(logits, labels)
        _, expected = reference.softmax_cross_entropy_forward(logits, labels)
    np.testing.assert_allclose(cache.logprob, expected.logprob, rtol=1e-6)


def test_a_large_mean_does_not_reduce_the_variances_precision():
    assert relative_error_of_moments(backend()) < REL_TOL_MOMENTS


def test_an_outlier_at_the_start_does_not_reduce_the_variances_precision():
    x = np.random.default_rng(0).standard_normal((2, 2, 30, 40)).astype(np.float32)
    x[:, :, 0, 0] = 1e4
    ones, zeros = np.ones(2, np.float32), np.zeros(2, np.float32)
    statistics = dict(running_mean=zeros, running_var=ones, training=True, momentum=1.0)
    _, cache = backend().batch_norm2d_forward(x, ones, zeros, **statistics)
    assert (
        relative_error(cache.running_var, x.astype(np.float64).var(axis=(0, 2, 3), ddof=1)) < 1e-6
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_kernels_receive_contiguous_copies_of_views(layout):
    """Views have any strides and alignment; kernels read 16 aligned bytes at a time."""
    rng = np.random.default_rng(0)
    ops = backend()
    inputs = [rng.standard_normal(shape) for shape in ((2, 3, 4, 4), (2, 3), (3, 2))]
    x, w1, w2 = (LAYOUTS[layout](a) for a in inputs)
    out, cache = ops.squeeze_excite_forward(x, w1, None, w2, None)
    expected, cache2 = ops.squeeze_excite_forward(inputs[0], inputs[1], None, inputs[2], None)
    np.testing.assert_array_equal(out, expected)
    for a, b in zip(
        ops.squeeze_excite_backward(x, cache),
        ops.squeeze_excite_backward(inputs[0], cache2),
        strict=True,
    ):
        assert a is b is None or (a == b).all()


def test_an_address_that_is_no_multiple_of_16_is_copied():
    memory = np.random.default_rng(0).standard_normal(1 + 2 * 3 * 16).astype(np.float32)
    x = memory[1:].reshape(2, 3, 4, 4)
    assert x.ctypes.data % 16
    w1, w2 = np.ones((1, 3), np.float32), np.ones((3, 1), np.float32)
    out, _ = backend().squeeze_excite_forward(x, w1, None, w2, None)
    again, _ = backend().squeeze_excite_forward(x.copy(), w1, None, w2, None)
    np.testing.assert_array_equal(out, again)
