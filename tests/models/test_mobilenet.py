"""MobileNet: counts, names, stages, and the variant for small images."""

import pytest

from minise import models
from minise.analysis import cost_of
from minise.ops import cost

# Hu et al., table 3: 569 and 572 million MACs, 4.2 and 4.7 million parameters
COUNTS = [
    ("mobilenet", {}, 4_231_976, 568.74),
    ("se_mobilenet", {}, 4_718_044, 571.93),
    ("se_mobilenet", dict(bias=False), 4_711_720, 571.93),
    ("mobilenet", dict(stem="cifar"), 3_217_226, 46.35),
    ("mobilenet", dict(width=0.5), 1_331_592, 149.50),  # Howard et al., table 6: 149 and 1.3
]


@pytest.mark.parametrize(("name", "settings", "parameters", "megamacs"), COUNTS)
def test_parameters_and_macs(name, settings, parameters, megamacs):
    net = models.build(name, ops=cost.Shapes(), **settings)
    assert net.parameter_count == parameters
    assert round(cost_of(net, net.size).macs / 1e6, 2) == megamacs


def test_names_are_timms():
    names = models.build("se_mobilenet", ops=cost.Shapes()).named_parameters()
    shapes = {name: array.shape for name, array in names.items()}
    assert shapes["conv_stem.weight"] == (32, 3, 3, 3)
    assert shapes["bn1.weight"] == (32,)
    assert shapes["blocks.0.0.conv_dw.weight"] == (32, 1, 3, 3)
    assert shapes["blocks.3.5.bn1.weight"] == (512,)
    assert shapes["blocks.4.0.conv_pw.weight"] == (1024, 512, 1, 1)
    assert shapes["blocks.4.1.bn2.weight"] == (1024,)
    assert shapes["blocks.4.1.se.fc.0.weight"] == (64, 1024)
    assert shapes["classifier.weight"] == (1000, 1024)


@pytest.mark.parametrize(
    ("stem", "side", "sides"),
    [("imagenet", 224, [112, 56, 28, 14, 7]), ("cifar", 32, [32, 16, 8, 4, 2])],
)
def test_sizes_of_stages(stem, side, sides):
    cost_ = cost_of(models.build("mobilenet", ops=cost.Shapes(), stem=stem), side)
    shapes = {row.layer: row.shape for row in cost_.layers}
    assert [shapes[f"blocks.{k}.0.bn2"][1] for k in range(5)] == sides


def test_stages_of_se():
    net = models.build("se_mobilenet", ops=cost.Shapes(), stages=(2, 6))
    gated = {name.partition(".se.")[0] for name in net.named_parameters() if ".se." in name}
    assert gated == {"blocks.0.0", "blocks.4.0", "blocks.4.1"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(width=0.3), "width is 0.3, which leaves 9.6 of 32 channels.*fits is 0.3125"),
        (dict(stages=(1,)), "stages is .1,., expected stages from 2 to 6"),
        (dict(site="3x3"), "site is '3x3', expected one of standard"),
    ],
)
def test_messages(settings, message):
    with pytest.raises(ValueError, match=message):
        models.build("se_mobilenet", ops=cost.Shapes(), **settings)
