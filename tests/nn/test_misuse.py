"""Mistakes in declaring a net: the message names the argument and the remedy."""

import numpy as np
import pytest

from minise import nn
from minise.ops import reference


def chain(*children):
    return lambda: nn.Chain(*children)


class Norm(nn.BatchNorm2d):
    """A normalisation with a forward of its own."""

    def forward(self, x, training):
        return super().forward(x, training)


class Backward(nn.BatchNorm2d):
    """A normalisation with a backward of its own."""

    def backward(self, dout, cache, plus=None, needs_dx=True):
        return super().backward(dout, cache, plus, needs_dx)


class Gate(nn.SEBlock):
    """An SE block with a forward of its own."""

    def forward(self, x, training):
        return super().forward(x, training)


NORM = nn.BatchNorm2d(4)
TWINS = ("a", nn.Linear(2, 2)), ("a", nn.Linear(2, 2))
NESTED = ("", nn.Chain(("a", nn.BatchNorm2d(2)))), ("a", nn.BatchNorm2d(2))
CONSTRUCTION = {
    "a list": (
        lambda: nn.Sequential([nn.ReLU(), nn.ReLU()]),
        TypeError,
        r"^Chain: child 0 is a list, expected a layer: write Chain\(\*layers\)",
    ),
    "a tuple of two layers": (
        chain((nn.ReLU(), nn.ReLU())),
        TypeError,
        r"^Chain: child 0 is a tuple, expected a layer: write Chain\(\*layers\)",
    ),
    "a list under a name": (
        chain(("a", [nn.ReLU()])),
        TypeError,
        r"child 0 is a list, expected a layer: write Chain\(\*layers\)",
    ),
    "a class": (
        chain(nn.ReLU(), nn.ReLU),
        TypeError,
        r"child 1 is the class ReLU, expected a layer: write ReLU\(…\), an instance",
    ),
    "a class under a name": (
        chain(("relu", nn.ReLU)),
        TypeError,
        r"child 0 is the class ReLU, expected a layer: write ReLU\(…\)",
    ),
    "a string": (
        chain("relu"),
        TypeError,
        "child 0 is a str, expected a layer: pass layers, or pairs of a name and a layer",
    ),
    "None without a name": (chain(nn.ReLU(), None), TypeError, "child 1 is None, expected a layer"),
    "a name that is no string": (
        chain((3, nn.ReLU())),
        TypeError,
        "child 0 has the name 3, expected a string, such as .'3', layer",
    ),
    "a function": (chain(np.tanh), TypeError, "child 0 is an ufunc, expected a layer"),
    "a back end": (chain(reference), TypeError, "child 0 is a module, expected a layer"),
    "a tail in a chain": (
        chain(nn.ReLU(), nn.Tail()),
        TypeError,
        r"child 1 is a Tail, expected a layer: .*Residual\(branch, shortcut, tail\)",
    ),
    "two arrays of one name": (
        chain(*TWINS),
        ValueError,
        "^Chain: two arrays are called a.weight: give the layers different names",
    ),
    "two arrays of one name, nested": (
        chain(*NESTED),
        ValueError,
        "^Chain: two arrays are called a.weight: give",
    ),
    "no branch": (nn.Branches, ValueError, "^Branches: the number of layers is 0, expected"),
    "another merge": (
        lambda: nn.Branches(nn.ReLU(), merge="sum"),
        ValueError,
        "Branches: merge is 'sum', expected one of concat, add",
    ),
    "a class as branch": (
        lambda: nn.Residual(nn.ReLU),
        TypeError,
        r"Residual: branch is the class ReLU, expected a layer: write ReLU\(…\)",
    ),
    "a list as branch": (
        lambda: nn.Residual([nn.ReLU()]),
        TypeError,
        r"Residual: branch is a list, expected a layer: write Chain\(\*layers\)",
    ),
    "a string as shortcut": (
        lambda: nn.Residual(nn.ReLU(), "A"),
        TypeError,
        "Residual: shortcut is a str, expected a layer",
    ),
    "two convolutions without names": (
        lambda: nn.Residual(nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1)),
        ValueError,
        r"Residual: two arrays are called weight: .*Chain\(\(\"name\", layer\)\)",
    ),
    "a layer as tail": (
        lambda: nn.Residual(nn.ReLU(), tail=NORM),
        TypeError,
        r"^Residual: tail is a BatchNorm2d, expected a Tail, such as Tail\(\(\"bn2\", norm\)\) or",
    ),
    "a class as tail": (
        lambda: nn.Residual(nn.ReLU(), tail=nn.Tail),
        TypeError,
        "Residual: tail is the class Tail, expected a Tail",
    ),
    "a normalisation of another forward": (
        lambda: nn.NormAddReLU("bn", Norm(4)),
        TypeError,
        r"a layer is a Norm, expected a BatchNorm2d: .*use Tail\(\(\"bn\", norm\), …\)",
    ),
    "a normalisation of another backward": (
        lambda: nn.NormAddReLU("bn", Backward(4)),
        TypeError,
        "NormAddReLU: a layer is a Backward, expected a BatchNorm2d",
    ),
    "a normalisation with a ReLU": (
        lambda: nn.NormAddReLU("bn", nn.NormReLU(4)),
        TypeError,
        "NormAddReLU: a layer is a NormReLU, expected a BatchNorm2d",
    ),
    "a gate of another forward": (
        lambda: nn.NormAddReLU("bn", NORM, Gate(4)),
        TypeError,
        "NormAddReLU: a layer is a Gate, expected a SEBlock",
    ),
    "a gate as normalisation": (
        lambda: nn.NormAddReLU("bn", nn.SEBlock(4)),
        TypeError,
        "NormAddReLU: a layer is a SEBlock, expected a BatchNorm2d",
    ),
    "a class as normalisation": (
        lambda: nn.NormAddReLU("bn", nn.BatchNorm2d),
        TypeError,
        "NormAddReLU: a layer is the class BatchNorm2d, expected a BatchNorm2d",
    ),
    "a gate that squeezes by the maximum": (
        lambda: nn.NormAddReLU("bn", NORM, nn.SEBlock(4, nn.SE(squeeze="max"))),
        ValueError,
        r"the gate's squeeze is 'max', expected 'avg': use Tail\(\(\"bn\", norm\), \(\"se\", gate",
    ),
    "an unknown back end": (
        lambda: nn.ReLU(ops="nothing"),
        ValueError,
        "ops 'nothing' is unknown, expected one of reference, jit, cuda",
    ),
    "groups and channels_in": (
        lambda: nn.Conv2d(4, 6, 1, groups=3),
        ValueError,
        "^Conv2d: groups is 3, expected a divisor of channels_in = 4",
    ),
    "groups and channels_out": (
        lambda: nn.Conv2d(6, 4, 1, groups=3),
        ValueError,
        "^Conv2d: groups is 3, expected a divisor of channels_out = 4",
    ),
    "no groups": (lambda: nn.Conv2d(4, 4, 1, groups=0), ValueError, "groups is 0, expected at l"),
    "a kernel of one number in a tuple": (
        lambda: nn.Conv2d(4, 4, (3,)),
        TypeError,
        r"^Conv2d: kernel is \(3,\), expected a pair \(rows, columns\): pass 3 or \(3, 3\)",
    ),
    "a kernel of three numbers": (
        lambda: nn.Conv2d(4, 4, (3, 3, 3)),
        TypeError,
        r"^Conv2d: kernel is \(3, 3, 3\), expected a pair \(rows, columns\)",
    ),
    "no kernel": (lambda: nn.Conv2d(4, 4, 0), ValueError, "kernel is 0, expected at least 1"),
    "half a kernel": (lambda: nn.Conv2d(4, 4, 1.5), TypeError, "kernel is 1.5, expected an inte"),
    "a negative kernel": (lambda: nn.Conv2d(4, 4, (3, -1)), ValueError, "kernel is -1, expected"),
    "a negative padding": (
        lambda: nn.Conv2d(4, 4, 3, padding=-1),
        ValueError,
        "Conv2d: padding is -1, expected at least 0",
    ),
    "another word for padding": (
        lambda: nn.Conv2d(4, 4, 3, padding="full"),
        ValueError,
        "Conv2d: padding is 'full', expected one of same, valid, a number of rows",
    ),
    "the same size at stride 2": (
        lambda: nn.Conv2d(4, 4, 3, stride=2, padding="same"),
        ValueError,
        r"Conv2d: padding is 'same' at stride \(2, 2\), expected stride 1: .*such as padding=1",
    ),
    "the same size with an even kernel": (
        lambda: nn.Conv2d(4, 4, (3, 2), padding="same"),
        ValueError,
        r"padding is 'same' with kernel \(3, 2\).*use an odd kernel, or padding=\(rows, columns\)",
    ),
    "negative channels": (lambda: nn.Conv2d(-1, 4, 1), ValueError, "channels_in is -1, expected"),
    "no channels": (lambda: nn.Conv2d(4, 0, 1), ValueError, "channels_out is 0, expected at le"),
    "no inputs": (lambda: nn.Linear(0, 4), ValueError, "^Linear: inputs is 0, expected at least 1"),
    "no outputs": (lambda: nn.Linear(4, -2), ValueError, "^Linear: outputs is -2, expected at"),
    "a norm of nothing": (lambda: nn.NormReLU(-4), ValueError, "^NormReLU: channels is -4, exp"),
    "a gate of nothing": (lambda: nn.SEBlock(0), ValueError, "^SEBlock: channels is 0, expected"),
    "no reduction": (lambda: nn.SEBlock(16, 0), ValueError, "^SE: reduction is 0, expected at"),
    "half a reduction": (lambda: nn.SEBlock(16, 0.5), TypeError, "SE: reduction is 0.5, expected"),
    "a pool of nothing": (lambda: nn.MaxPool2d(0), ValueError, "^MaxPool2d: kernel is 0, expected"),
    "a pool of one stride": (
        lambda: nn.AvgPool2d(2, stride=(2,)),
        TypeError,
        r"^AvgPool2d: stride is \(2,\), expected a pair \(rows, columns\)",
    ),
    "fewer channels": (lambda: nn.PadChannels(-1), ValueError, "^PadChannels: channels is -1"),
    "a scale without end": (
        lambda: nn.Scale(np.inf),
        ValueError,
        "^Scale: factor is inf, expected",
    ),
    "an image is scaled": (
        lambda: nn.Scale(2.0).forward(np.ones((3, 4)), True),
        ValueError,
        "^Scale: x has",
    ),
    "another stride": (
        lambda: nn.bottleneck(4, 4, 2, nn.Build(), stride_in="2x2"),
        ValueError,
        "^bottleneck: stride_in is '2x2', expected one of 3x3, 1x1",
    ),
    "half a channel": (
        lambda: nn.Build(width=0.5).scale(3),
        ValueError,
        "^Build: width is 0.5, which leaves 1.5 of 3 channels, expected a whole number: use a mult",
    ),
    "no width": (lambda: nn.Build(width=0), ValueError, "^Build: width is 0, expected a number"),
    "no stage": (lambda: nn.SE(stages=()), ValueError, "^SE: stages is \\(\\), expected at least"),
    "half a stage": (
        lambda: nn.SE(stages=(1.5,)),
        TypeError,
        "^SE: stages is 1.5, expected an int",
    ),
    "one stage as a number": (
        lambda: nn.SE(stages=3),
        TypeError,
        "^SE: stages is 3, expected a tuple of integers",
    ),
    "stages as bytes": (
        lambda: nn.SE(stages=b"3"),
        TypeError,
        "^SE: stages is b'3', expected a tuple of integers",
    ),
    "parameters of an unknown dtype": (
        lambda: nn.Build(dtype="float33"),
        TypeError,
        "^Build: dtype is 'float33', expected np.float32 or np.float64",
    ),
    "integers as parameters": (
        lambda: nn.Build(dtype=int),
        TypeError,
        "^Build: dtype is <class 'int'>, expected np.float32",
    ),
    "parameters without a dtype": (
        lambda: nn.Build(dtype=None),
        TypeError,
        "^Build: dtype is None, expected np.float32",
    ),
    "no shuffle": (lambda: nn.ChannelShuffle(0), ValueError, "^ChannelShuffle: groups is 0, exp"),
    "dropout of a word": (
        lambda: nn.Dropout("half"),
        ValueError,
        "^Dropout: p is 'half', expected a number from 0 to below 1",
    ),
    "dropout of all": (lambda: nn.Dropout(1.0), ValueError, "Dropout: p is 1.0, expected a number"),
}


