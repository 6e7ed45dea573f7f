"""The implementations compute the same: losses and gradients of peers equal those of minise."""

import numpy as np
import pytest

from minise import models, nn
from minise.bench import peers
from minise.bench.net_settings import CompareSettings
from minise.bench.peers import Checksum, Disagreement, check_agreement, checksum_of, im2col
from minise.bench.workloads import (
    arrays_of,
    batch_of,
    build_block,
    conv_settings,
    op_workloads,
    title,
    workloads_of,
)
from minise.ops import reference

SETTINGS = CompareSettings(what=("ops",), net="se_resnet8", batch=4, threads=1, dtype="float64")
OPS = workloads_of(SETTINGS)
BLOCK_SETTINGS = CompareSettings(what=("blocks",), batch=2, threads=1, ops="reference")
BLOCK_WORKLOADS = workloads_of(BLOCK_SETTINGS)
TORCH = ("torch", "torch-channels-last")
LABEL = "training step"


def test_the_checksum_of_a_loss_is_the_loss():
    assert checksum_of(np.float32(2.5)) == checksum_of(2.5) == (2.5, 2.5)
    assert checksum_of(-2.0) == (-2.0, 2.0)


def test_one_wrong_element_changes_the_checksum():
    """An error of 1 in one element changes the value by 1 / sqrt(number of elements)."""
    array = np.random.default_rng(1).standard_normal((4, 8, 16, 16))
    other = array.copy()
    other[3, 2, 1, 0] += 1
    assert abs(checksum_of(other).value - checksum_of(array).value) == pytest.approx(1 / 8192**0.5)


def test_the_layout_in_memory_makes_no_difference():
    array = np.random.default_rng(1).standard_normal((2, 3, 4, 5)).astype(np.float32)
    channels_last = np.ascontiguousarray(array.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    assert checksum_of(channels_last).value == pytest.approx(checksum_of(array).value, rel=1e-12)


def test_rounding_is_accepted_and_a_larger_difference_is_not():
    checksums = {"minise": Checksum(2.3, 2.3), "torch": Checksum(2.3001, 2.3)}
    check_agreement(LABEL, checksums, "float32")
    message = "training step: the checksum of the first result of torch is 2.31"
    for dtype, value in (("float32", 2.31), ("float64", 2.3100001)):
        checksums = {"minise": Checksum(2.3, 2.3), "torch": Checksum(value, 2.3)}
        with pytest.raises(Disagreement, match=message):
            check_agreement(LABEL, checksums, dtype)


@pytest.mark.parametrize("wrong", ["minise", "torch"])
def test_nan_agrees_with_nothing(wrong):
    checksums = {"minise": Checksum(2.3, 2.3), "torch": Checksum(2.3, 2.3)}
    checksums[wrong] = Checksum(float("nan"), float("nan"))
    with pytest.raises(Disagreement, match="nan"):
        check_agreement(LABEL, checksums, "float64")


def integers(rng, *shape):
    return rng.integers(-3, 4, shape).astype(np.float32)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (3, 2)])
@pytest.mark.parametrize(
    "settings",
    [
        dict(),
        dict(padding=(1, 1)),
        dict(stride=(2, 2), padding=(1, 0)),
        dict(stride=(1, 3), dilation=(2, 1), padding=(2, 1)),
    ],
    ids=str,
)
def test_im2col_is_the_reference(kernel, settings, bias):
    rng = np.random.default_rng(0)
    x, weight = integers(rng, 3, 4, 8, 9), integers(rng, 5, 4, *kernel)
    inputs = x, weight, integers(rng, 5) if bias else None
    out, cache = im2col.conv2d_forward(*inputs, **settings)
    expected, reference_cache = reference.conv2d_forward(*inputs, **settings)
    np.testing.assert_array_equal(out, expected)
    dout = integers(rng, *out.shape)
    expected_grads = reference.conv2d_backward(dout, reference_cache)
    for grad, expected in zip(im2col.conv2d_backward(dout, cache), expected_grads, strict=True):
        if expected is None:
            assert grad is None
        else:
            np.testing.assert_array_equal(grad, expected)


def test_im2col_has_the_other_ops_and_refuses_groups():
    assert im2col.relu_forward is reference.relu_forward
    with pytest.raises(ValueError, match="groups is 2, expected 1"):
        im2col.conv2d_forward(np.ones((1, 2, 3, 3)), np.ones((2, 1, 1, 1)), groups=2)


@pytest.mark.slow
def test_every_op_workload_runs():
    """minise's and im2col's functions, at batch size 1; the ops check the shape of dout."""
    settings = CompareSettings(what=("ops",), net="se_resnet8", batch=1, threads=1)
    for workload in workloads_of(settings):
        for name in ("minise", "numpy-im2col"):
            if peers.supports(name, workload):
                peers.make(name, workload, settings)()


def one_step(net):
    """Return the first loss and all gradients of a minise net."""
    images, labels = batch_of(net, SETTINGS.batch)
    logits, cache = net.forward(images, training=True)
    loss, loss_cache = reference.softmax_cross_entropy_forward(logits, labels)
    dlogits, _ = reference.softmax_cross_entropy_backward(np.ones(()), loss_cache)
    return loss, net.backward(dlogits, cache, needs_dx=False)[1]


