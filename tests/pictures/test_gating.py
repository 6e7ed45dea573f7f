"""The pictures of SE blocks and their sites say what the code says."""

import inspect
import re

import numpy as np
import pytest

from minise.nn import SE, Build, basic_block
from minise.nn.squeeze_excite import UNIT_SITES, SEBlock
from minise.ops.reference import squeeze_excite
from minise.pictures import gating, residual_block, se_block, units
from tests.pictures.layout import boxes


def texts(picture):
    return [box.text for box in boxes(picture.svg)]


def test_values_are_those_of_forward():
    named, numbers = gating.values(), gating.run()
    assert list(named) == ["z", "u", "h", "v", "s", "out"]
    sizes = dict(N=1, C=gating.CHANNELS, R=gating.HIDDEN, H=3, W=3)
    for name, value in named.items():
        axes = value.shape.strip("()").split(", ")
        assert numbers[name].shape == tuple(sizes.get(axis, 1) for axis in axes)
        assert any(text.startswith(f"{name} = {value.formula}") for text in texts(se_block()))
        assert any(value.shape in text for text in texts(se_block()))


def test_numbers_are_those_of_a_run():
    numbers = gating.run()
    np.testing.assert_allclose(numbers["z"], numbers["x"].mean((2, 3), keepdims=True))
    np.testing.assert_array_equal(numbers["h"], np.maximum(numbers["u"], 0))
    np.testing.assert_allclose(numbers["s"], 1 / (1 + np.exp(-numbers["v"])))
    np.testing.assert_array_equal(numbers["out"], numbers["x"] * numbers["s"])
    strengths = [float(o) for o in re.findall(r"fill-opacity:([\d.]+)", se_block().svg)]
    gates = (0.9 * numbers["s"]).ravel().round(2).tolist()
    assert strengths[-gating.CHANNELS :] == gates[::-1]  # of the channels of out, back to front


def test_gradients_are_those_of_backward():
    source = inspect.getsource(squeeze_excite.squeeze_excite_backward)
    purple = {word for t in texts(se_block()) for word in re.findall(r"\bd[a-z]\w*", t)}
    assert {"dx", "dx_scale", "dx_gate", "dz", "du", "dh", "dv", "ds", "dout"} == purple
    assert all(re.search(rf"\b{name}\b", source) for name in purple)
    assert "dx = dx_scale + dx_gate" in texts(se_block())
    assert "= dout * s" in texts(se_block())


@pytest.mark.parametrize("site", UNIT_SITES)
def test_each_site_is_where_the_net_has_it(site):
    lane, index = units.sites()[site]
    boxes_of_lane = units.rows(lane)
    position = boxes_of_lane.index(("site", site))
    before = [name for name, _ in boxes_of_lane[:position] if name != "site"]
    assert len(before) == index
    unit = basic_block(4, 4, 1, Build(se=SE(reduction=2, site=site), rng=0))
    names = [name for name, layer in unit.layers() if name and layer.children() == []]
    (own,) = (name for name, layer in unit.layers() if isinstance(layer, SEBlock))
    expected = {"branch": names[: names.index(own)], "shortcut": [], "after": []}[lane]
    assert before == expected


def test_every_layer_and_site_is_drawn():
    drawn = texts(residual_block())
    for site in UNIT_SITES:
        assert f"SE {site}" in drawn
    assert sum(text.startswith("SE ") for text in drawn) == len(UNIT_SITES)
    plain = basic_block(4, 4, 1, Build(rng=0))
    for name, layer in plain.layers():
        if name and layer.children() == []:
            assert any(text.startswith(f"{name} {type(layer).__name__}") for text in drawn)
    dashed = residual_block().svg.count("stroke-dasharray")
    assert dashed == len(UNIT_SITES) - 1  # all but the default
