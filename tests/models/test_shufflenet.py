"""ShuffleNet: groups, channels and widths; test_stages.py has counts and sizes."""

import pytest

from tests.models.zoo import on_shapes


def test_groups_and_channels():
    """The first 1x1 convolution of all has no groups; units of stride 2 append to their input."""
    net = on_shapes("se_shufflenet")
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
    ("width", "message"),
    [
        (0.3, "width is 0.3, which leaves 7.2 of 24 channels.*the nearest width that fits is 0.25"),
        (1 / 8, "width is 0.125, which leaves 2.5 of 20 channels.*fits is 0.25"),
    ],
)
def test_widths_that_do_not_fit(width, message):
    with pytest.raises(ValueError, match=message):
        on_shapes("shufflenet", width=width)


@pytest.mark.parametrize("quarters", [1, 2, 3, 5])
def test_widths_that_fit(quarters):
    net = on_shapes("shufflenet", width=quarters / 4)
    assert len(net["fc"].params["weight"][0]) == 240 * quarters