@pytest.mark.parametrize("name", CONSTRUCTION)
def test_construction(name):
    make, error, message = CONSTRUCTION[name]
    with pytest.raises(error, match=message) as raised:
        make()
    assert raised.type is error


# What looks alike and is right


def test_a_back_end_by_its_name():
    assert nn.Linear(2, 2, ops="reference").ops is reference
    net = nn.Chain(("fc", nn.Linear(2, 2, ops="reference")), ops="reference")
    assert net.ops is reference
    with pytest.raises(ValueError, match="ops 'nothing' is unknown"):
        nn.Chain(nn.ReLU(), ops="nothing")


def test_none_leaves_a_named_child_out():
    net = nn.Chain(("a", None), ("b", nn.ReLU()), ("c", None))
    assert [name for name, _ in net.children()] == ["b"]


def test_a_reduction_alone():
    block = nn.SEBlock(16, 4)
    assert block.se == nn.SE(reduction=4)
    assert block.params["fc.0.weight"].shape == (4, 16)
    assert nn.SEBlock(16).se == nn.SE()


def test_a_reduction_of_few_bits():
    assert type(nn.SE(reduction=np.int8(16)).reduction) is int
    assert nn.SEBlock(256, np.int8(16)).params["fc.0.weight"].shape == (16, 256)


