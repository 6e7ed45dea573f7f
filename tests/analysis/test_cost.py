"""Costs of layers, by hand."""

import numpy as np
import pytest

from minise import models, nn
from minise.analysis import cost_of, summary
from minise.analysis.inputs import recorded
from minise.ops import reference, wrap


def row_of(layer, size=(8, 6)):
    """Return the only row in the table of a net with one layer."""
    (row,) = cost_of(nn.Sequential(layer), size).layers
    return row


def shown(row):
    """Return what identifies a row, its parameters and MACs."""
    return row.layer, row.kind, row.shape, row.parameters, row.macs, row.se


@pytest.mark.parametrize(
    ("layer", "shape", "macs"),
    [
        (nn.Conv2d(3, 5, 3, padding=1), (5, 8, 6), 5 * 8 * 6 * 3 * 3 * 3),
        (nn.Conv2d(3, 5, 3, stride=2, bias=True), (5, 3, 2), 5 * 3 * 2 * 3 * 3 * 3),
        (nn.Conv2d(3, 6, (1, 2), groups=3), (6, 8, 5), 6 * 8 * 5 * 1 * 1 * 2),
        (nn.SEBlock(3, nn.SE(reduction=1)), (3, 8, 6), 3 * 3 + 3 * 3 + 3 * 8 * 6),
        (nn.SEBlock(3, nn.SE(3, squeeze="none")), (3, 8, 6), 8 * 6 * (3 + 3) + 3 * 8 * 6),
        (nn.BatchNorm2d(3), (3, 8, 6), 0),
    ],
)
def test_by_hand(layer, shape, macs):
    row = row_of(layer)
    assert (row.layer, row.shape, row.macs) == ("0", shape, macs)
    assert row.parameters == sum(array.size for array in layer.params.values())
    assert row.se == isinstance(layer, nn.SEBlock)


def test_a_fused_op_has_a_row_for_each_of_its_layers():
    block = nn.basic_block(3, 3, 1, nn.Build(se=nn.SE(reduction=1)))
    rows = {row.layer: row for row in cost_of(nn.Sequential(block), (8, 6)).layers}
    assert list(rows) == ["0.conv1", "0.bn1", "0.conv2", "0.bn2", "0.se"]
    tail = rows["0.se"]
    assert (tail.kind, tail.se, tail.shape) == ("SEBlock, add, ReLU", True, (3, 8, 6))
    assert (tail.macs, tail.parameters) == (3 * 3 + 3 * 3 + 3 * 8 * 6, 2 * 3 * 3 + 3 + 3)
    norm = rows["0.bn2"]
    assert (norm.kind, norm.se, norm.macs, norm.parameters) == ("BatchNorm2d", False, 0, 3 + 3)
    assert rows["0.bn1"].kind == "BatchNorm2d, ReLU"


def test_the_net_is_left_as_it_was():
    net = models.build("se_resnet8")
    before = {name: array.copy() for name, array in net.named_state().items()}
    cost = cost_of(net)
    assert all(layer.ops is reference for layer in net.named_layers().values())
    assert all((net.named_state()[name] == array).all() for name, array in before.items())
    assert cost.parameters == net.parameter_count
    assert cost.macs == sum(row.macs for row in cost.layers)


def test_cost_grows_with_the_image():
    small, large = (cost_of(models.build("resnet8"), size).macs for size in ((32, 32), (64, 64)))
    assert large - 640 == 4 * (small - 640)  # all but the dense layer's 64 x 10


def test_a_user_defined_net_is_counted_as_declared():
    """The input has one channel; two layers share their composite's name; one layer is reused."""
    same = nn.Conv2d(4, 4, 1)
    tied = nn.Conv2d(4, 4, 1)
    tied.params["weight"] = same.params["weight"]
    net = nn.Chain(
        ("stem", nn.Chain(("", nn.Conv2d(1, 4, 3, padding=1)), ("", nn.MaxPool2d(2)))),
        ("twice", nn.Residual(nn.Chain(same, nn.NormReLU(4), same))),
        ("tied", tied),
        nn.GlobalAvgPool2d(),
        ("fc", nn.Linear(4, 5)),
    )
    cost = cost_of(net, (8, 6))
    assert [shown(row) for row in cost.layers] == [
        ("stem", "Conv2d, MaxPool2d", (4, 4, 3), 36, 8 * 6 * 36, False),
        ("twice.0", "Conv2d", (4, 4, 3), 16, 2 * 12 * 16, False),
        ("twice.1", "BatchNorm2d, ReLU", (4, 4, 3), 8, 0, False),
        ("twice", "add, ReLU", (4, 4, 3), 0, 0, False),
        ("tied", "Conv2d", (4, 4, 3), 0, 12 * 16, False),
        ("3", "GlobalAvgPool2d", (4,), 0, 0, False),
        ("fc", "Linear", (5,), 25, 20, False),
    ]
    assert cost.parameters == net.parameter_count


