"""BN-Inception: counts of the authors' nets, modules, stages of SE blocks, and image sizes."""

import numpy as np
import pytest

from minise import nn
from minise.analysis import cost_of
from minise.analysis.table import paper_totals
from tests.models.zoo import on_shapes

# output channels, hidden units of the SE block with reduction 16, rows and columns at 224x224
MODULES = {
    "3a": (256, 16, 28),
    "3b": (320, 20, 28),
    "3c": (576, 36, 14),
    "4a": (576, 36, 14),
    "4b": (576, 36, 14),
    "4c": (608, 38, 14),
    "4d": (608, 38, 14),
    "4e": (1056, 66, 7),
    "5a": (1024, 64, 7),
    "5b": (1024, 64, 7),
}


@pytest.mark.parametrize(
    ("name", "settings", "parameters", "macs"),
    [
        ("bn_inception", {}, 11_285_224, 2.0326),
        ("se_bn_inception", {}, 11_931_622, 2.0344),
        ("se_bn_inception", {"bias": False}, 11_924_584, 2.0344),
    ],
)
def test_counts_of_the_authors_nets(name, settings, parameters, macs):
    """Learned parameters; billions of MACs of convolutions, dense layers and gates."""
    total = cost_of(on_shapes(name, **settings), 224)
    assert total.parameters == parameters
    assert round(total.macs / 1e9, 4) == macs


def test_squeezes_add_one_operation_per_element():
    """2.0356 billion with one addition for each element that an SE block averages."""
    totals = paper_totals(cost_of(on_shapes("se_bn_inception")))
    elements = sum(channels * side**2 for channels, _, side in MODULES.values())
    assert totals["macs_with_squeeze"] == totals["macs_with_gate"] + elements
    assert round(totals["macs_with_squeeze"] / 1e9, 4) == 2.0356


def test_modules():
    net = on_shapes("se_bn_inception")
    shapes = {row.layer: row.shape for row in cost_of(net, 224).layers}
    assert shapes["conv1.bn"] == (64, 112, 112)
    assert shapes["conv2.bn"] == (64, 56, 56)
    assert shapes["conv3.bn"] == (192, 56, 56)
    for name, (channels, hidden, side) in MODULES.items():
        assert shapes[f"inception_{name}.se"] == (channels, side, side)
        squeeze = net[f"inception_{name}.se"].params["fc.0.weight"]
        assert squeeze.shape == (hidden, channels)


def test_pools_of_modules():
    """As in Caffe: means count the padding, pools with stride 2 have none, and 5b has a maximum."""
    net = on_shapes("bn_inception")
    for name in MODULES:
        layers = (layer for _, layer in net[f"inception_{name}"].layers())
        (pool,) = (layer for layer in layers if isinstance(layer, nn.MaxPool2d))
        halves = name in ("3c", "4e")
        assert isinstance(pool, nn.AvgPool2d) == (name not in ("3c", "4e", "5b"))
        assert pool.kernel == (3, 3)
        assert pool.stride == ((2, 2) if halves else (1, 1))
        assert pool.padding == ((0, 0) if halves else (1, 1))
        assert pool.ceil_mode == halves
        assert getattr(pool, "count_include_pad", True)


def test_names():
    """Those of torchvision's GoogLeNet; modules with stride 2 have neither branch1 nor branch4."""
    names = on_shapes("se_bn_inception").named_parameters()
    for name in MODULES:
        branches = {key.split(".")[1] for key in names if key.startswith(f"inception_{name}.")}
        others = set() if name in ("3c", "4e") else {"branch1", "branch4"}
        assert branches == {"branch2", "branch3", "se", *others}
    assert names["conv1.conv.weight"].shape == (64, 3, 7, 7)
    assert names["conv3.bn.bias"].shape == (192,)
    assert names["inception_3a.branch1.conv.weight"].shape == (64, 192, 1, 1)
    assert names["inception_4e.branch3.2.conv.weight"].shape == (256, 256, 3, 3)
    assert names["inception_5b.branch4.1.bn.weight"].shape == (128,)
    assert names["inception_5b.se.fc.2.bias"].shape == (1024,)
    assert names["fc.weight"].shape == (1000, 1024)


@pytest.mark.parametrize(
    ("stages", "modules"),
    [((3,), "3a 3b 3c"), ((4,), "4a 4b 4c 4d 4e"), ((3, 5), "3a 3b 3c 5a 5b")],
)
def test_stages_of_se_blocks(stages, modules):
    names = on_shapes("se_bn_inception", stages=stages).named_parameters()
    with_se = {name.split(".")[0] for name in names if ".se." in name}
    assert with_se == {f"inception_{name}" for name in modules.split()}


@pytest.mark.parametrize("width", [1 / 32, 1 / 2, 2])
def test_width(width):
    net = on_shapes("se_bn_inception", width=width)
    for name, (channels, _, _) in MODULES.items():
        assert len(net[f"inception_{name}.se"].params["fc.2.weight"]) == channels * width
    assert net["fc"].params["weight"].shape == (1000, 1024 * width)


def test_sides_of_images():
    """32 k - 1 to 32 k + 6, because modules 3c and 4e halve an even number of rows; at least 63."""
    net = on_shapes("se_bn_inception")
    for rows, columns in ((63, 224), (70, 95), (224, 102), (262, 63)):
        x = net.ops.shaped((1, 3, rows, columns), np.float32)
        assert net.predict(x).shape == (1, 1000)


@pytest.mark.parametrize(
    ("rows", "columns", "expected"),
    [
        (62, 63, "at least 63 x 63"),
        (71, 102, "a size such as 70 x 102"),
        (224, 94, "a size such as 224 x 95"),
    ],
)
def test_other_sides_are_refused(rows, columns, expected):
    net = on_shapes("se_bn_inception")
    x = net.ops.shaped((1, 3, rows, columns), np.float32)
    message = f"se_bn_inception: images are {rows} x {columns}, expected {expected}: "
    with pytest.raises(ValueError, match=message):
        net.predict(x)
