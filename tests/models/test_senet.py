"""SENet-154: the paper's parameters and multiply-accumulates, and its differences from ResNeXt."""

import pytest

from minise.analysis import cost_of
from tests.models.test_resnet import gigamacs
from tests.models.zoo import on_shapes


def test_parameter_counts():
    assert on_shapes("senet154").parameter_count == 108_459_944
    assert on_shapes("se_senet154").parameter_count == 115_088_984
    assert on_shapes("se_senet154", bias=False).parameter_count == 108_459_944 + 6_578_176


@pytest.mark.parametrize("geometry", ["caffe", "torchvision"])
def test_macs(geometry):
    """20.7 in the ShuffleNet v2 paper; without SE's dense layers, with them, and with gates."""
    assert gigamacs(on_shapes("senet154", geometry=geometry)) == (20.6818,) * 3
    assert gigamacs(on_shapes("se_senet154", geometry=geometry)) == (20.6818, 20.6884, 20.7015)


def test_units():
    """(a) The first 1x1 has half the channels, (c) projections with a stride are 3x3."""
    net = on_shapes("se_senet154")
    for k, count in enumerate((3, 8, 36, 3), 1):
        channels = 64 * 2 ** (k + 1)
        unit = f"layer{k}.{count - 1}"
        shapes = [net[f"{unit}.conv{i}"].params["weight"].shape for i in (1, 2, 3)]
        assert shapes == [
            (channels // 2, channels, 1, 1),
            (channels, channels // 2 // 64, 3, 3),
            (channels, channels, 1, 1),
        ]
        assert net[f"{unit}.conv2"].groups == 64
        assert f"layer{k}.{count}.conv1" not in net.named_layers()
        projection, conv1, conv2 = (
            net[f"layer{k}.0.{name}"] for name in ("downsample.0", "conv1", "conv2")
        )
        assert (projection.kernel[0], projection.stride[0]) == ((1, 1) if k == 1 else (3, 2))
        assert (conv1.stride[0], conv2.stride[0]) == (1, projection.stride[0])


def test_stem_and_dropout():
    """(b) Three 3x3 convolutions, the last with 128 channels, and (d) dropout of 0.2 before fc."""
    net = on_shapes("senet154")
    shapes = {layer.layer: layer.shape for layer in cost_of(net, 224).layers}
    assert [shapes[f"conv1.{k}"] for k in (0, 3, 6)] == [(64, 112, 112)] * 2 + [(128, 112, 112)]
    assert shapes["maxpool"] == (128, 56, 56)
    assert [name for name, _ in net.children()][-3:] == ["avgpool", "dropout", "fc"]
    assert net["dropout"].p == 0.2


def test_groups_scale_with_the_width():
    assert on_shapes("senet154", width=0.5)["layer4.0.conv2"].groups == 32
    with pytest.raises(ValueError, match="leaves 0.64 of 64 groups.*nearest .* is 0.015625"):
        on_shapes("senet154", width=0.01)


def test_stages():
    names = on_shapes("se_senet154", stages=(4,)).named_parameters()
    assert {name[:6] for name in names if ".se." in name} == {"layer3"}


def test_it_has_no_stem_for_small_images():
    with pytest.raises(TypeError, match="model senet154 has no setting stem"):
        on_shapes("senet154", stem="cifar")