def assert_close(result, expected):
    """The order of summation differs: 1e-10 of the largest element is about 1e5 roundings."""
    assert result.shape == expected.shape
    assert abs(result - expected).max() <= 1e-10 * abs(expected).max()


def test_a_step_with_im2col_has_our_gradients():
    plain, peer = (models.build("se_resnet8", ops=o, dtype="float64") for o in (reference, im2col))
    (loss, grads), (peer_loss, peer_grads) = one_step(plain), one_step(peer)
    assert peer_loss == pytest.approx(loss, rel=1e-12)
    for name, grad in grads.items():
        assert_close(peer_grads[name], grad)


NETS = [
    ("resnet8", {}),
    ("se_resnet8", dict(reduction=4)),
    ("se_resnet20", dict(bias=False)),
    ("wide", dict(bottlenecks=False)),
    ("wide", dict(bottlenecks=True)),
]


def build(name, settings):
    if name != "wide":
        return models.build(name, dtype="float64", **settings)
    rng = np.random.default_rng(0)
    parts = nn.Build(rng=rng, dtype=np.float64, se=nn.SE(reduction=4), se_rng=rng)
    return models.wide_resnet(2, 1, 10, parts, **settings)


@pytest.mark.parametrize(("name", "settings"), NETS, ids=lambda value: str(value)[:20])
def test_the_torch_twin_has_our_loss_and_gradients(name, settings):
    torch = pytest.importorskip("torch", reason="needs torch: pip install -e '.[oracle]'")
    from minise.bench.peers.twins import twin_of

    net = build(name, settings)
    twin = twin_of(net)
    loss, grads = one_step(net)
    images, labels = (torch.from_numpy(array) for array in batch_of(net, SETTINGS.batch))
    twin_loss = torch.nn.functional.cross_entropy(twin(images), labels)
    twin_loss.backward()
    assert float(twin_loss.detach()) == pytest.approx(float(loss), rel=1e-12)
    assert grads.keys() == {name for name, _ in twin.named_parameters()}
    for name, parameter in twin.named_parameters():
        assert_close(grads[name], parameter.grad.numpy())
    with torch.inference_mode():  # with the running statistics that the step left
        assert_close(net.predict(images.numpy()), twin.eval()(images).numpy())


LARGE_NETS = (
    *("resnet50", "se_resnet50", "se_resnext50_32x4d", "mobilenet", "se_shufflenet", "resnet34"),
    *("densenet121", "se_vgg16", "se_bn_inception"),
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n == "mobilenet" else pytest.mark.long) for n in LARGE_NETS],
)
def test_the_torch_twin_of_a_net_for_large_images_has_our_results(name):
    """Inference and the first two losses, at the width of the paper; vgg16 is without dropout."""
    if reason := peers.missing("torch"):
        pytest.skip(reason)
    values = dict(net=name, batch=2, size=64, threads=1, dtype="float64", ops="reference")
    settings = CompareSettings(**values)
    logits, losses = {}, {}
    for peer in ("minise", "torch"):
        logits[peer] = checksum_of(peers.make(peer, {"kind": "forward"}, settings)())
        step = peers.make(peer, {"kind": "step"}, settings)
        losses[peer] = checksum_of(np.array([step(), step()]))
    check_agreement(name, logits, "float64")
    check_agreement(name, losses, "float64")


@pytest.mark.parametrize("settings", [dict(shortcut="A", site="post"), dict(gate="tanh")])
def test_a_net_without_a_torch_twin_is_refused(settings):
    pytest.importorskip("torch", reason="needs torch: pip install -e '.[oracle]'")
    from minise.bench.peers.twins import twin_of

    with pytest.raises(ValueError, match="no twin"):
        twin_of(models.build("se_resnet8", **settings))


def test_a_net_of_the_users_own_has_no_torch_twin():
    pytest.importorskip("torch", reason="needs torch: pip install -e '.[oracle]'")
    from minise.bench.peers.twins import twin_of

    with pytest.raises(ValueError, match="no twin of a net of layers 0, 1 is implemented"):
        twin_of(nn.Chain(nn.Conv2d(3, 4, 3), nn.GlobalAvgPool2d()))
    with pytest.raises(ValueError, match="no twin of inception_resnet_v2 is implemented"):
        twin_of(models.build("inception_resnet_v2", width=1 / 16))
    with pytest.raises(ValueError, match="no twin: the net has other parameters"):
        twin_of(models.build("mobilenet", width=1 / 8))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_three_training_steps_have_the_same_losses(dtype):
    """End to end: all implementations have the same initial parameters, inputs and SGD settings."""
    names = ["minise", "numpy-im2col"]
    if not peers.missing("torch"):
        names += ["torch", "torch-channels-last"]
    settings = CompareSettings(net="se_resnet8", batch=4, threads=1, dtype=dtype)
    losses = []
    for name in names:
        step = peers.make(name, {"kind": "step"}, settings)
        losses.append([step() for _ in range(3)])
    assert losses[0][2] != losses[0][0]
    np.testing.assert_allclose(losses, [losses[0]] * len(names), rtol=np.finfo(dtype).eps * 1e3)


