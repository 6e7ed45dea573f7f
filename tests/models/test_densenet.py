"""DenseNet-121: counts, names, stages, and the variant for small images."""

import pytest

from minise import models
from minise.analysis import cost_of
from minise.ops import cost

COUNTS = [
    ("densenet121", {}, 7_978_856, 2834.16),
    ("se_densenet121", {}, 8_328_912, 2836.14),
    ("se_densenet121", dict(bias=False), 8_324_968, 2836.14),
    ("densenet121", dict(stem="cifar"), 6_956_298, 888.35),
]


@pytest.mark.parametrize(("name", "settings", "parameters", "megamacs"), COUNTS)
def test_parameters_and_macs(name, settings, parameters, megamacs):
    net = models.build(name, ops=cost.Shapes(), **settings)
    assert net.parameter_count == parameters
    assert round(cost_of(net, net.size).macs / 1e6, 2) == megamacs


def test_names_are_torchvisions():
    net = models.build("se_densenet121", ops=cost.Shapes())
    shapes = {name: array.shape for name, array in net.named_parameters().items()}
    assert shapes["features.conv0.weight"] == (64, 3, 7, 7)
    assert shapes["features.norm0.weight"] == (64,)
    assert shapes["features.denseblock1.denselayer1.norm1.weight"] == (64,)
    assert shapes["features.denseblock1.denselayer6.conv1.weight"] == (128, 64 + 5 * 32, 1, 1)
    assert shapes["features.denseblock4.denselayer16.conv2.weight"] == (32, 128, 3, 3)
    assert shapes["features.denseblock4.se.fc.0.weight"] == (64, 1024)
    assert shapes["features.transition1.norm.weight"] == (256,)
    assert shapes["features.transition3.conv.weight"] == (512, 1024, 1, 1)
    assert shapes["features.transition3.se.fc.2.weight"] == (512, 32)
    assert shapes["features.norm5.weight"] == (1024,)
    assert shapes["classifier.weight"] == (1000, 1024)


@pytest.mark.parametrize(
    ("stem", "side", "sides"), [("imagenet", 224, [56, 28, 14, 7]), ("cifar", 32, [32, 16, 8, 4])]
)
def test_sizes_of_stages(stem, side, sides):
    cost_ = cost_of(models.build("densenet121", ops=cost.Shapes(), stem=stem), side)
    shapes = {row.layer: row.shape for row in cost_.layers}
    assert [shapes[f"features.denseblock{k}.denselayer1.conv2"][1] for k in (1, 2, 3, 4)] == sides


def test_stages_of_se():
    """A stage is a dense block and the transition after it."""
    net = models.build("se_densenet121", ops=cost.Shapes(), stages=(3, 5))
    gated = {name.partition(".se.")[0] for name in net.named_parameters() if ".se." in name}
    assert gated == {"features.denseblock2", "features.transition2", "features.denseblock4"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(width=0.3), "width is 0.3, which leaves 9.6 of 32 channels.*fits is 0.3125"),
        (dict(stages=(6,)), "stages is .6,., expected stages from 2 to 5"),
        (dict(site="post"), "site is 'post', expected one of standard"),
    ],
)
def test_messages(settings, message):
    with pytest.raises(ValueError, match=message):
        models.build("se_densenet121", ops=cost.Shapes(), **settings)
