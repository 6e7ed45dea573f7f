"""VGG-16: counts, the place of its SE blocks, and the size for which it is built."""

import numpy as np
import pytest

from minise import models, nn
from minise.analysis import cost_of
from minise.models.vgg import vgg16
from minise.ops import cost

# Hu et al., table 2, by arithmetic; the convolutions have no biases
COUNTS = [
    ("vgg16", {}, 138_361_768, 15_470.26),
    ("se_vgg16", {}, 138_361_768 + 226_304 + 4_488, 15_484.04),
    ("se_vgg16", dict(bias=False), 138_361_768 + 226_304, 15_484.04),
    ("vgg16", dict(stem="cifar"), 14_724_042, 313.20),
    ("se_vgg16", dict(stem="cifar"), 14_954_834, 313.70),
    ("vgg16", dict(image_size=32, num_classes=10), 33_642_442, 332.11),
]


@pytest.mark.parametrize(("name", "settings", "parameters", "megamacs"), COUNTS)
def test_parameters_and_macs(name, settings, parameters, megamacs):
    net = models.build(name, ops=cost.Shapes(), **settings)
    assert net.parameter_count == parameters
    assert round(cost_of(net, net.size).macs / 1e6, 2) == megamacs


def test_names_are_torchvisions_and_an_se_block_has_the_number_of_its_relu():
    names = models.build("se_vgg16", ops=cost.Shapes()).named_parameters()
    shapes = {name: array.shape for name, array in names.items()}
    assert shapes["features.0.weight"] == (64, 3, 3, 3)
    assert shapes["features.1.bias"] == (64,)
    assert shapes["features.2.se.fc.0.weight"] == (4, 64)
    assert shapes["features.40.weight"] == (512, 512, 3, 3)
    assert shapes["features.42.se.fc.2.weight"] == (512, 32)
    assert shapes["classifier.0.weight"] == (4096, 512 * 7 * 7)
    assert shapes["classifier.3.weight"] == (4096, 4096)
    assert shapes["classifier.6.weight"] == (1000, 4096)


def test_stages_of_se():
    """Stages are the groups of convolutions between pools, from 1: the net has no stem."""
    net = models.build("se_vgg16", ops=cost.Shapes(), stages=(1, 4))
    gated = {name.split(".")[1] for name in net.named_parameters() if ".se." in name}
    assert gated == {"2", "5", "26", "29", "32"}


def test_another_size():
    net = models.build("vgg16", ops=cost.Shapes(), image_size=(64, 100))
    assert net["classifier.0"].params["weight"].shape == (4096, 512 * 2 * 3)
    net.forward(net.ops.shaped((1, 3, 64, 127), np.float32), training=True)  # ends as 2x3, too


@pytest.mark.parametrize("size", [(32, 32), (96, 64), (64, 128)])
def test_images_of_another_size(size):
    """96x64 images have as many pixels as 64x96, but the dense layer's weights would not fit."""
    net = models.build("vgg16", ops=cost.Shapes(), image_size=(64, 96))
    message = f"vgg16: images are {size[0]} x {size[1]}, expected 64 x 96: .* with image_size="
    with pytest.raises(ValueError, match=message):
        net.predict(net.ops.shaped((1, 3, *size), np.float32))
    own = vgg16(2, nn.Build(rng=0, width=1 / 64), image_size=(64, 96))
    message = (
        r"after the last pool, expected 2 x 3: build the net with image_size=\(rows, columns\)"
    )
    for run in (own.predict, own.inference()):
        with pytest.raises(ValueError, match=message):
            run(np.zeros((1, 3, *size), np.float32))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(image_size=31), "vgg16: image_size is 31, expected at least 32"),
        (dict(width=0.3), "width is 0.3, which leaves 19.2 of 64 channels"),
        (dict(site="pre"), "no SE blocks, but site is set"),
        (dict(stem="small"), "stem is 'small', expected one of imagenet, cifar"),
    ],
)
def test_messages(settings, message):
    with pytest.raises((ValueError, TypeError), match=message):
        models.build("vgg16", ops=cost.Shapes(), **settings)
