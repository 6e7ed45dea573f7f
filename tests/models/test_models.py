"""Nets: exact parameter counts, names, SE twins, gradients of a whole net, and messages."""

import hashlib
import json

import numpy as np
import pytest

from minise import models, nn
from minise.analysis import cost_of
from minise.gradcheck import assert_gradients
from minise.ops import cost
from tests.nn.adapter import as_functions, perturbed

# Hu et al., tables 4 and 5, and He et al., table 6, by arithmetic: learnable numbers only
NO_BIAS = dict(bias=False)
COUNTS = [
    ("resnet20", dict(shortcut="A"), 269_722),
    ("resnet20", {}, 272_474),
    ("resnet32", dict(shortcut="A"), 464_154),
    ("resnet32", {}, 466_906),
    ("resnet44", dict(shortcut="A"), 658_586),
    ("resnet44", {}, 661_338),
    ("resnet56", dict(shortcut="A"), 853_018),
    ("resnet56", {}, 855_770),
    ("resnet110", dict(shortcut="A"), 1_727_962),
    ("resnet110", {}, 1_730_714),
    ("se_resnet20", dict(shortcut="A", **NO_BIAS), 271_738),
    ("se_resnet20", dict(shortcut="A", reduction=4, **NO_BIAS), 277_786),
    ("se_resnet20", {}, 274_847),
    ("se_resnet32", {}, 470_861),
    ("se_resnet44", {}, 666_875),
    ("se_resnet56", {}, 862_889),
    ("se_resnet110", dict(shortcut="A", **NO_BIAS), 1_740_058),
    ("se_resnet110", dict(shortcut="A", reduction=4, **NO_BIAS), 1_776_346),
    ("se_resnet110", {}, 1_744_952),
    ("wrn_16_8", {}, 10_961_370),
    ("se_wrn_16_8", NO_BIAS, 11_047_386),
    ("se_wrn_16_8", {}, 11_049_290),
    ("preact_resnet110", {}, 1_730_522),
    ("se_preact_resnet110", NO_BIAS, 1_742_618),
    ("se_preact_resnet110", {}, 1_744_760),
    ("preact_resnet164", {}, 1_703_258),
    ("se_preact_resnet164", NO_BIAS, 1_896_794),
    ("se_preact_resnet164", {}, 1_905_362),
]


@pytest.mark.parametrize(("name", "settings", "count"), COUNTS)
def test_parameter_counts(name, settings, count):
    assert models.build(name, **settings).parameter_count == count


@pytest.mark.parametrize(
    ("name", "macs"),
    [
        ("resnet20", 40.551),
        ("resnet32", 68.863),
        ("resnet44", 97.174),
        ("resnet56", 125.486),
        ("resnet110", 252.888),
    ],
)
def test_macs(name, macs):
    """He et al.'s nets with option A: millions of MACs in convolutions and the dense layer."""
    assert round(cost_of(models.build(name, shortcut="A")).macs / 1e6, 3) == macs


