"""The guard: the first NaN or infinity of a net or of a single op ends the call with its name."""

import re

import numpy as np
import pytest

from minise import nn
from minise.ops import jit, reference, wrap
from minise.ops.jit.vector.simd import AS_LOOPS
from minise.train import SGD
from tests.ops.test_wrap import convolution, images, small_net, step


def poisoned(layer, name, value=np.nan):
    net = small_net()
    wrap.attach(net, wrap.guarded(reference))
    net.named_parameters()[f"{layer}.{name}"].flat[1] = value
    return net


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_guard_names_a_poisoned_parameter(value):
    message = r"layer 1, batch_norm2d_forward: its input gamma has 1 of 3 .* first at \(1,\)"
    with pytest.raises(wrap.NonFiniteError, match=message) as caught:
        step(poisoned("1", "weight", value))
    error = caught.value
    assert (error.layer, error.op, error.direction) == ("1", "batch_norm2d", "forward")
    assert error.array == "gamma"


def test_guard_names_the_op_that_makes_an_infinity():
    net = poisoned("4", "weight", np.finfo(np.float32).max)
    net.named_parameters()["1.weight"][...] = 1e6
    net.named_parameters()["1.bias"][...] = 1e6
    with (
        pytest.raises(wrap.NonFiniteError, match="layer 4, linear_forward: its result out has"),
        np.errstate(all="ignore"),
    ):
        step(net)


def test_guard_in_backward():
    net = small_net()
    wrap.attach(net, wrap.guarded(reference))
    out, cache = net.forward(images(), training=True)
    dout = np.ones_like(out)
    dout[1, 2] = np.nan
    message = r"layer 4, linear_backward: its input dout has 1 of 8 .* first at \(1, 2\)"
    with pytest.raises(wrap.NonFiniteError, match=message):
        net.backward(dout, cache)
    x = np.full((1, 1), 1e300)
    guard = wrap.guarded(reference)
    out, cache = guard.linear_forward(x / 1e300, x)
    with (
        pytest.raises(wrap.NonFiniteError, match="layer .none., linear_backward: its result dx"),
        np.errstate(over="ignore"),
    ):
        guard.linear_backward(x, cache)
    guard.add_backward(out, guard.add_forward(x, x)[1])  # finite, although large


def test_guard_checks_running_statistics():
    guard = wrap.guarded(reference)
    x = np.array([1e200, -1e200, 0.0]).reshape(3, 1, 1, 1)
    ones = np.ones(1)
    with (
        pytest.raises(wrap.NonFiniteError, match="batch_norm2d_forward: its (result|new running)"),
        np.errstate(all="ignore"),
    ):
        guard.batch_norm2d_forward(
            x, ones, ones, running_mean=ones, running_var=ones, training=True
        )


def test_guard_checks_plus_and_accepts_a_missing_dx():
    guard = wrap.guarded(reference)
    x, weight = convolution()
    out, cache = guard.conv2d_forward(x, weight)
    assert guard.conv2d_backward(out, cache, needs_dx=False)[0] is None
    message = r"conv2d_backward: its input plus has 4 of 4 .* first at \(0, 0, 0, 0\)"
    with pytest.raises(wrap.NonFiniteError, match=message) as caught:
        guard.conv2d_backward(out, cache, plus=x * np.nan)
    assert caught.value.array == "plus"
    message = "conv2d_backward: its result dx has 4 of 4"
    with pytest.raises(wrap.NonFiniteError, match=message), np.errstate(over="ignore"):
        guard.conv2d_backward(out * 1e308, cache, plus=x * 1.7e308)


def test_guard_checks_keyword_arrays():
    guard = wrap.guarded(reference)
    x, ones = np.ones((1, 1, 2, 2)), np.ones(1)
    message = "batch_norm2d_forward: its input running_mean has 1 of 1"
    running = dict(running_mean=ones * np.nan, running_var=ones)
    with pytest.raises(wrap.NonFiniteError, match=message):
        guard.batch_norm2d_forward(x, ones, ones, **running, training=False)


def test_guard_names_concat_arguments_and_skips_masks():
    guard = wrap.guarded(reference)
    x = np.ones((1, 1, 2, 2))
    message = r"concat_forward: its input xs\[1\] has 4 of 4 .* first at \(0, 0, 0, 0\)"
    with pytest.raises(wrap.NonFiniteError, match=message):
        guard.concat_forward(x, x * np.nan)
    guard.dropout_forward(x, x > 0, p=0.5)
    guard.softmax_cross_entropy_forward(np.ones((2, 3)), np.array([0, 2]))


# The attributes of the error


def test_the_error_has_the_number_and_its_call():
    guard = wrap.guarded(reference)
    x, weight = convolution()
    weight = np.concatenate([weight, [[[[-np.inf]]]], [[[[np.nan]]]]])
    message = r"has 2 of 3 numbers not finite, first at \(1, 0, 0, 0\): -inf$"
    with pytest.raises(wrap.NonFiniteError, match=message) as caught:
        guard.conv2d_forward(x, weight)
    error = caught.value
    assert (error.index, error.value) == ((1, 0, 0, 0), "-inf")
    assert (error.nonfinite.count, error.nonfinite.size) == (2, 3)
    assert error.nonfinite.role == "input"
    assert error.inputs["x"] is x
    assert error.inputs["weight"] is weight