def test_an_input_that_is_not_an_image():
    (row,) = cost_of(nn.Chain(nn.Linear(7, 2)), (7,)).layers
    assert (row.shape, row.macs) == ((2,), 14)
    flat = nn.Chain(nn.Flatten(), nn.Linear(2 * 3 * 4, 5))
    assert cost_of(flat, (2, 3, 4)).macs == 24 * 5


def test_a_guarded_net_stays_guarded():
    net = models.build("resnet8")
    wrap.attach(net, wrap.guarded(reference))
    cost_of(net)
    net.named_parameters()["layer1.0.conv1.weight"][...] = float("nan")
    with pytest.raises(wrap.NonFiniteError, match=r"layer layer1\.0\.conv1, conv2d_forward"):
        net.predict(np.ones((1, 3, 8, 8), np.float32))


class Own(nn.Layer):
    """A learned factor per channel, in NumPy without an op."""

    def __init__(self, channels):
        super().__init__()
        self.params["scale"] = np.ones((channels, 1, 1), np.float32)

    def forward(self, x, training):
        return x * self.params["scale"], x

    def backward(self, dout, cache):
        grads = {"scale": (dout * cache).sum((0, 2, 3))[:, None, None]}
        return dout * self.params["scale"], grads


class Unused(nn.Chain):
    """A chain with a layer that forward skips."""

    def __init__(self, *layers):
        self.unused = nn.Linear(2, 3)
        super().__init__(*layers)

    def children(self):
        return [*super().children(), ("unused", self.unused)]


def test_every_layer_with_parameters_has_a_row():
    net = nn.Chain(nn.Conv2d(3, 4, 1), Own(4), nn.ReLU())
    cost = cost_of(net, (5, 6))
    assert [shown(row) for row in cost.layers] == [
        ("0", "Conv2d", (4, 5, 6), 12, 12 * 30, False),
        ("1", "Own", (4, 5, 6), 4, 0, False),
        ("2", "ReLU", (4, 5, 6), 0, 0, False),
    ]
    assert cost.parameters == net.parameter_count
    assert {call.op for call in recorded(net, (5, 6))} == {"conv2d", "relu"}
    unused = Unused(nn.Conv2d(3, 4, 1))
    assert shown(cost_of(unused).layers[-1]) == ("unused", "Linear", (), 9, 0, False)
    twice = nn.Chain(same := Own(3), nn.ReLU(), same)
    assert [row.layer for row in cost_of(twice).layers] == ["0", "1"]


@pytest.mark.parametrize("name", ["se_resnet8", "se_wrn_16_8", "preact_resnet110"])
def test_all_parameters_of_a_net_are_counted(name):
    net = models.build(name)
    assert cost_of(net).parameters == net.parameter_count


def test_an_integer_size_is_a_square_image():
    net = models.build("resnet8")
    assert cost_of(net, 16) == cost_of(net, np.int64(16)) == cost_of(net, [16, 16])
    assert cost_of(net, 16) == cost_of(net, np.array([16, 16]))
    assert cost_of(net, 16) == cost_of(net, (3, 16, 16))


@pytest.mark.parametrize(
    ("net", "size", "right"),
    [
        (nn.Chain(nn.Flatten(), nn.Linear(48, 3)), (4, 4), (3, 4, 4)),
        (nn.Chain(nn.Branches(nn.ReLU(), nn.Chain()), nn.Conv2d(6, 2, 1)), 5, (3, 5, 5)),
    ],
)
def test_a_wrongly_inferred_number_of_channels_is_reported(net, size, right):
    with pytest.raises(
        ValueError, match=r"cost_of: .*: give size=\(channels, rows, columns\); the"
    ):
        cost_of(net, size)
    assert cost_of(net, right).parameters == net.parameter_count


def test_a_table_for_any_net(capsys):
    cost = summary(nn.Chain(nn.Conv2d(3, 4, 1), Own(4)), 8, "mine [0]")
    lines = capsys.readouterr().out.splitlines()
    assert "mine [0]" in lines[0]
    assert lines[2].split() == ["layer", "kind", "output", "parameters", "MACs", "moved", "saved"]
    assert lines[5].split() == ["1", "Own", "4x8x8", "4", "1.0", "kB"]
    assert lines[-2] == "16 parameters, 0 of them in SE blocks (0.00%)"
    assert "million MACs for an image of 8 x 8, 0.000 million" in lines[-1]
    assert cost.parameters == 16
    assert summary(nn.Chain(nn.ReLU()), (3, 8, 8)).macs == 0
    assert "0 parameters, 0 of them" in capsys.readouterr().out


@pytest.mark.parametrize("size", ["32", (), (1, 3, 8, 8), 3.5, {}])
def test_an_invalid_size(size):
    with pytest.raises(TypeError, match=r"cost_of: size is .*: give size=\(channels, rows, col"):
        cost_of(models.build("resnet8"), size)


def test_messages():
    with pytest.raises(ValueError, match=r"cost_of: size \(rows\) is 0, expected at least 1"):
        cost_of(models.build("resnet8"), (0, 32))