@pytest.mark.parametrize(
    ("kernel", "dilation", "padding"),
    [
        (1, 1, (0, 0)),
        (3, 1, (1, 1)),
        ((5, 1), 1, (2, 0)),
        (3, (2, 1), (2, 1)),
        (2, 2, (1, 1)),  # it spans three rows
    ],
)
def test_padding_that_keeps_the_size(kernel, dilation, padding):
    layer = nn.Conv2d(2, 3, kernel, padding="same", dilation=dilation)
    assert layer.padding == padding
    assert layer.predict(np.ones((1, 2, 7, 6), np.float32)).shape == (1, 3, 7, 6)


def test_no_padding():
    layer = nn.Conv2d(2, 3, 3, stride=2, padding="valid")
    assert layer.padding == (0, 0)
    assert layer.predict(np.ones((1, 2, 7, 6), np.float32)).shape == (1, 3, 3, 2)


def test_pairs_and_lists():
    layer = nn.Conv2d(2, 3, [3, np.int64(2)], stride=(2, 1), padding=np.int64(1))
    assert (layer.kernel, layer.stride, layer.padding) == ((3, 2), (2, 1), (1, 1))


# Looking a layer up


def test_a_layer_by_its_name_or_index():
    net = nn.Chain(("conv1", nn.Conv2d(1, 1, 1)), ("body", nn.Chain(("conv2", nn.ReLU()))))
    assert net["body.conv2"] is net[1][0]
    assert net[""] is net
    assert net[-1] is net["body"]
    with pytest.raises(KeyError, match=r"Chain has no layer 'conv3': did you mean conv1"):
        net["conv3"]
    with pytest.raises(KeyError, match=r"ReLU has no layer 'x': it has no layers below"):
        nn.ReLU()["x"]
    assert list(net) == [net[0], net[1]]
    with pytest.raises(IndexError):
        net[2]


def test_a_repr_shows_the_tree():
    shown = repr(
        nn.Chain(
            ("conv", nn.Conv2d(3, 4, 3, stride=2, padding=1)),
            ("unit", nn.Residual(nn.Chain(("bn", nn.BatchNorm2d(4))))),
            ("drop", nn.Dropout(0.5)),
        )
    )
    assert shown.splitlines() == [
        "Chain()",
        "  conv: Conv2d(kernel=(3, 3), stride=(2, 2), padding=(1, 1))  weight (4, 3, 3, 3)",
        "  unit: Residual()",
        "    (branch): Chain()",
        "      bn: BatchNorm2d()  weight (4,), bias (4,)",
        "    (tail): Tail()",
        "      (before): Chain()",
        "    (shortcut): Chain()",
        "  drop: Dropout(p=0.5)",
    ]
