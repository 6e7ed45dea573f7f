"""DenseNet-121: names of parameters, and messages; test_stages.py has counts and sizes."""

import pytest

from tests.models.zoo import on_shapes


def test_names_are_torchvisions():
    net = on_shapes("se_densenet121")
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
    ("settings", "message"),
    [
        (dict(width=0.3), "width is 0.3, which leaves 9.6 of 32 channels.*fits is 0.3125"),
        (dict(stages=(6,)), "stages is .6,., expected stages from 2 to 5"),
        (dict(site="post"), "site is 'post', expected one of standard"),
    ],
)
def test_messages(settings, message):
    with pytest.raises(ValueError, match=message):
        on_shapes("se_densenet121", **settings)
