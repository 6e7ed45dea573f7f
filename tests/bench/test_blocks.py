"""Blocks of convolutions in groups: PyTorch's are the same, and their single ops are found."""

import numpy as np
import pytest

from minise import nn
from minise.bench import blocks, contestants
from minise.bench.agree import check_firsts, first_of
from minise.bench.settings import Settings
from minise.bench.works import arrays_of, op_works, title, works_of

SETTINGS = Settings(what=("blocks",), batch=2, threads=1, ops="reference")
WORKS = works_of(SETTINGS)
TORCH = ("torch", "torch-channels-last")


def close(one, other):
    """Another order of summation: 1e-10 of the largest is some 1e5 roundings."""
    assert one.shape == other.shape
    assert abs(one - other).max() <= 1e-10 * abs(other).max()


def test_the_works():
    assert [title(work) for work in WORKS] == [
        "block depthwise 3x3 + 1x1, 128, 16x16",
        "block 1x1 + 3x3 in 32 groups + 1x1, 128, 16x16",
    ]
    shapes = {name: array.shape for name, array in arrays_of(WORKS[0], "float32").items()}
    assert shapes == dict(x=(2, 128, 16, 16), dout=(2, 128, 16, 16))
    parts = ("minise", *TORCH, "torch-compile", "numpy-im2col")
    takes_part = contestants.takes_part
    assert [name for name in parts if takes_part(name, WORKS[0])] == ["minise", *TORCH]


def test_parameters_by_hand():
    """3x3 of each channel, and 32 squares of 4; a 1x1; gamma and beta of two norms."""
    C, norms = 128, 4 * 128
    counts = [
        sum(array.size for array in blocks.build(name).named_parameters().values())
        for name in blocks.BLOCKS
    ]
    assert counts == [9 * C + C * C + norms, 2 * C * C + 32 * 4 * 4 * 9 + norms]


@pytest.mark.parametrize("work", WORKS, ids=lambda work: work["block"])
def test_the_torch_twin_has_our_output_and_gradients(work):
    torch = pytest.importorskip("torch", reason="needs torch: pip install -e '.[oracle]'")
    from minise.bench.peers.torch_blocks import twin_of

    block = blocks.build(work["block"], dtype=np.float64)
    rng = np.random.default_rng(1)
    for array in block.named_parameters().values():  # at gamma = 1 a forgotten gamma cannot show
        array[...] = rng.standard_normal(array.shape)
    x, dout = arrays_of(work, "float64").values()
    out, cache = block.forward(x, training=True)
    dx, grads = block.backward(dout, cache)
    twin, leaf = twin_of(block), torch.from_numpy(x.copy()).requires_grad_()
    theirs = twin(leaf)
    close(out, theirs.detach().numpy())
    inputs = [leaf, *twin.parameters()]
    gradients = torch.autograd.grad(theirs, inputs, torch.from_numpy(dout))
    ours = [dx, *(grads[name] for name in block.named_parameters())]
    for one, other in zip(ours, gradients, strict=True):
        close(one, other.numpy())


@pytest.mark.parametrize("work", WORKS, ids=lambda work: work["block"])
def test_the_contestants_agree(work):
    pytest.importorskip("torch", reason="needs torch: pip install -e '.[oracle]'")
    names = ("minise", *TORCH)
    firsts = {name: first_of(contestants.make(name, work, SETTINGS)()) for name in names}
    assert firsts["minise"].scale > 0.1
    check_firsts(title(work), firsts, "minise", SETTINGS.dtype)


def test_ops_in_groups():
    """A 3x3 in three groups: im2col has none, and all others agree."""
    net = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1, groups=3), nn.Conv2d(6, 2, 1))
    grouped, plain = op_works(net, SETTINGS)
    assert title(grouped) == "conv2d 3x3 in 3 groups, 3 to 6, 32x32"
    assert arrays_of(grouped, "float32")["weight"].shape == (6, 1, 3, 3)
    assert not contestants.takes_part("numpy-im2col", grouped)
    assert contestants.takes_part("numpy-im2col", plain)
    names = ["minise"] if contestants.missing("torch") else ["minise", *TORCH]
    firsts = {name: first_of(contestants.make(name, grouped, SETTINGS)()) for name in names}
    check_firsts(title(grouped), firsts, "minise", SETTINGS.dtype)
