"""Whole nets on the cuda back end, in the emulator."""

import numpy as np
import pytest

from minise import models
from minise.nn import SE
from minise.ops import reference, wrap
from minise.ops.cuda.backend import Backend
from minise.ops.cuda.cupy_launcher import Cupy
from minise.train import (
    SGD,
    Confusion,
    NonFiniteState,
    SoftmaxCrossEntropy,
    check_state,
    replay,
    run,
    train_step,
)
from minise.train.checkpoint import arrays_of, restore
from minise.train.evaluate import evaluate
from tests.ops.cuda.device import DeviceArray, device
from tests.ops.cuda.emulator import Emulator
from tests.train.regression import quiet

pytestmark = pytest.mark.slow

NETS = {
    "se_resnet8": {},
    "se_resnet8 padded": dict(shortcut="A"),
    "resnet8": {},
    "se_resnet8 max": dict(se=SE(reduction=4, squeeze="max", gate="hard_sigmoid")),
    "se_resnet8 pre": dict(se=SE(reduction=4, site="pre", bias=False)),
}
RATE = 0.05


def images(rng, n=4):
    return rng.standard_normal((n, 3, 8, 8)), rng.integers(0, 10, n)


def build(name, ops, dtype):
    settings = {"reduction": 4} if name == "se_resnet8" else {}
    net = models.build(name.split()[0], ops=ops, dtype=dtype, **settings, **NETS[name])
    return net, SGD(net, momentum=0.9, nesterov=True, weight_decay=5e-4)


def step(net, optimiser, pixels, labels):
    return train_step(net, SoftmaxCrossEntropy(net.ops), optimiser, [(pixels, labels)], RATE)


def three_steps(name, ops, dtype=np.float64):
    """Return losses and parameters after three steps."""
    rng = np.random.default_rng(1)
    net, optimiser = build(name, ops, dtype)
    losses = []
    for _ in range(3):
        pixels, labels = images(rng)
        losses.append(float(step(net, optimiser, pixels.astype(dtype), labels)["loss"]))
    return losses, {key: ops.asnumpy(a) for key, a in net.named_parameters().items()}


def check_three_steps(name, ops, dtype, tolerance):
    losses, params = three_steps(name, ops, dtype)
    expected, expected_params = three_steps(name, reference)
    np.testing.assert_allclose(losses, expected, rtol=tolerance)
    for key, param in params.items():
        norm = max(1e-3, np.linalg.norm(expected_params[key]))
        assert np.linalg.norm(expected_params[key] - param) / norm < tolerance, key


@pytest.mark.parametrize("name", NETS)
def test_three_steps_equal_the_references(name):
    """In float64 a rounding error of 1e-16 grows to 1e-10 in three steps through 30 layers."""
    check_three_steps(name, Backend(Emulator(device)), np.float64, 1e-10)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_three_steps_on_a_gpu(dtype):
    check_three_steps("se_resnet8", Backend(Cupy()), dtype, 1e-10 if dtype == np.float64 else 1e-3)


def test_a_step_reads_no_value_on_the_host():
    """So all kernels of a step can be queued without waiting for the GPU."""
    ops = Backend(Emulator(device))
    net, optimiser = build("se_resnet8", ops, np.float32)
    pixels, labels = images(np.random.default_rng(0))
    x, targets = ops.asarray(pixels, np.float32), ops.asarray(labels)
    objective = SoftmaxCrossEntropy(ops, label_smoothing=0.1)
    before = DeviceArray.host_reads
    logits, cache = net.forward(x, training=True)
    loss, loss_cache = objective.forward(logits, targets)
    _, grads = net.backward(objective.backward(loss_cache), cache)
    optimiser.step(grads, RATE)
    assert DeviceArray.host_reads == before
    assert np.isfinite(float(loss))
    assert DeviceArray.host_reads == before + 1


def test_parameters_and_state_keep_their_identity():
    ops = Backend(Emulator(device))
    net, optimiser = build("se_resnet8", ops, np.float32)
    arrays = {**net.named_parameters(), **net.named_state()}
    before = {name: ops.asnumpy(array) for name, array in arrays.items()}
    pixels, labels = images(np.random.default_rng(0))
    step(net, optimiser, pixels.astype(np.float32), labels)
    for name, array in {**net.named_parameters(), **net.named_state()}.items():
        assert array is arrays[name]
        assert not np.array_equal(ops.asnumpy(array), before[name]), name


def test_the_kernels_of_a_step():
    """Blocks of the net use the fused tail, and convolutions use im2col."""
    ops = Backend(Emulator(device))
    net, optimiser = build("se_resnet8", ops, np.float32)
    pixels, labels = images(np.random.default_rng(0))
    step(net, optimiser, pixels.astype(np.float32), labels)
    launched = ops.launcher.launches
    assert launched.count("excite_backward") == 3  # one per block
    assert launched.count("sgd_updates") == 1  # for all parameters
    assert {"im2col", "col2im", "excite", "normalise", "norm_input_gradient"} <= set(launched)


