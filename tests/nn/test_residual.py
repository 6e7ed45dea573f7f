"""Residual units: gradients for every SE site, and the order of the ops that run."""

import numpy as np
import pytest

from minise import nn
from minise.gradcheck import assert_gradients
from minise.nn.squeeze_excite import UNIT_SITES
from minise.ops import reference, wrap
from tests.nn.adapter import as_functions, perturbed

UNITS = {
    "basic, identity": lambda build: nn.basic_block(4, 4, 1, build),
    "basic, padded": lambda build: nn.basic_block(4, 6, 2, build, shortcut="A"),
    "basic, projected": lambda build: nn.basic_block(4, 6, 2, build),
    "pre-activation, identity": lambda build: nn.preact_block(4, 4, 1, build),
    "pre-activation, projected": lambda build: nn.preact_block(4, 6, 2, build),
    "bottleneck, identity": lambda build: nn.preact_bottleneck(4, 1, 1, build),
    "bottleneck, projected": lambda build: nn.preact_bottleneck(4, 2, 2, build),
    "bottleneck, activation last, identity": lambda build: nn.bottleneck(4, 1, 1, build),
    "bottleneck, activation last, groups": lambda build: nn.bottleneck(
        4, 2, 2, build, groups=2, width=4
    ),
}
ALL_UNITS = pytest.mark.parametrize("unit", UNITS.values(), ids=UNITS)
ALL_SITES = pytest.mark.parametrize("site", [None, *UNIT_SITES])


def make(unit, site, squeeze="avg"):
    rng = np.random.default_rng(3)
    se = None if site is None else nn.SE(reduction=2, site=site, squeeze=squeeze)
    return perturbed(unit(nn.Build(rng=rng, dtype=np.float64, se=se, se_rng=rng)), rng)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@ALL_UNITS
@ALL_SITES
def test_gradients(unit, site, training):
    rng = np.random.default_rng(1)
    forward, backward, params = as_functions(make(unit, site), training)
    x = rng.standard_normal((2, 4, 5, 6))
    assert_gradients(forward, backward, [x, *params], rng, mode="complex_step")


@pytest.mark.parametrize("squeeze", ["max", "none"])
def test_gradients_of_other_squeezes(squeeze):
    """At the standard site, these use other ops than the mean does."""
    rng = np.random.default_rng(1)
    layer = make(UNITS["basic, projected"], "standard", squeeze)
    forward, backward, params = as_functions(layer, training=True)
    x = rng.standard_normal((2, 4, 5, 6))
    assert_gradients(forward, backward, [x, *params], rng, mode="complex_step")


# The ops of the unit in order, with its SE block
ORDER = {
    "basic, identity": {
        "standard": "conv2d batch_norm2d_relu conv2d se_block_tail",
        "pre": "SE conv2d batch_norm2d_relu conv2d batch_norm2d_add_relu",
        "post": "conv2d batch_norm2d_relu conv2d batch_norm2d_add_relu SE",
        "identity": "SE conv2d batch_norm2d_relu conv2d batch_norm2d_add_relu",
        "3x3": "conv2d batch_norm2d_relu SE conv2d batch_norm2d_add_relu",
    },
    "pre-activation, identity": {
        "standard": "batch_norm2d_relu conv2d batch_norm2d_relu conv2d SE add",
        "pre": "batch_norm2d_relu SE conv2d batch_norm2d_relu conv2d add",
        "post": "batch_norm2d_relu conv2d batch_norm2d_relu conv2d add SE",
        "identity": "SE batch_norm2d_relu conv2d batch_norm2d_relu conv2d add",
        "3x3": "batch_norm2d_relu conv2d batch_norm2d_relu SE conv2d add",
    },
}
UNFUSED = "conv2d batch_norm2d_relu conv2d batch_norm2d SE add relu"
JOINTS = {"add", "batch_norm2d_add_relu", "se_block_tail"}


@pytest.mark.parametrize("squeeze", ["avg", "max"])
@pytest.mark.parametrize("unit", ORDER)
@pytest.mark.parametrize("site", UNIT_SITES)
def test_position_of_the_se_block(unit, site, squeeze):
    layer, recorder = make(UNITS[unit], site, squeeze), wrap.record(reference)
    wrap.attach(layer, recorder)
    x = np.random.default_rng(1).standard_normal((2, 4, 5, 6))
    layer.forward(x, training=True)
    names = ["SE" if call.op == "squeeze_excite" else call.op for call in recorder.calls]
    unfused = (unit, site, squeeze) == ("basic, identity", "standard", "max")
    assert names == (UNFUSED if unfused else ORDER[unit][site]).split()
    joint = next(call for call in recorder.calls if call.op in JOINTS)
    branch, *_, shortcut = joint.arrays
    assert (shortcut is x) == (site != "identity")  # elsewhere the shortcut is not gated
    if joint.op == "se_block_tail":
        assert joint.layer == "se"
        return
    gate = next(call for call in recorder.calls if call.op == "squeeze_excite")
    convolved = next(call for call in recorder.calls if call.op == "conv2d")
    gated = gate.results[0]
    assert (gated is branch) == (site == "standard")
    assert (gated is shortcut) == (site == "identity")
    assert (gated is convolved.arrays[0]) == (site == "pre")
    assert (gate.arrays[0] is x) == (site == "identity" or (site == "pre" and unit[0] == "b"))


def test_padded_shortcut_by_hand():
    """Every second pixel, and zeros for the new channels."""
    unit = nn.basic_block(1, 3, 2, nn.Build(dtype=np.float64), shortcut="A")
    shortcut = unit["downsample"]
    x = np.arange(9.0).reshape(1, 1, 3, 3)
    out, cache = shortcut.forward(x, training=True)
    np.testing.assert_array_equal(out[0], [[[0, 2], [6, 8]], np.zeros((2, 2)), np.zeros((2, 2))])
    dx, grads = shortcut.backward(np.arange(12.0).reshape(1, 3, 2, 2), cache)
    np.testing.assert_array_equal(dx[0, 0], [[0, 0, 1], [0, 0, 0], [2, 0, 3]])
    assert grads == {}
    same = nn.basic_block(1, 1, 2, nn.Build(dtype=np.float64), shortcut="A")["downsample"]
    np.testing.assert_array_equal(same.predict(x), [[[[0, 2], [6, 8]]]])
    with pytest.raises(ValueError, match="channels is 3, expected at least channels_in = 4 with"):
        nn.basic_block(4, 3, 2, nn.Build(), shortcut="A")
    with pytest.raises(ValueError, match="shortcut is 'C', expected one of A, B"):
        nn.basic_block(4, 6, 2, nn.Build(), shortcut="C")
