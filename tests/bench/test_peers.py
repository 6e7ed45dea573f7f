"""The peers do the same work: their losses and gradients are ours."""

import numpy as np
import pytest

from minise import models, nn
from minise.bench import contestants
from minise.bench.agree import check_firsts, first_of
from minise.bench.peers import im2col
from minise.bench.settings import Settings
from minise.bench.works import arrays_of, conv_settings, images_of, title, works_of
from minise.ops import reference

SMALL = Settings(what=("ops",), net="se_resnet8", batch=4, threads=1, dtype="float64")
OPS = works_of(SMALL)


def integers(rng, *shape):
    return rng.integers(-3, 4, shape).astype(np.float32)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (3, 2)])
@pytest.mark.parametrize(
    "where",
    [
        dict(),
        dict(padding=(1, 1)),
        dict(stride=(2, 2), padding=(1, 0)),
        dict(stride=(1, 3), dilation=(2, 1), padding=(2, 1)),
    ],
    ids=str,
)
def test_im2col_is_the_reference(kernel, where, bias):
    rng = np.random.default_rng(0)
    x, weight = integers(rng, 3, 4, 8, 9), integers(rng, 5, 4, *kernel)
    given = x, weight, integers(rng, 5) if bias else None
    out, cache = im2col.conv2d_forward(*given, **where)
    expected, reference_cache = reference.conv2d_forward(*given, **where)
    np.testing.assert_array_equal(out, expected)
    dout = integers(rng, *out.shape)
    ours = reference.conv2d_backward(dout, reference_cache)
    for one, other in zip(im2col.conv2d_backward(dout, cache), ours, strict=True):
        if other is None:
            assert one is None
        else:
            np.testing.assert_array_equal(one, other)


def test_im2col_has_the_other_ops_and_refuses_groups():
    assert im2col.relu_forward is reference.relu_forward
    with pytest.raises(ValueError, match="groups is 2, expected 1"):
        im2col.conv2d_forward(np.ones((1, 2, 3, 3)), np.ones((2, 1, 1, 1)), groups=2)


def test_op_works_are_those_of_the_net():
    titles = [title(work) for work in OPS]
    assert titles[0] == "conv2d 3x3, 3 to 16, 32x32"
    assert "conv2d 1x1 /2, 16 to 32, 32x32" in titles
    assert "conv2d 3x3 /2, 32 to 64, 16x16" in titles
    assert "batch norm + squeeze-excite R=4 + add + ReLU, 64, 8x8" in titles
    assert "batch norm + ReLU, 32, 16x16" in titles
    assert len(set(titles)) == len(titles)


def test_every_op_work_runs():
    """minise's and im2col's functions, at a batch of one; shapes of dout are checked by the ops."""
    settings = Settings(what=("ops",), net="se_resnet8", batch=1, threads=1)
    for work in works_of(settings):
        for name in ("minise", "numpy-im2col"):
            if contestants.takes_part(name, work):
                contestants.make(name, work, settings)()


def one_step(net):
    """Return the first loss and all gradients of a minise net."""
    images, labels = images_of(SMALL)
    logits, cache = net.forward(images, training=True)
    loss, loss_cache = reference.softmax_cross_entropy_forward(logits, labels)
    dlogits, _ = reference.softmax_cross_entropy_backward(np.ones(()), loss_cache)
    return loss, net.backward(dlogits, cache, needs_dx=False)[1]


def close(one, other):
    """Another order of summation: 1e-10 of the largest is some 1e5 roundings."""
    assert one.shape == other.shape
    assert abs(one - other).max() <= 1e-10 * abs(other).max()


def test_a_step_with_im2col_has_our_gradients():
    plain, peer = (models.build("se_resnet8", ops=o, dtype="float64") for o in (reference, im2col))
    (loss, grads), (peer_loss, peer_grads) = one_step(plain), one_step(peer)
    assert peer_loss == pytest.approx(loss, rel=1e-12)
    for name, grad in grads.items():
        close(peer_grads[name], grad)


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
    from minise.bench.peers.torch_net import twin_of

    net = build(name, settings)
    twin = twin_of(net)
    loss, grads = one_step(net)
    images, labels = (torch.from_numpy(array) for array in images_of(SMALL))
    theirs = torch.nn.functional.cross_entropy(twin(images), labels)
    theirs.backward()
    assert float(theirs.detach()) == pytest.approx(float(loss), rel=1e-12)
    assert grads.keys() == {name for name, _ in twin.named_parameters()}
    for name, parameter in twin.named_parameters():
        close(grads[name], parameter.grad.numpy())
    with torch.inference_mode():  # with the running statistics that the step left
        close(net.predict(images.numpy()), twin.eval()(images).numpy())


