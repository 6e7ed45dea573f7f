"""Wrappers of a back end: record, timed and guarded, on nets and on single ops."""

import inspect
import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from minise import models, nn
from minise.ops import jit, reference, wrap
from minise.ops.jit.vector.simd import AS_LOOPS
from minise.train import SGD, SoftmaxCrossEntropy, train_step


def small_net():
    conv = nn.Conv2d(2, 3, 3, padding=1, rng=0)
    layers = conv, nn.BatchNorm2d(3), nn.ReLU(), nn.GlobalAvgPool2d()
    return nn.Sequential(*layers, nn.Linear(3, 4, rng=1))


def images(rng=0):
    return np.random.default_rng(rng).standard_normal((2, 2, 5, 6)).astype(np.float32)


def step(net):
    out, cache = net.forward(images(), training=True)
    return net.backward(np.ones_like(out), cache)


FORWARD = [
    ("0", "conv2d"),
    ("1", "batch_norm2d"),
    ("2", "relu"),
    ("3", "global_avg_pool2d"),
    ("4", "linear"),
]


def test_record_on_a_net():
    net, recorder = small_net(), wrap.record(reference)
    wrap.attach(net, recorder)
    dx, _ = step(net)
    forward, backward = recorder.calls[:5], recorder.calls[5:]
    assert [(call.layer, call.op) for call in forward] == FORWARD
    assert [(call.layer, call.op) for call in backward] == FORWARD[::-1]
    assert [call.direction for call in recorder.calls] == ["forward"] * 5 + ["backward"] * 5
    for before, after in itertools.pairwise(forward):
        assert after.arrays[0] is before.results[0]
    for call, undone in zip(backward, forward[::-1], strict=True):
        assert call.cache is undone.cache
    assert forward[0].settings["padding"] == (1, 1)
    assert forward[1].settings["training"] is True
    assert recorder.calls[-1].results[0] is dx
    assert all(call.seconds > 0 for call in recorder.calls)


def test_record_on_bare_ops():
    recorder = wrap.record(reference)
    x = np.array([-1.0, 2.0])
    out, cache = recorder.relu_forward(x)
    recorder.relu_backward(out, cache)
    assert [(call.layer, call.op, call.direction) for call in recorder.calls] == [
        ("", "relu", "forward"),
        ("", "relu", "backward"),
    ]
    assert recorder.calls[0].arrays[0] is x
    assert recorder.calls[1].arrays[0] is out


def test_results_equal_the_back_ends():
    plain, wrapped = small_net(), small_net()
    wrap.attach(wrapped, wrap.guarded(wrap.timed(wrap.record(reference))))
    (dx, grads), (expected, plain_grads) = step(wrapped), step(plain)
    np.testing.assert_array_equal(dx, expected)
    assert grads.keys() == plain_grads.keys()
    for name, grad in plain_grads.items():
        np.testing.assert_array_equal(grads[name], grad)


BACK_ENDS = {
    "reference": reference,
    "jit, direct": jit.using(algorithm="direct"),
    "jit, winograd": jit.using(algorithm="winograd"),
}


def trained(ops, wrapper=None):
    """Return losses, parameters and state of four steps of an SE-ResNet-8."""
    net = models.build("se_resnet8", reduction=4, ops=ops)
    if wrapper is not None:
        wrap.attach(net, wrapper(ops))
    objective, optimiser = SoftmaxCrossEntropy(net.ops), SGD(net, nesterov=True, weight_decay=1e-4)
    rng, losses = np.random.default_rng(0), []
    for _ in range(4):
        batch = rng.standard_normal((4, 3, 16, 16)).astype(np.float32), rng.integers(0, 10, 4)
        losses.append(train_step(net, objective, optimiser, [batch], 0.1)["loss"])
    return {"losses": np.array(losses), **net.named_parameters(), **net.named_state()}


@pytest.mark.skipif(AS_LOOPS, reason="kernels that run as Python train no net in reasonable time")
@pytest.mark.parametrize("ops", BACK_ENDS.values(), ids=BACK_ENDS)
def test_wrapped_training_is_bit_identical(ops):
    expected = trained(ops)
    for wrapper in (wrap.guarded, wrap.timed, wrap.record):
        for name, array in trained(ops, wrapper).items():
            np.testing.assert_array_equal(array, expected[name], err_msg=name)


def test_a_wrapper_has_what_its_back_end_has():
    recorder = wrap.record(reference)
    for name in reference.__all__:
        if name.endswith(("_branches", "asarray", "asnumpy", "sgd_update")):
            assert getattr(recorder, name) is getattr(reference, name)
        else:
            assert callable(getattr(recorder, name))
    for view in (recorder, recorder.at("layer")):
        with pytest.raises(AttributeError, match="conv5d_forward"):
            _ = view.conv5d_forward


@pytest.mark.parametrize("folds", [True, False])
def test_a_wrapper_has_the_folds_of_its_back_end(folds):
    recorder = wrap.record(SimpleNamespace(folds=folds))
    for ops in (recorder, recorder.at("layer"), wrap.timed(recorder)):
        assert ops.folds is folds


def test_removing_a_wrapper():
    net, recorder = small_net(), wrap.record(reference)
    wrap.attach(net, recorder)
    wrap.attach(net, reference)
    step(net)
    assert recorder.calls == []
    assert all(layer.ops is reference for layer in net.named_layers().values())


def test_timed():
    net, timer = small_net(), wrap.timed(reference)
    wrap.attach(net, timer)
    for _ in range(3):
        step(net)
    assert set(timer.timings) == {(*key, d) for key in FORWARD for d in ("forward", "backward")}
    assert all(timing.calls == 3 for timing in timer.timings.values())
    rows = list(timer.rows())
    seconds = [row.timing.seconds for row in rows]
    assert seconds == sorted(seconds, reverse=True)
    assert timer.seconds == pytest.approx(sum(seconds))
    assert {(row.layer, row.op, row.direction) for row in rows} == set(timer.timings)


def test_nested_wrappers_all_receive_the_layer():
    recorder = wrap.record(reference)
    timer = wrap.timed(recorder)
    net = small_net()
    wrap.attach(net, timer)
    step(net)
    assert {(call.layer, call.op, call.direction) for call in recorder.calls} == set(timer.timings)


def convolution():
    return np.ones((1, 1, 2, 2)), np.ones((1, 1, 1, 1))


def test_settings_of_a_backward_are_passed_and_recorded():
    recorder = wrap.record(reference)
    x, weight = convolution()
    out, cache = recorder.conv2d_forward(x, weight)
    plus = 3 * x
    gradients = recorder.conv2d_backward(out, cache, plus=plus)
    assert (gradients[0] == 1 + 3).all()
    recorder.conv2d_backward(out, cache, needs_dx=False)
    _, with_plus, without_dx = recorder.calls
    assert (with_plus.op, with_plus.direction) == ("conv2d", "backward")
    assert with_plus.arrays == (out,)
    assert with_plus.settings["plus"] is plus
    assert without_dx.settings == {"needs_dx": False}
    assert without_dx.results[0] is None


def test_a_whole_net_names_its_layers():
    net, recorder = models.build("se_resnet8"), wrap.record(reference)
    wrap.attach(net, recorder)
    net.forward(np.ones((1, 3, 8, 8), np.float32), training=True)
    named = {call.layer for call in recorder.calls}
    assert {
        "conv1",
        "layer1.0.bn1",
        "layer1.0.se",
        "layer2.0.downsample.1",
        "avgpool",
        "fc",
    } <= named
    assert inspect.ismodule(recorder.ops)
