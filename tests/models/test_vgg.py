"""VGG-16: names, and the size for which it is built; test_stages.py has counts."""

import numpy as np
import pytest

from minise import nn
from minise.models.vgg import vgg16
from tests.models.zoo import on_shapes


def test_names_are_torchvisions_and_an_se_block_has_the_number_of_its_relu():
    names = on_shapes("se_vgg16").named_parameters()
    shapes = {name: array.shape for name, array in names.items()}
    assert shapes["features.0.weight"] == (64, 3, 3, 3)
    assert shapes["features.1.bias"] == (64,)
    assert shapes["features.2.se.fc.0.weight"] == (4, 64)
    assert shapes["features.40.weight"] == (512, 512, 3, 3)
    assert shapes["features.42.se.fc.2.weight"] == (512, 32)
    assert shapes["classifier.0.weight"] == (4096, 512 * 7 * 7)
    assert shapes["classifier.3.weight"] == (4096, 4096)
    assert shapes["classifier.6.weight"] == (1000, 4096)


def test_another_size():
    net = on_shapes("vgg16", image_size=(64, 100))
    assert net["classifier.0"].params["weight"].shape == (4096, 512 * 2 * 3)
    net.forward(net.ops.shaped((1, 3, 64, 127), np.float32), training=True)  # ends as 2x3, too


@pytest.mark.parametrize("size", [(32, 32), (96, 64), (64, 128)])
def test_images_of_another_size(size):
    """96x64 images have as many pixels as 64x96, but the dense layer's weights would not fit."""
    net = on_shapes("vgg16", image_size=(64, 96))
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
        on_shapes("vgg16", **settings)
