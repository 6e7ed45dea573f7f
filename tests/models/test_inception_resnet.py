"""Inception-ResNet-v2: counts, units and modules, SE blocks, names and image sizes."""

import numpy as np
import pytest

from minise import nn
from minise.analysis import cost_of
from tests.models.zoo import on_shapes

# channels, rows and columns at 299x299, units
STAGES = {
    "mixed_5b": (320, 35, [f"repeat.{k}" for k in range(10)]),
    "mixed_6a": (1088, 17, [f"repeat_1.{k}" for k in range(20)]),
    "mixed_7a": (2080, 8, [*(f"repeat_2.{k}" for k in range(9)), "block8"]),
}


@pytest.mark.parametrize(
    ("name", "settings", "parameters", "se_macs"),
    [
        ("inception_resnet_v2", {}, 55_843_464, 0),
        ("se_inception_resnet_v2", {}, 64_387_444, 20_035_200),
        ("se_inception_resnet_v2", {"bias": False}, 64_338_824, 20_035_200),
        ("se_inception_resnet_v2", {"site": "all"}, 65_092_718, 21_576_320),
        ("se_inception_resnet_v2", {"site": "all", "bias": False}, 65_040_392, 21_576_320),
    ],
)
def test_counts(name, settings, parameters, se_macs):
    """Learned parameters; MACs of convolutions and dense layers, and of SE blocks.

    The factors of residual branches are constants and no gates: they are not counted.
    """
    total = cost_of(on_shapes(name, **settings), 299)
    assert total.parameters == parameters
    assert total.macs - total.se_macs == 13_155_794_016
    assert total.se_macs == se_macs


@pytest.mark.parametrize(
    ("side", "grids", "macs"),
    [
        (294, (34, 16, 7), 11.6959),
        (296, (34, 16, 7), 11.7241),
        (298, (34, 16, 7), 11.7324),
        (299, (35, 17, 8), 13.1558),
    ],
)
def test_the_papers_macs_need_smaller_images(side, grids, macs):
    """11.75 billion, the figure of the SE paper, is not that of 299x299 images."""
    total = cost_of(on_shapes("inception_resnet_v2"), side)
    shapes = {row.layer: row.shape for row in total.layers}
    assert (
        tuple(shapes[f"{name}.0.conv2d"][1] for name in ("repeat", "repeat_1", "repeat_2")) == grids
    )
    assert round(total.macs / 1e9, 4) == macs


def test_modules_and_units():
    net = on_shapes("se_inception_resnet_v2", site="all")
    shapes = {row.layer: row.shape for row in cost_of(net, 299).layers}
    assert shapes["conv2d_1a.bn"] == (32, 149, 149)
    assert shapes["conv2d_2b.bn"] == (64, 147, 147)
    assert shapes["conv2d_3b.bn"] == (80, 73, 73)
    assert shapes["conv2d_4a.bn"] == (192, 71, 71)
    assert shapes["conv2d_7b.bn"] == (1536, 8, 8)
    for name, (channels, side, units) in STAGES.items():
        for layer in (name, *units):
            assert shapes[f"{layer}.se"] == (channels, side, side)
            squeeze = net[f"{layer}.se"].params["fc.0.weight"]
            assert squeeze.shape == (channels // 16, channels)


def test_factors_and_relus_of_residual_branches():
    net = on_shapes("inception_resnet_v2")
    factors = {"mixed_5b": 0.17, "mixed_6a": 0.10, "mixed_7a": 0.20}
    for name, (channels, _, units) in STAGES.items():
        for unit in units:
            tail = net[unit].tail
            scales = [layer.factor for _, layer in tail.layers() if isinstance(layer, nn.Scale)]
            assert scales == ([] if unit == "block8" else [factors[name]])
            assert tail.relu == (unit != "block8")
            assert net[f"{unit}.conv2d"].params["bias"].shape == (channels,)


def test_normalisations_pool_and_dropout():
    net = on_shapes("inception_resnet_v2")
    norms = [layer for _, layer in net.layers() if isinstance(layer, nn.BatchNorm2d)]
    assert len(norms) == 5 + 7 + 10 * 6 + 4 + 20 * 4 + 7 + 10 * 4 + 1
    assert {norm.eps for norm in norms} == {1e-3}
    (pool,) = (layer for _, layer in net.layers() if isinstance(layer, nn.AvgPool2d))
    assert (pool.kernel, pool.stride, pool.padding) == ((3, 3), (1, 1), (1, 1))
    assert not pool.count_include_pad
    assert net["dropout"].p == 0.2


def test_se_blocks_precede_the_factor():
    tail = on_shapes("se_inception_resnet_v2")["repeat_1.3"].tail.before
    assert [type(layer) for _, layer in tail.children()] == [nn.SEBlock, nn.Scale]


@pytest.mark.parametrize("site", ["standard", "all"])
@pytest.mark.parametrize(
    ("stages", "modules"), [((5,), ["mixed_5b"]), ((6, 7), ["mixed_6a", "mixed_7a"])]
)
def test_stages_of_se_blocks(stages, modules, site):
    names = on_shapes("se_inception_resnet_v2", stages=stages, site=site).named_parameters()
    with_se = {name.partition(".se.")[0] for name in names if ".se." in name}
    units = {unit for module in modules for unit in STAGES[module][2]}
    assert with_se == (units | set(modules) if site == "all" else units)


def test_names_are_those_of_timm():
    names = on_shapes("se_inception_resnet_v2").named_parameters()
    for name, shape in {
        "conv2d_1a.conv.weight": (32, 3, 3, 3),
        "conv2d_4a.bn.bias": (192,),
        "mixed_5b.branch0.conv.weight": (96, 192, 1, 1),
        "mixed_5b.branch1.1.conv.weight": (64, 48, 5, 5),
        "mixed_5b.branch3.1.conv.weight": (64, 192, 1, 1),
        "repeat.9.branch2.2.conv.weight": (64, 48, 3, 3),
        "repeat.0.conv2d.weight": (320, 128, 1, 1),
        "mixed_6a.branch0.conv.weight": (384, 320, 3, 3),
        "repeat_1.19.branch1.1.conv.weight": (160, 128, 1, 7),
        "repeat_1.19.branch1.2.conv.weight": (192, 160, 7, 1),
        "mixed_7a.branch2.2.conv.weight": (320, 288, 3, 3),
        "repeat_2.8.branch1.1.conv.weight": (224, 192, 1, 3),
        "block8.branch1.2.conv.weight": (256, 224, 3, 1),
        "block8.conv2d.bias": (2080,),
        "block8.se.fc.0.weight": (130, 2080),
        "conv2d_7b.conv.weight": (1536, 2080, 1, 1),
        "classif.weight": (1000, 1536),
    }.items():
        assert names[name].shape == shape


@pytest.mark.parametrize("width", [1 / 16, 1 / 2, 2])
def test_width(width):
    net = on_shapes("se_inception_resnet_v2", width=width)
    for channels, _, units in STAGES.values():
        for unit in units:
            assert len(net[unit].branch["conv2d"].params["weight"]) == channels * width
    assert net["classif"].params["weight"].shape == (1000, 1536 * width)


def test_the_smallest_image():
    """75 rows leave 3 for mixed_7a."""
    net = on_shapes("se_inception_resnet_v2")
    assert net.predict(net.ops.shaped((1, 3, 75, 224), np.float32)).shape == (1, 1000)
    for rows, columns in ((74, 107), (107, 74)):
        with pytest.raises(ValueError, match="images are .*, expected at least 75 x 75"):
            net.predict(net.ops.shaped((1, 3, rows, columns), np.float32))