@pytest.mark.parametrize("settings", [dict(shortcut="A", site="post"), dict(gate="tanh")])
def test_a_net_without_a_torch_twin_is_refused(settings):
    pytest.importorskip("torch", reason="needs torch: pip install -e '.[oracle]'")
    from minise.bench.peers.torch_net import twin_of

    with pytest.raises(ValueError, match="no twin"):
        twin_of(models.build("se_resnet8", **settings))


def test_a_net_of_the_users_own_has_no_torch_twin():
    pytest.importorskip("torch", reason="needs torch: pip install -e '.[oracle]'")
    from minise.bench.peers.torch_net import twin_of

    with pytest.raises(ValueError, match="no twin"):
        twin_of(nn.Chain(nn.Conv2d(3, 4, 3), nn.GlobalAvgPool2d()))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_three_training_steps_lose_alike(dtype):
    """Through the contestants themselves: the same start, inputs and SGD settings for all."""
    names = ["minise", "numpy-im2col"]
    if not contestants.missing("torch"):
        names += ["torch", "torch-channels-last"]
    settings = Settings(net="se_resnet8", batch=4, threads=1, dtype=dtype)
    losses = []
    for name in names:
        step = contestants.make(name, {"kind": "step"}, settings)
        losses.append([step() for _ in range(3)])
    assert losses[0][2] != losses[0][0]
    np.testing.assert_allclose(losses, [losses[0]] * len(names), rtol=np.finfo(dtype).eps * 1e3)


@pytest.mark.parametrize("name", ["numpy-im2col", "torch", "torch-channels-last"])
def test_inference_of_one_image_agrees(name):
    if reason := contestants.missing(name):
        pytest.skip(reason)
    settings = Settings(net="se_resnet8", batch=1, threads=1, ops="reference")
    logits = [contestants.make(n, {"kind": "forward"}, settings)() for n in ("minise", name)]
    assert logits[0].shape == (1, 10)
    firsts = dict(zip(("minise", name), map(first_of, logits), strict=True))
    check_firsts("inference", firsts, "minise", settings.dtype)


def test_minise_folds_its_net_and_a_peer_runs_its_own_ops(monkeypatch):
    settings = Settings(net="se_resnet8", batch=1, threads=1, ops="reference")
    calls = []
    monkeypatch.setattr(nn.Chain, "inference", lambda _: lambda x: calls.append("inference"))
    monkeypatch.setattr(nn.Chain, "predict", lambda *_: calls.append("predict"))
    for name in ("minise", "numpy-im2col"):
        contestants.make(name, {"kind": "forward"}, settings)()
    assert calls == ["inference", "predict"]


def test_the_torch_ops_have_our_gradients():
    torch = pytest.importorskip("torch", reason="needs torch: pip install -e '.[oracle]'")
    from minise.bench.peers.torch_runs import function_of

    for work in OPS:
        arrays = arrays_of(work, "float64")
        leaves = {n: torch.from_numpy(a.copy()) for n, a in arrays.items() if n != "dout"}
        inputs = [leaf.requires_grad_() for leaf in leaves.values()]
        out = function_of(work, "float64")(*inputs)
        theirs = torch.autograd.grad(out, inputs, torch.from_numpy(arrays["dout"]))
        for one, other in zip(minise_gradients(work, arrays), theirs, strict=True):
            close(one, other.numpy())


WAYS = ("forward", "backward")


def minise_gradients(work, arrays):
    dout, inputs = arrays["dout"], [a for name, a in arrays.items() if name != "dout"]
    if work["op"] == "conv2d":
        _, cache = reference.conv2d_forward(*inputs, **conv_settings(work))
        return reference.conv2d_backward(dout, cache)[:2]
    if work["op"] == "squeeze_excite":
        return reference.squeeze_excite_backward(dout, reference.squeeze_excite_forward(*inputs)[1])
    C = work["C"]
    running = dict(running_mean=np.zeros(C), running_var=np.ones(C), training=True)
    forward, backward = (getattr(reference, f"{work['op']}_{way}") for way in WAYS)
    return backward(dout, forward(*inputs, **running)[1])
