"""VGG, MobileNet, ShuffleNet and DenseNet: parameters, MACs, sizes and SE blocks of the stages."""

import pytest

from minise.analysis import cost_of
from tests.models.zoo import on_shapes

NO_BIAS, CIFAR = dict(bias=False), dict(stem="cifar")
# parameters, millions of MACs of an image of the net's size
COUNTS = [
    # Hu et al., table 2, by arithmetic; the convolutions have no biases
    ("vgg16", {}, 138_361_768, 15_470.26),
    ("se_vgg16", {}, 138_361_768 + 226_304 + 4_488, 15_484.04),
    ("se_vgg16", NO_BIAS, 138_361_768 + 226_304, 15_484.04),
    ("vgg16", CIFAR, 14_724_042, 313.20),
    ("se_vgg16", CIFAR, 14_954_834, 313.70),
    ("vgg16", dict(image_size=32, num_classes=10), 33_642_442, 332.11),
    # Hu et al., table 3: 569 and 572 million MACs, 4.2 and 4.7 million parameters
    ("mobilenet", {}, 4_231_976, 568.74),
    ("se_mobilenet", {}, 4_718_044, 571.93),
    ("se_mobilenet", NO_BIAS, 4_711_720, 571.93),
    ("mobilenet", CIFAR, 3_217_226, 46.35),
    ("mobilenet", dict(width=0.5), 1_331_592, 149.50),  # Howard et al., table 6: 149 and 1.3
    # Zhang et al., table 2: 137 and 38 million MACs; Hu et al., table 3: 1.8 and 2.4 million
    ("shufflenet", {}, 1_865_728, 137.46),
    ("se_shufflenet", {}, 2_484_533, 139.68),
    ("se_shufflenet", NO_BIAS, 2_476_144, 139.68),
    ("shufflenet", CIFAR, 914_338, 42.59),
    ("shufflenet", dict(width=0.5), 718_324, 37.59),
    ("densenet121", {}, 7_978_856, 2834.16),
    ("se_densenet121", {}, 8_328_912, 2836.14),
    ("se_densenet121", NO_BIAS, 8_324_968, 2836.14),
    ("densenet121", CIFAR, 6_956_298, 888.35),
]
# rows of a layer in each stage, for images of 224 x 224 or 32 x 32
SIZES = [
    ("mobilenet", "imagenet", "blocks.{}.0.bn2", range(5), [112, 56, 28, 14, 7]),
    ("mobilenet", "cifar", "blocks.{}.0.bn2", range(5), [32, 16, 8, 4, 2]),
    ("shufflenet", "imagenet", "layer{}.0.conv3", range(1, 4), [28, 14, 7]),
    ("shufflenet", "cifar", "layer{}.0.conv3", range(1, 4), [16, 8, 4]),
    *(
        ("densenet121", stem, "features.denseblock{}.denselayer1.conv2", range(1, 5), sides)
        for stem, sides in (("imagenet", [56, 28, 14, 7]), ("cifar", [32, 16, 8, 4]))
    ),
]
# SE blocks of some stages: VGG's are the groups of convolutions between pools, from 1, because the
# net has no stem; DenseNet's are a dense block and the transition after it
GATED = [
    ("vgg16", (1, 4), {f"features.{k}" for k in (2, 5, 26, 29, 32)}),
    ("mobilenet", (2, 6), {"blocks.0.0", "blocks.4.0", "blocks.4.1"}),
    ("shufflenet", (2, 4), {f"layer{k}.{i}" for k in (1, 3) for i in range(4)}),
    (
        "densenet121",
        (3, 5),
        {f"features.{block}" for block in ("denseblock2", "transition2", "denseblock4")},
    ),
]


@pytest.mark.parametrize(("name", "settings", "parameters", "megamacs"), COUNTS)
def test_parameters_and_macs(name, settings, parameters, megamacs):
    net = on_shapes(name, **settings)
    assert net.parameter_count == parameters
    assert round(cost_of(net, net.size).macs / 1e6, 2) == megamacs


@pytest.mark.parametrize(("name", "stem", "layer", "stages", "sides"), SIZES)
def test_sizes_of_stages(name, stem, layer, stages, sides):
    costs = cost_of(on_shapes(name, stem=stem), 224 if stem == "imagenet" else 32)
    shapes = {row.layer: row.shape for row in costs.layers}
    assert [shapes[layer.format(k)][1] for k in stages] == sides


@pytest.mark.parametrize(("name", "stages", "gated"), GATED)
def test_stages_of_se(name, stages, gated):
    names = on_shapes(f"se_{name}", stages=stages).named_parameters()
    assert {name.partition(".se.")[0] for name in names if ".se." in name} == gated
