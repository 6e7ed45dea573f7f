"""Every kernel against the reference in float64: hard shapes, several orders of the threads."""

import numpy as np
import pytest

from minise.contract.case import Case
from minise.gradcheck.strategies.drawing import LAYOUTS
from minise.ops import reference
from minise.ops.cuda.launcher import parameters, source
from tests.ops.cuda.agree import (
    PROMISED,
    PROMISED_MOMENTS,
    SHAPES,
    apart,
    backend,
    cases,
    distance,
    distance_of_moments,
    simple_backend,
)
from tests.ops.cuda.hosted import on_gpu
from tests.ops.loops import each

FILES = ["squeeze_excite.cu", "squeeze_excite_tile.cu", "block_tail.cu", "windows.cu", "sgd.cu"]
ORDERS = [dict(seed=seed, resident=1 + seed) for seed in range(4)]
over_cases = pytest.mark.parametrize(
    "case", list(cases()), ids=lambda case: f"{case.op} {case.sizes} {case.settings}"
)


@over_cases
@each("order", ORDERS)
def test_close_to_the_reference_in_any_order(case, order):
    assert distance(backend(**order), case) < PROMISED


@each("sizes", SHAPES.values())
@each("order", ORDERS)
def test_the_simple_way_where_a_tile_would_do(sizes, order):
    case = Case("squeeze_excite", sizes)
    assert distance(simple_backend(**order), case) < PROMISED


@pytest.mark.gpu
@over_cases
def test_close_to_the_reference_on_a_gpu(case):
    assert distance(on_gpu, case) < PROMISED


@pytest.mark.gpu
@pytest.mark.parametrize("sizes", SHAPES.values(), ids=SHAPES)
def test_the_simple_way_on_a_gpu(sizes):
    ops = on_gpu.using(squeeze_excite="simple")
    assert distance(ops, Case("squeeze_excite", sizes)) < PROMISED


@pytest.mark.gpu
def test_the_update_on_a_gpu():
    rng, settings = np.random.default_rng(0), dict(rate=0.1, momentum=0.9, weight_decay=0.1)
    arrays = [rng.standard_normal(1001).astype(np.float32) for _ in range(3)]
    expected = [array.astype(np.float64) for array in arrays]
    on_gpu.sgd_update(*arrays, **settings, nesterov=True)
    reference.sgd_update(*expected, **settings, nesterov=True)
    assert max(map(apart, arrays, expected)) < PROMISED


def test_every_kernel_is_run():
    """By the cases above, together with the update."""
    ops = backend()
    sizes = SHAPES["one of all"]
    simple = simple_backend()
    for case in cases():
        distance(ops, case)
    distance(simple, Case("squeeze_excite", sizes))
    one = np.ones(3, np.float32)
    ops.sgd_update(one, one, one.copy(), rate=0.1, momentum=0.9, nesterov=True, weight_decay=0.1)
    ran = {*ops.ops.launcher.launches, *simple.ops.launcher.launches}
    assert ran == {name for file in FILES for name in parameters(source(file, one.dtype).text)}


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: f"seed{order['seed']}")
def test_the_same_bits_in_any_order(order):
    case = Case("se_block_tail", SHAPES["C no multiple of a warp"], dict(training=True))
    for op, settings in (("se_block_tail", dict(training=True)), ("squeeze_excite", {})):
        case = Case(op, SHAPES["C no multiple of a warp"], settings)
        assert distance(backend(**order), case) == distance(backend(), case)


def test_a_large_mean_costs_the_variance_nothing():
    assert distance_of_moments(backend()) < PROMISED_MOMENTS


def test_an_outlier_at_the_start_costs_the_variance_nothing():
    x = np.random.default_rng(0).standard_normal((2, 2, 30, 40)).astype(np.float32)
    x[:, :, 0, 0] = 1e4
    one, zero = np.ones(2, np.float32), np.zeros(2, np.float32)
    statistics = dict(running_mean=zero, running_var=one, training=True, momentum=1.0)
    _, cache = backend().batch_norm2d_forward(x, one, zero, **statistics)
    assert apart(cache.running_var, x.astype(np.float64).var(axis=(0, 2, 3), ddof=1)) < 1e-6


@pytest.mark.parametrize("layout", LAYOUTS)
def test_kernels_are_given_numbers_that_lie_in_order(layout):
    """Views begin at any address and lie in any order; kernels read 16 bytes at a time."""
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
