"""ShuffleNet: counts, groups, stages, and the variant for small images."""

import pytest

from minise import models
from minise.analysis import cost_of
from minise.ops import cost

# Zhang et al., table 2: 137 and 38 million MACs; Hu et al., table 3: 1.8 and 2.4 million parameters
COUNTS = [
    ("shufflenet", {}, 1_865_728, 137.46),
    ("se_shufflenet", {}, 2_484_533, 139.68),
    ("se_shufflenet", dict(bias=False), 2_476_144, 139.68),
    ("shufflenet", dict(stem="cifar"), 914_338, 42.59),
    ("shufflenet", dict(width=0.5), 718_324, 37.59),
]


@pytest.mark.parametrize(("name", "settings", "parameters", "megamacs"), COUNTS)
def test_parameters_and_macs(name, settings, parameters, megamacs):
    net = models.build(name, ops=cost.Shapes(), **settings)
    assert net.parameter_count == parameters
    assert round(cost_of(net, net.size).macs / 1e6, 2) == megamacs


def test_groups_and_channels():
    """The first 1x1 convolution of all has no groups; units of stride 2 append to their input."""
    net = models.build("se_shufflenet", ops=cost.Shapes())
    shapes = {name: array.shape for name, array in net.named_parameters().items()}
    assert net["layer1.0.conv1"].groups == 1
    assert {net[f"layer{k}.{i}.conv1"].groups for k, i in ((1, 1), (2, 0), (3, 3))} == {3}
    assert {net[f"layer{k}.{i}.conv3"].groups for k, i in ((1, 0), (2, 0), (3, 3))} == {3}
    assert shapes["layer1.0.conv1.weight"] == (60, 24, 1, 1)
    assert shapes["layer1.0.conv2.weight"] == (60, 1, 3, 3)
    assert shapes["layer1.0.conv3.weight"] == (240 - 24, 20, 1, 1)
    assert shapes["layer2.0.conv1.weight"] == (120, 80, 1, 1)
    assert shapes["layer2.0.se.fc.2.weight"] == (240, 15)
    assert shapes["layer3.3.conv3.weight"] == (960, 80, 1, 1)
    assert shapes["fc.weight"] == (1000, 960)


@pytest.mark.parametrize(
    ("stem", "side", "sides"), [("imagenet", 224, [28, 14, 7]), ("cifar", 32, [16, 8, 4])]
)
def test_sizes_of_stages(stem, side, sides):
    cost_ = cost_of(models.build("shufflenet", ops=cost.Shapes(), stem=stem), side)
    shapes = {row.layer: row.shape for row in cost_.layers}
    assert [shapes[f"layer{k}.0.conv3"][1] for k in (1, 2, 3)] == sides


def test_stages_of_se():
    net = models.build("se_shufflenet", ops=cost.Shapes(), stages=(2, 4))
    gated = {name.split(".")[0] for name in net.named_parameters() if ".se." in name}
    assert gated == {"layer1", "layer3"}


@pytest.mark.parametrize(
    ("width", "message"),
    [
        (0.3, "width is 0.3, which leaves 7.2 of 24 channels.*the nearest width that fits is 0.25"),
        (1 / 8, "width is 0.125, which leaves 2.5 of 20 channels.*fits is 0.25"),
    ],
)
def test_widths_that_do_not_fit(width, message):
    with pytest.raises(ValueError, match=message):
        models.build("shufflenet", ops=cost.Shapes(), width=width)


@pytest.mark.parametrize("quarters", [1, 2, 3, 5])
def test_widths_that_fit(quarters):
    net = models.build("shufflenet", ops=cost.Shapes(), width=quarters / 4)
    assert len(net["fc"].params["weight"][0]) == 240 * quarters