@pytest.mark.parametrize("name", ["numpy-im2col", "torch", "torch-channels-last"])
def test_inference_of_one_image_agrees(name):
    if reason := peers.missing(name):
        pytest.skip(reason)
    settings = CompareSettings(net="se_resnet8", batch=1, threads=1, ops="reference")
    logits = [peers.make(n, {"kind": "forward"}, settings)() for n in ("minise", name)]
    assert logits[0].shape == (1, 10)
    checksums = dict(zip(("minise", name), map(checksum_of, logits), strict=True))
    check_agreement("inference", checksums, settings.dtype)


def test_minise_folds_its_net_and_a_peer_runs_its_own_ops(monkeypatch):
    settings = CompareSettings(net="se_resnet8", batch=1, threads=1, ops="reference")
    calls = []
    monkeypatch.setattr(nn.Chain, "inference", lambda _: lambda x: calls.append("inference"))
    monkeypatch.setattr(nn.Chain, "predict", lambda *_: calls.append("predict"))
    for name in ("minise", "numpy-im2col"):
        peers.make(name, {"kind": "forward"}, settings)()
    assert calls == ["inference", "predict"]


def test_the_torch_ops_have_our_gradients():
    torch = pytest.importorskip("torch", reason="needs torch: pip install -e '.[oracle]'")
    from minise.bench.peers.pytorch import function_of

    for workload in OPS:
        arrays = arrays_of(workload, "float64")
        leaves = {n: torch.from_numpy(a.copy()) for n, a in arrays.items() if n != "dout"}
        inputs = [leaf.requires_grad_() for leaf in leaves.values()]
        out = function_of(workload, "float64")(*inputs)
        theirs = torch.autograd.grad(out, inputs, torch.from_numpy(arrays["dout"]))
        for ours, expected in zip(minise_gradients(workload, arrays), theirs, strict=True):
            assert_close(ours, expected.numpy())


def minise_gradients(workload, arrays):
    dout, inputs = arrays["dout"], [a for name, a in arrays.items() if name != "dout"]
    if workload["op"] == "conv2d":
        _, cache = reference.conv2d_forward(*inputs, **conv_settings(workload))
        return reference.conv2d_backward(dout, cache)[:2]
    if workload["op"] == "squeeze_excite":
        return reference.squeeze_excite_backward(dout, reference.squeeze_excite_forward(*inputs)[1])
    C = workload["C"]
    running = dict(running_mean=np.zeros(C), running_var=np.ones(C), training=True)
    op = workload["op"]
    forward, backward = (getattr(reference, f"{op}_{name}") for name in ("forward", "backward"))
    return backward(dout, forward(*inputs, **running)[1])


@pytest.mark.parametrize("workload", BLOCK_WORKLOADS, ids=lambda workload: workload["block"])
def test_the_torch_twin_of_a_block_has_our_output_and_gradients(workload):
    torch = pytest.importorskip("torch", reason="needs torch: pip install -e '.[oracle]'")
    from minise.bench.peers.twins import block_twin_of

    block = build_block(workload["block"], dtype=np.float64)
    rng = np.random.default_rng(1)
    for array in block.named_parameters().values():  # gamma = 1 would hide a missing gamma
        array[...] = rng.standard_normal(array.shape)
    x, dout = arrays_of(workload, "float64").values()
    out, cache = block.forward(x, training=True)
    dx, grads = block.backward(dout, cache)
    twin, leaf = block_twin_of(block), torch.from_numpy(x.copy()).requires_grad_()
    twin_out = twin(leaf)
    assert_close(out, twin_out.detach().numpy())
    inputs = [leaf, *twin.parameters()]
    gradients = torch.autograd.grad(twin_out, inputs, torch.from_numpy(dout))
    ours = [dx, *(grads[name] for name in block.named_parameters())]
    for grad, expected in zip(ours, gradients, strict=True):
        assert_close(grad, expected.numpy())


@pytest.mark.parametrize("workload", BLOCK_WORKLOADS, ids=lambda workload: workload["block"])
def test_the_implementations_of_blocks_agree(workload):
    pytest.importorskip("torch", reason="needs torch: pip install -e '.[oracle]'")
    names = ("minise", *TORCH)
    checksums = {name: checksum_of(peers.make(name, workload, BLOCK_SETTINGS)()) for name in names}
    assert checksums["minise"].scale > 0.1
    check_agreement(title(workload), checksums, BLOCK_SETTINGS.dtype)


def test_ops_in_groups_agree():
    net = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1, groups=3), nn.Conv2d(6, 2, 1))
    grouped, _ = op_workloads(net, BLOCK_SETTINGS.batch)
    names = ["minise"] if peers.missing("torch") else ["minise", *TORCH]
    checksums = {name: checksum_of(peers.make(name, grouped, BLOCK_SETTINGS)()) for name in names}
    check_agreement(title(grouped), checksums, BLOCK_SETTINGS.dtype)
