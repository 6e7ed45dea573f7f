"""ResNet and ResNeXt: the paper's parameters and multiply-accumulates, SE's stages and sites."""

from math import prod

import numpy as np
import pytest

from minise import models, nn
from minise.analysis import cost_of
from minise.ops import cost
from tests.models.zoo import on_shapes

UNBIASED = dict(bias=False)
# learnable parameters for 1000 classes: plain, SE with biases (r = 16), SE without biases
COUNTS = {
    "resnet18": (11_689_512, 11_778_592, 11_776_552),
    "resnet34": (21_797_672, 21_958_868, 21_954_856),
    "resnet50": (25_557_032, 28_088_024, 28_071_976),
    "resnet101": (44_549_160, 49_326_872, 49_292_328),
    "resnet152": (60_192_808, 66_821_848, 66_770_984),
    "resnext50_32x4d": (25_028_904, 27_559_896, 27_543_848),
    "resnext101_32x4d": (44_177_704, 48_955_416, 48_920_872),
}
# 10^9 multiply-accumulates of convolutions and the dense layer at 224x224: caffe, torchvision
MACS = {
    "resnet18": (1.8141, 1.8141),
    "resnet34": (3.6638, 3.6638),
    "resnet50": (3.8580, 4.0892),
    "resnet101": (7.5702, 7.8014),
    "resnet152": (11.2824, 11.5136),
    "resnext50_32x4d": (4.2305, 4.2305),
    "resnext101_32x4d": (7.9700, 7.9700),
}
SE_WEIGHTS = {  # of stages 2 to 5, without biases
    "se_resnet50": (24_576, 131_072, 786_432, 1_572_864),
    "se_resnext50_32x4d": (24_576, 131_072, 786_432, 1_572_864),
    "se_resnet101": (24_576, 131_072, 3_014_656, 1_572_864),
    "se_resnet152": (24_576, 262_144, 4_718_592, 1_572_864),
}
# SE-ResNet-50 without biases (tables 10 to 16): parameters of the SE blocks, and millions of all
# parameters in the paper, which include the normalisations' running statistics; None is not given
ALL = 2 * (3 * 256**2 + 4 * 512**2 + 6 * 1024**2 + 3 * 2048**2)  # 2 C^2 of each unit
INNER = 2 * (3 * 64**2 + 4 * 128**2 + 6 * 256**2 + 3 * 512**2)
INPUTS = 2 * (64**2 + 3 * 256**2 + 4 * 512**2 + 6 * 1024**2 + 2 * 2048**2)
ABLATIONS = [
    (dict(reduction=2), ALL // 2, 45.7),
    (dict(reduction=4), ALL // 4, 35.7),
    (dict(reduction=16), ALL // 16, 28.1),
    (dict(reduction=32), ALL // 32, 26.9),
    (dict(stages=(2,)), 24_576, 25.6),
    (dict(stages=(3,)), 131_072, 25.7),
    (dict(stages=(4,)), 786_432, 26.4),
    (dict(stages=(5,)), 1_572_864, None),
    (dict(stages=(2, 3, 4)), 942_080, None),
    (dict(site="3x3"), INNER // 16, 25.8),
    (dict(site="pre"), INPUTS // 16, None),
    (dict(site="post"), ALL // 16, None),
    (dict(site="identity"), ALL // 16, None),
    (dict(squeeze="max"), ALL // 16, None),
    (dict(squeeze="none"), ALL // 16, 28.1),
]
STATISTICS = 2 * 26_560


def gigamacs(net):
    """Return 10^9 MACs of: convolutions and the dense layer; and SE's dense layers; and gates."""
    costs = cost_of(net, 224)
    gates = sum(prod(layer.shape) for layer in costs.layers if layer.se)
    counts = costs.macs - costs.se_macs, costs.macs - gates, costs.macs
    return tuple(round(count / 1e9, 4) for count in counts)


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts(name):
    nets = [on_shapes(name), on_shapes(f"se_{name}"), on_shapes(f"se_{name}", **UNBIASED)]
    assert tuple(net.parameter_count for net in nets) == COUNTS[name]


@pytest.mark.parametrize("name", MACS)
def test_macs(name):
    nets = [on_shapes(name, geometry=geometry) for geometry in ("caffe", "torchvision")]
    assert tuple(gigamacs(net)[0] for net in nets) == MACS[name]


def test_macs_of_se():
    """NoSqueeze has the dense layers of the gate at every pixel: 4.27 in the paper."""
    assert gigamacs(on_shapes("se_resnet50")) == (3.8580, 3.8605, 3.8660)
    assert gigamacs(on_shapes("se_resnet50", squeeze="none"))[:2] == (3.8580, 4.2690)


@pytest.mark.parametrize("name", SE_WEIGHTS)
def test_se_weights_of_each_stage(name):
    parameters = on_shapes(name).named_parameters()
    for k, count in enumerate(SE_WEIGHTS[name], 1):
        sizes = [
            array.size
            for key, array in parameters.items()
            if key.startswith(f"layer{k}.") and ".se." in key and key.endswith("weight")
        ]
        assert sum(sizes) == count


@pytest.mark.parametrize(("settings", "se_weights", "millions"), ABLATIONS)
def test_ablations_of_the_paper(settings, se_weights, millions):
    net = on_shapes("se_resnet50", **UNBIASED, **settings)
    assert sum(array.size for array in net.named_state().values()) == STATISTICS
    assert net.parameter_count == 25_557_032 + se_weights
    if millions is not None:
        assert round((net.parameter_count + STATISTICS) / 1e6, 1) == millions


def test_r_8_of_the_paper_has_biases():
    """30.7 million in the paper: 30,640,040 without biases, 30,657,032 with them."""
    counts = [
        on_shapes("se_resnet50", reduction=8, bias=bias).parameter_count for bias in (False, True)
    ]
    assert counts == [25_557_032 + ALL // 8, 25_557_032 + ALL // 8 + 16_992]
    assert [round((count + STATISTICS) / 1e6, 1) for count in counts] == [30.6, 30.7]


def test_stages_are_numbered_as_in_the_paper():
    names = on_shapes("se_resnet50", stages=(3, 5)).named_parameters()
    assert {name[:6] for name in names if ".se." in name} == {"layer2", "layer4"}


@pytest.mark.parametrize("name", ["resnet50", "resnext50_32x4d"])
def test_geometries_have_the_same_parameters_and_compute_different_logits(name):
    caffe, torchvision = (
        models.build(name, width=1 / 32, num_classes=3, geometry=geometry)
        for geometry in ("caffe", "torchvision")
    )
    arrays = caffe.named_parameters()
    assert list(arrays) == list(torchvision.named_parameters())
    for key, array in torchvision.named_parameters().items():
        np.testing.assert_array_equal(array, arrays[key])
    x = np.random.default_rng(0).standard_normal((2, 3, 40, 33)).astype(np.float32)
    logits, others = caffe.forward(x, training=True)[0], torchvision.forward(x, training=True)[0]
    assert abs(logits - others).max() > 0.1


@pytest.mark.parametrize(
    ("name", "geometry", "strides"),
    [
        ("resnet50", "caffe", (2, 1)),
        ("resnet50", "torchvision", (1, 2)),
        ("resnext50_32x4d", "caffe", (1, 2)),
        ("resnext50_32x4d", "torchvision", (1, 2)),
        ("resnet34", "caffe", (2, 1)),
    ],
)
def test_strides(name, geometry, strides):
    net = on_shapes(name, geometry=geometry)
    for k in (2, 3, 4):
        assert tuple(net[f"layer{k}.0.{conv}"].stride[0] for conv in ("conv1", "conv2")) == strides
        assert net[f"layer{k}.1.conv1"].stride == net[f"layer{k}.1.conv2"].stride == (1, 1)
    assert net["layer1.0.conv1"].stride == net["layer1.0.conv2"].stride == (1, 1)


def test_groups_scale_with_the_width():
    half = on_shapes("resnext50_32x4d", width=0.5)
    assert [half[f"layer{k}.0.conv2"].groups for k in (1, 2, 3, 4)] == [16] * 4
    shapes = [half[f"layer{k}.0.conv2"].params["weight"].shape for k in (1, 4)]
    assert shapes == [(64, 4, 3, 3), (512, 32, 3, 3)]


@pytest.mark.parametrize("name", ["resnet18", "se_resnext50_32x4d"])
def test_stem_for_small_images(name):
    """The paper's net without the first 7x7 convolution and pool: stage 2 has 32 rows."""
    net = on_shapes(name, stem="cifar")
    sizes = {layer.layer: layer.shape for layer in cost_of(net, 32).layers}
    assert sizes["conv1"] == (64, 32, 32)
    assert sizes["layer1.0.conv1"][1:] == (32, 32)
    assert sizes["layer4.1.conv2"][1:] == (4, 4)
    assert sizes["fc"] == (10,)
    plain = 11_689_512 - 64 * 3 * (49 - 9) - 990 * 513
    assert on_shapes("resnet18", stem="cifar").parameter_count == plain


@pytest.mark.parametrize(
    ("name", "width"),
    [("resnet50", 1 / 16), ("se_resnet50", 1 / 16), ("senet154", 1 / 32), ("se_senet154", 1 / 32)],
)
def test_initial_logits_are_moderate(name, width):
    net = models.build(name, width=width, num_classes=10)
    x = np.random.default_rng(0).standard_normal((4, 3, 64, 64)).astype(np.float32)
    logits, _ = net.forward(x, training=True)
    assert 0.2 < logits.std() < 5


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("resnet50", dict(geometry="caffee"), "geometry is 'caffee', expected .*mean caffe?"),
        ("resnet50", dict(stem="cifar10"), "stem is 'cifar10', expected .*mean cifar?"),
        ("se_resnet50", dict(stages=(1, 2)), "stages is .1, 2., expected stages from 2 to 5"),
        ("resnet50", dict(width=0.01), "leaves 0.64 of 64 channels.*nearest .* is 0.015625"),
        ("resnet50", dict(width=0.7), "leaves 44.8 of 64 channels.*nearest .* is 0.703125"),
        ("resnext50_32x4d", dict(width=0.7), "leaves 22.4 of 32 groups.*nearest .* is 0.6875"),
    ],
)
def test_messages(name, settings, message):
    with pytest.raises(ValueError, match=message):
        on_shapes(name, **settings)


def test_depth():
    for builder in (models.resnet, models.resnext):
        with pytest.raises(ValueError, match="depth is 51, expected one of 18, 34, 50, 101, 152"):
            builder(51, 10, nn.Build(ops=cost.Shapes()))


@pytest.mark.parametrize(("geometry", "smallest"), [("caffe", 5), ("torchvision", 1)])
def test_images_that_are_too_small(geometry, smallest):
    net = models.build("resnet18", width=1 / 64, geometry=geometry)
    assert net.predict(np.zeros((1, 3, smallest, smallest), np.float32)).shape == (1, 1000)
    if smallest > 1:
        with pytest.raises(ValueError, match="images are 4 x 9, expected at least 5 x 5"):
            net.predict(np.zeros((1, 3, 4, 9), np.float32))
