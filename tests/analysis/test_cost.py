"""Costs of layers, by hand."""

import numpy as np
import pytest

from minise import models, nn
from minise.analysis import cost_of
from minise.ops import reference, wrap


def one(layer, size=(8, 6)):
    """Return the table's only row of a net of one layer."""
    (row,) = cost_of(nn.Sequential(layer), size).layers
    return row


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
    row = one(layer)
    assert (row.layer, row.shape, row.macs) == ("0", shape, macs)
    assert row.parameters == sum(array.size for array in layer.params.values())
    assert row.se == isinstance(layer, nn.SEBlock)


def test_a_fused_op_counts_for_each_of_its_layers():
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


def test_a_net_of_the_users_own_is_costed_as_it_is_declared():
    """One channel comes in; a child takes its parent's name, a layer stands at two places."""
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
    assert [tuple(row) for row in cost.layers] == [
        ("stem", "Conv2d, MaxPool2d", (4, 4, 3), 36, 8 * 6 * 36, False),
        ("twice.0", "Conv2d", (4, 4, 3), 16, 2 * 12 * 16, False),
        ("twice.1", "BatchNorm2d, ReLU", (4, 4, 3), 8, 0, False),
        ("twice", "add, ReLU", (4, 4, 3), 0, 0, False),
        ("tied", "Conv2d", (4, 4, 3), 0, 12 * 16, False),
        ("3", "GlobalAvgPool2d", (4,), 0, 0, False),
        ("fc", "Linear", (5,), 25, 20, False),
    ]
    assert cost.parameters == net.parameter_count


def test_an_input_that_is_no_image():
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


def test_messages():
    with pytest.raises(ValueError, match=r"cost_of: size \(rows\) is 0, expected at least 1"):
        cost_of(models.build("resnet8"), (0, 32))