def test_the_error_of_a_backward_has_the_arrays_of_the_cache():
    guard = wrap.guarded(reference)
    x = np.array([[1e300]])
    _, cache = guard.linear_forward(x / 1e300, x)
    with pytest.raises(wrap.NonFiniteError) as caught, np.errstate(over="ignore"):
        guard.linear_backward(x, cache)
    assert {*caught.value.inputs} >= {"dout", "x", "weight"}


# Updates of the parameters

back_ends = pytest.mark.parametrize(
    "ops",
    [
        pytest.param(reference, id="reference"),
        pytest.param(jit, id="jit", marks=pytest.mark.skipif(AS_LOOPS, reason="too slow")),
    ],
)


def update(ops, spoil):
    """Update a guarded net after spoil(net, optimiser, grads); return the error and the arrays."""
    net = small_net()
    wrap.attach(net, wrap.guarded(ops))
    optimiser = SGD(net, nesterov=True)
    _, grads = step(net)
    spoil(net, optimiser, grads)
    arrays = {**net.named_parameters(), **{f"v {k}": v for k, v in optimiser.velocity.items()}}
    before = {name: array.copy() for name, array in arrays.items()}
    with pytest.raises(wrap.NonFiniteError) as caught, np.errstate(all="ignore"):
        optimiser.step(grads, 0.1)
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)
    return caught.value


def velocity(net, optimiser, grads):
    optimiser.velocity["4.bias"][2] = np.inf


def gradient(net, optimiser, grads):
    grads["1.weight"][0] = np.nan


def parameter(net, optimiser, grads):
    net.named_parameters()["4.weight"][1, 2] = -np.inf


def large_velocity(net, optimiser, grads):
    optimiser.velocity["4.weight"][3, 0] = -3e38
    grads["4.weight"][3, 0] = -3e38


def large_parameter(net, optimiser, grads):
    net.named_parameters()["0.weight"][0, 0, 0, 1] = 3.4e38
    optimiser.velocity["0.weight"][0, 0, 0, 1] = -3e38


@back_ends
@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (velocity, r"layer 4, sgd_update: its input velocity of bias has 1 of 4 .* \(2,\): inf$"),
        (gradient, r"layer 1, sgd_update: its input gradient of weight has 1 of 3 .*: nan$"),
        (parameter, r"layer 4, sgd_update: its input weight has 1 of 12 .* \(1, 2\): -inf$"),
        (large_velocity, r"layer 4, sgd_update: its result velocity of weight .* \(3, 0\): -inf$"),
        (large_parameter, r"layer 0, sgd_update: its result weight has 1 of 54 .* 1\): inf$"),
    ],
)
def test_an_update_is_checked_and_undone(ops, spoil, text):
    error = update(ops, spoil)
    assert re.match(text, str(error)), str(error)
    assert (error.op, error.direction) == ("sgd", "update")
    name = error.array.split()[-1]
    assert {*error.inputs} == {name, f"gradient of {name}", f"velocity of {name}"}


def test_the_inputs_of_a_refused_update_are_those_before_it():
    error = update(reference, large_velocity)
    assert all(np.isfinite(array).all() for array in error.inputs.values())


def test_an_update_of_arrays_without_a_net_has_their_number():
    guard, param, grad = wrap.guarded(reference), np.ones(2), np.array([1, np.nan])
    settings = dict(rate=0.1, momentum=0.9, nesterov=False, weight_decay=0.0)
    message = r"^layer \(none\), sgd_update: its input gradient of parameter 0 has 1 of 2"
    with pytest.raises(wrap.NonFiniteError, match=message):
        guard.sgd_update(param, grad, np.zeros(2), **settings)
    guard.sgd_update(param, np.ones(2), np.zeros(2), **settings)
    np.testing.assert_array_equal(param, 1 - 0.1 * np.ones(2))


def test_the_name_of_a_shared_parameter_is_its_first():
    net = nn.Chain(("a", nn.Linear(3, 3, rng=0)), ("b", nn.Linear(3, 3, rng=1)))
    net["b"].params["weight"] = net["a"].params["weight"]
    wrap.attach(net, wrap.guarded(reference))
    optimiser = SGD(net)
    optimiser.velocity["a.weight"][0, 0] = np.nan
    out, cache = net.forward(np.ones((2, 3), np.float32), True)
    _, grads = net.backward(out, cache)
    with pytest.raises(wrap.NonFiniteError, match="^layer a, sgd_update: its input velocity"):
        optimiser.step(grads, 0.1)


def test_removing_the_guard():
    guard = wrap.guarded(reference)
    assert wrap.unguarded(guard) is wrap.unguarded(guard.at("a")) is reference
    for ops in (reference, wrap.record(reference), wrap.record(guard).at("a")):
        assert wrap.unguarded(ops) is ops