def test_macs_of_se_blocks_by_hand():
    cost = cost_of(models.build("se_resnet20", reduction=4))
    blocks = [(16, 32 * 32), (32, 16 * 16), (64, 8 * 8)]  # three of each: channels, pixels
    assert cost.se_macs == sum(3 * (2 * C * (C // 4) + C * pixels) for C, pixels in blocks)
    assert cost.se_parameters == sum(3 * (2 * C * (C // 4) + C // 4 + C) for C, _ in blocks)
    plain = cost_of(models.build("resnet20"))
    assert cost.macs - cost.se_macs == plain.macs
    assert cost.parameters - cost.se_parameters == plain.parameters == 272_474


def test_a_net_and_its_se_twin_start_alike():
    plain = models.build("resnet20", rng=np.random.default_rng(5)).named_parameters()
    twin = models.build("se_resnet20", rng=np.random.default_rng(5)).named_parameters()
    assert [name for name in twin if ".se." not in name] == list(plain)
    for name, array in plain.items():
        np.testing.assert_array_equal(array, twin[name])


def test_seeds():
    first, same, other = (
        models.build("se_resnet8", rng=np.random.default_rng(seed)).named_parameters()
        for seed in (0, 0, 1)
    )
    for name, array in first.items():
        np.testing.assert_array_equal(array, same[name])
    assert (first["conv1.weight"] != other["conv1.weight"]).any()
    unseeded = models.build("se_resnet8").named_parameters()
    np.testing.assert_array_equal(unseeded["fc.weight"], first["fc.weight"])


@pytest.mark.parametrize(
    "make",
    [
        lambda build: models.resnet_cifar(8, 10, build),
        lambda build: models.wide_resnet(1, 1, 10, build),
        lambda build: models.wide_resnet(1, 1, 10, build, bottlenecks=True),
    ],
    ids=["resnet_cifar", "wide_resnet", "wide_resnet with bottlenecks"],
)
def test_gradients_of_a_whole_net(make):
    rng = np.random.default_rng(0)
    net = make(nn.Build(rng=rng, dtype=np.float64, se=nn.SE(reduction=4), se_rng=rng))
    forward, backward, params = as_functions(perturbed(net, rng), training=True)
    x = rng.standard_normal((2, 3, 9, 8))
    assert_gradients(forward, backward, [x, *params], rng, mode="complex_step")


# Digests of the sorted names and shapes of each net's parameters and state, as in older checkpoints
NAMES_AND_SHAPES = {
    "resnet8": "7af0e7949bcc0dd5",
    "resnet20": "b53025a3a9748760",
    "resnet32": "aea1bc586efd5f81",
    "resnet44": "332a4ff043744baa",
    "resnet56": "73d44fab80a337d7",
    "resnet110": "a72974cef164c33d",
    "preact_resnet110": "351524fe6dccf35b",
    "preact_resnet164": "823829c331f0632e",
    "wrn_16_8": "85b251e0a6665198",
    "shake_shake26_2x32d": "ccdb57c5896b48d8",
    "shake_shake26_2x64d": "f4d1f6a7f64a2789",
    "shake_shake26_2x96d": "1c2d153bb9b32ce5",
    "se_resnet8": "e7828999203e7821",
    "se_resnet20": "9c0a3765acdd0619",
    "se_resnet32": "6a48e078c017698c",
    "se_resnet44": "fdde09f261375e38",
    "se_resnet56": "006ab7d8f36ceadd",
    "se_resnet110": "564579970f0ddd90",
    "se_preact_resnet110": "f8be5058ecec2dcb",
    "se_preact_resnet164": "8b597735253d1864",
    "se_wrn_16_8": "332a37689183ff02",
    "se_shake_shake26_2x32d": "724aab279e33455b",
    "se_shake_shake26_2x64d": "aa5d1f0430b1d9da",
    "se_shake_shake26_2x96d": "696ea384170c13ea",
    "resnet18": "78751369115ef90b",
    "resnet34": "39c24ce46fae2f7c",
    "resnet50": "3ee6c80130e2d8cf",
    "resnet101": "726221d40d16c089",
    "resnet152": "7afcf8fec99ddc41",
    "resnext50_32x4d": "0feb6590c3d48fc8",
    "resnext101_32x4d": "c983c3f86d8f488e",
    "senet154": "99bc564bc11c98e3",
    "se_resnet18": "3846ed701d2dff8f",
    "se_resnet34": "7a3eee3cfc05b6e7",
    "se_resnet50": "914d359bf100aa07",
    "se_resnet101": "76f93b9243a60047",
    "se_resnet152": "e95155519531ceb6",
    "se_resnext50_32x4d": "8d5ed08b21d972be",
    "se_resnext101_32x4d": "69b83daabf47fc8e",
    "se_senet154": "8ffa9577da541910",
    "bn_inception": "4928f853ca674a7e",
    "inception_resnet_v2": "dcbe7101e4ec7092",
    "se_bn_inception": "6876e02ae8497516",
    "se_inception_resnet_v2": "5d8807d6b9bdc6c3",
    "vgg16": "72541e7f8955a3e5",
    "mobilenet": "add0f460c17058d3",
    "shufflenet": "f6baa5f761d0e8b8",
    "densenet121": "e3adcdbb253d496c",
    "se_vgg16": "52620281f374e4d0",
    "se_mobilenet": "02549b9641c5e1f1",
    "se_shufflenet": "0fc423bfa8c55ae1",
    "se_densenet121": "fa3616696f8a77eb",
}


def test_every_name_has_the_names_and_shapes_of_older_checkpoints():
    unknown = {}
    for name in models.names():
        net = models.build(name, ops=cost.Shapes())
        named = {**net.named_parameters(), **net.named_state()}
        shapes = sorted((key, list(array.shape)) for key, array in named.items())
        digest = hashlib.sha256(json.dumps(shapes).encode()).hexdigest()
        if name not in NAMES_AND_SHAPES:
            unknown[name] = digest[:16]
        else:
            assert digest[:16] == NAMES_AND_SHAPES[name], name
    assert not unknown, f"add to NAMES_AND_SHAPES, once the names are final: {unknown}"
    assert NAMES_AND_SHAPES.keys() == set(models.names())


def test_another_number_of_classes():
    x = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)
    for name in ("resnet8", "se_resnet8"):
        assert models.build(name, num_classes=7).predict(x).shape == (1, 7)
    assert models.wide_resnet(1, 1, 7, nn.Build()).predict(x).shape == (1, 7)


def test_names_are_those_of_the_pytorch_twin():
    names = models.build("se_resnet20").named_parameters()
    for name in (
        "conv1.weight",
        "bn1.bias",
        "layer1.0.conv2.weight",
        "layer1.2.se.fc.0.weight",
        "layer1.2.se.fc.2.bias",
        "layer2.0.downsample.0.weight",
        "layer3.0.downsample.1.bias",
        "fc.bias",
    ):
        assert name in names


@pytest.mark.parametrize(
    ("name", "settings", "error", "message"),
    [
        ("se_resnet21", {}, ValueError, "'se_resnet21' is unknown: did you mean se_resnet"),
        ("nothing", {}, ValueError, "unknown, expected a name such as resnet20 or se_r"),
        (
            "resnet20",
            dict(reduction=4),
            TypeError,
            "no SE blocks, but reduction is set: use se_resn",
        ),
        ("resnet20", dict(se=nn.SE()), TypeError, "no SE blocks, but se is set"),
        ("se_resnet20", dict(se=True), TypeError, "build: se is a bool, expected an SE or None"),
        ("resnet20", dict(se=4), TypeError, "build: se is a int, expected an SE or None"),
        ("resnet20", dict(se=nn.SE(site="pre")), TypeError, "no SE blocks, but site is set"),
        (
            "se_resnet20",
            dict(ratio=4),
            TypeError,
            "no setting ratio, expected any of: shortcut, width, b",
        ),
        ("wrn_16_8", dict(shortcut="A"), TypeError, "no setting shortcut, expected any of: width"),
        ("resnet20", dict(shortcut="C"), ValueError, "shortcut is 'C', expected one of A, B"),
        ("resnet20", dict(num_classes=0), ValueError, "num_classes is 0, expected at least 1"),
        (
            "se_resnet20",
            dict(site="mix"),
            ValueError,
            "se_resnet20: site is 'mix', expected one of",
        ),
        (
            "se_resnet20",
            dict(stages=(2, 5)),
            ValueError,
            "stages is \\(2, 5\\), expected stages from 2",
        ),
        (
            "se_resnet20",
            dict(reduction=65),
            ValueError,
            "reduction is 65, expected at most 64, the",
        ),
        (
            "resnet20",
            dict(width=0.3),
            ValueError,
            "width is 0.3, which leaves 4.8 of 16 channels, ex",
        ),
        ("resnet20", dict(width=0.3), ValueError, "the nearest width that fits is 0.3125$"),
        ("resnet20", dict(width=0.01), ValueError, "the nearest width that fits is 0.0625$"),
        ("resnet20", dict(width=-1), ValueError, "build: width is -1, expected a number above 0"),
        ("resnet20", dict(width="wide"), ValueError, "build: width is 'wide', expected a number"),
        ("resnet20", dict(stem="cifar"), TypeError, "model resnet20 has no setting stem, expected"),
        ("se_resnet20", dict(site="here"), ValueError, "site is 'here', expected one of standard"),
    ],
)
def test_messages(name, settings, error, message):
    with pytest.raises(error, match=message):
        models.build(name, **settings)


def test_depth():
    with pytest.raises(ValueError, match="depth is 21, expected 6 n \\+ 2"):
        models.resnet_cifar(21, 10, nn.Build())


def test_stages_have_se_blocks_only_where_they_are_chosen():
    blocks = {"layer1": 0, "layer2": 0, "layer3": 0}
    for name, layer in models.build("se_resnet20", stages=(4, 2)).layers():
        blocks[name.partition(".")[0]] = blocks.get(name.partition(".")[0], 0) + (
            isinstance(layer, nn.SEBlock)
        )
    assert (blocks["layer1"], blocks["layer2"], blocks["layer3"]) == (3, 0, 3)


def test_the_width_scales_channels_and_keeps_images_and_classes():
    named = models.build("se_resnet20", width=0.5).named_parameters()
    assert named["conv1.weight"].shape == (8, 3, 3, 3)
    assert named["fc.weight"].shape == (10, 32)
    assert models.build("resnet20", width=1 / 3 + 1 / 24).named_parameters()["fc.weight"].shape == (
        10,
        24,
    )