def test_inference_and_snapshots():
    ops = Backend(Emulator(device))
    net, _ = build("se_resnet8", ops, np.float64)
    twin, _ = build("se_resnet8", reference, np.float64)
    pixels, _ = images(np.random.default_rng(0))
    expected = twin.predict(pixels)
    for predict in (net.inference(), net.predict):
        np.testing.assert_allclose(ops.asnumpy(predict(ops.asarray(pixels))), expected, rtol=1e-10)


def test_evaluation_and_checkpoints():
    """Checkpoints hold arrays of the host, and any back end can restore them."""
    ops = Backend(Emulator(device))
    net, _ = build("se_resnet8", ops, np.float64)
    twin, _ = build("se_resnet8", reference, np.float64)
    rng = np.random.default_rng(0)
    batches = [images(rng) for _ in range(2)]
    net.named_state()["bn1.running_mean"][...] = 0.25
    restore(twin, arrays_of(net))
    assert (twin.named_state()["bn1.running_mean"] == 0.25).all()
    result, expected = (evaluate(n, batches, SoftmaxCrossEntropy(n.ops)) for n in (net, twin))
    assert result["accuracy"] == expected["accuracy"]
    assert result["loss"] == pytest.approx(expected["loss"], rel=1e-10)


def test_a_confusion_matrix_of_batches_on_the_device():
    """Neither NumPy nor a confusion matrix accepts arrays of CuPy."""
    ops = Backend(Emulator(device))
    net, _ = build("se_resnet8", ops, np.float64)
    twin, _ = build("se_resnet8", reference, np.float64)
    pixels, labels = images(np.random.default_rng(0))
    confusion, expected = Confusion(10), Confusion(10)
    batch = ops.asarray(pixels), ops.asarray(labels)
    evaluate(net, [batch], SoftmaxCrossEntropy(ops), confusion)
    evaluate(twin, [(pixels, labels)], SoftmaxCrossEntropy(), expected)
    np.testing.assert_array_equal(confusion.counts, expected.counts)


def test_a_guarded_step_is_bit_identical():
    """The guard reads arrays on the host without changing them."""
    results = []
    for wrapper in (None, wrap.guarded):
        ops = Backend(Emulator(device))
        net, optimiser = build("se_resnet8", ops, np.float32)
        if wrapper is not None:
            wrap.attach(net, wrapper(ops))
        pixels, labels = images(np.random.default_rng(0))
        loss = step(net, optimiser, pixels.astype(np.float32), labels)["loss"]
        results.append({"loss": np.array(float(loss)), **arrays_of(net)})
    plain, guarded = results
    assert plain.keys() == guarded.keys()
    for name, array in plain.items():
        np.testing.assert_array_equal(guarded[name], array, err_msg=name)


def test_a_guard_names_the_layer_and_the_checkpoint_check_its_array():
    ops = Backend(Emulator(device))
    net, optimiser = build("se_resnet8", ops, np.float32)
    net.named_parameters()["layer2.0.conv1.weight"][...] = np.nan
    with pytest.raises(NonFiniteState, match="^layer layer2.0.conv1, parameter weight: "):
        check_state(net, optimiser.velocity)
    wrap.attach(net, wrap.guarded(ops))
    pixels, labels = images(np.random.default_rng(0))
    with pytest.raises(wrap.NonFiniteError, match="layer layer2.0.conv1, conv2d_forward: "):
        step(net, optimiser, pixels.astype(np.float32), labels)


@pytest.mark.parametrize("on_gpu", [False, True], ids=["host", "gpu"])
def test_a_dump_of_a_guarded_run_is_replayed(on_gpu, tmp_path):
    """Parameters and batches are copied to the host for the file, and back for the replay."""
    ops = Backend(Emulator(device))
    net, optimiser = build("se_resnet8", ops, np.float32)
    wrap.attach(net, wrap.guarded(ops))
    pixels, labels = images(np.random.default_rng(0))
    pixels[1, 0, 2, 3] = np.inf
    pixels = pixels.astype(np.float32)
    batch = (ops.asarray(pixels), ops.asarray(labels)) if on_gpu else (pixels, labels)
    settings = dict(epochs=1, out=tmp_path, name="a", console=quiet())
    with pytest.raises(wrap.NonFiniteError, match=r"at \(1, 0, 2, 3\): inf; .*guard.safetensors"):
        run(net, SoftmaxCrossEntropy(net.ops), [batch], optimiser, **settings)
    again = replay(tmp_path / "a", build("se_resnet8", ops, np.float32)[0])
    assert again.same
    assert again.inputs[0].not_finite == 1
    assert replay(tmp_path / "a", models.build("se_resnet8", reduction=4), ops="reference").same


def test_a_refused_update_leaves_the_parameters():
    ops = Backend(Emulator(device))
    net, optimiser = build("se_resnet8", ops, np.float32)
    wrap.attach(net, wrap.guarded(ops))
    grads = {name: array * 0 for name, array in net.named_parameters().items()}
    optimiser.velocity["fc.bias"][...] = 3e38
    grads["fc.bias"][...] = 3e38
    before = arrays_of(net)
    message = "^layer fc, sgd_update: its result velocity of bias has 10 of 10"
    with pytest.raises(wrap.NonFiniteError, match=message):
        optimiser.step(grads, 0.1)
    for name, array in arrays_of(net).items():
        np.testing.assert_array_equal(array, before[name])
