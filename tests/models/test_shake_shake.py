"""Shake-Shake: exact counts, the shortcut's shift, the shares of its units, SE sites, messages."""

import numpy as np
import pytest

from minise import models, nn
from minise.analysis import cost_of
from minise.gradcheck import check_layer
from minise.models.shake_shake import Shift, shake_unit
from minise.ops import jit
from tests.models.zoo import batch, on_shapes, small

NAME = "shake_shake26_2x96d"


def count(name, **settings):
    return on_shapes(name, **settings).parameter_count


@pytest.mark.parametrize(
    ("channels", "parameters", "macs"),
    [
        (32, 2_923_162, 426_689_792),
        (64, 11_653_978, 1_685_506_560),
        (96, 26_192_922, 3_776_892_672),
    ],
)
def test_counts(channels, parameters, macs):
    net = on_shapes(f"shake_shake26_2x{channels}d")
    assert net.parameter_count == parameters
    assert cost_of(net, (32, 32)).macs == macs


@pytest.mark.parametrize(
    ("site", "biased", "unbiased"),
    [("standard", 26_392_170, 26_386_458), ("mix", 26_292_546, 26_289_690)],
)
def test_counts_with_se(site, biased, unbiased):
    assert count(f"se_{NAME}", site=site) == biased
    assert count(f"se_{NAME}", site=site, bias=False) == unbiased


def test_names():
    net = on_shapes(f"se_{NAME}")
    names = {**net.named_parameters(), **net.named_state()}
    assert {name.removeprefix("layer2.0.") for name in names if name.startswith("layer2.0.")} == {
        *(f"branch{k}.conv{i}.weight" for k in (1, 2) for i in (1, 2)),
        *(f"branch{k}.se.fc.{i}.{a}" for k in (1, 2) for i in (0, 2) for a in ("weight", "bias")),
        *(
            f"{bn}.{a}"
            for bn in (*(f"branch{k}.bn{i}" for k in (1, 2) for i in (1, 2)), "downsample.bn")
            for a in ("weight", "bias", "running_mean", "running_var")
        ),
        *(f"downsample.conv{k}.weight" for k in (1, 2)),
        *(f"merge.{a}" for a in ("seed", "draws")),
    }
    mixed = on_shapes(f"se_{NAME}", site="mix", stages=(4,))
    assert {n.partition(".se.")[0] for n in mixed.named_parameters() if ".se." in n} == {
        f"layer3.{i}" for i in range(4)
    }


@pytest.mark.parametrize("ops", ["reference", "jit"])
def test_the_shift_by_hand(ops):
    x = np.arange(1.0, 7.0).reshape(1, 1, 2, 3)
    out, cache = Shift(ops).forward(x, True)
    assert out.tolist() == [[[[0, 0, 0], [0, 1, 2]]]]
    dx, grads = Shift(ops).backward(x, cache)
    assert (dx.tolist(), grads) == ([[[[5, 6, 0], [0, 0, 0]]]], {})
    assert check_layer(Shift(ops), np.random.default_rng(0).standard_normal((2, 3, 4, 5))).ok


@pytest.mark.parametrize("side", range(1, 8))
def test_with_stride_2_both_paths_have_equal_sizes_and_other_pixels(side):
    x = np.arange(1.0, 1 + side).reshape(1, 1, 1, side) * np.ones((1, 1, side, 1))
    pool = nn.AvgPool2d(1, stride=2)
    straight, moved = (pool.forward(y, False)[0] for y in (x, Shift().forward(x, False)[0]))
    assert straight.shape == moved.shape == (1, 1, (side + 1) // 2, (side + 1) // 2)
    assert straight[0, 0, -1].tolist() == [*range(1, side + 1, 2)]
    if side > 2:
        assert moved[0, 0, -1].tolist() == [0, *range(2, side, 2)]


def test_every_unit_draws_its_own_shares():
    net, side = small("shake_shake26_2x32d", rng=0)
    shakes = [layer for _, layer in net.layers() if isinstance(layer, nn.Shake)]
    assert len({int(layer.state["seed"]) for layer in shakes}) == len(shakes) == 12
    x, _ = batch(side)
    first, second = (net.forward(x, training=True)[0] for _ in range(2))
    assert [int(layer.state["draws"]) for layer in shakes] == [2] * 12
    assert (first != second).all()
    np.testing.assert_array_equal(net.predict(x), net.predict(x))
    assert [int(layer.state["draws"]) for layer in shakes] == [2] * 12


@pytest.mark.slow
def test_a_gradient_check_passes_in_evaluation_and_fails_in_training():
    unit = shake_unit(2, 4, 2, nn.Build(rng=0, dtype=np.float64))
    x = np.random.default_rng(0).standard_normal((2, 2, 4, 4))
    assert check_layer(unit, x, training=False).ok
    report = check_layer(unit, x, training=True)
    verdicts = {argument.name: argument.verdict for argument in report.arguments}
    assert verdicts["branch1.bn2.weight"] == verdicts["branch2.bn2.weight"] == "wrong"
    assert verdicts["downsample.bn.weight"] == "right"  # the shortcut has no share


def test_a_net_and_its_se_twin_have_equal_weights_and_seeds():
    plain, se = (
        small(name, rng=3)[0] for name in ("shake_shake26_2x32d", "se_shake_shake26_2x32d")
    )
    ours = {**plain.named_parameters(), **plain.named_state()}
    theirs = {**se.named_parameters(), **se.named_state()}
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name])


def test_reference_and_jit_draw_the_same():
    nets = [small("shake_shake26_2x32d", ops=ops, rng=0) for ops in ("reference", jit)]
    x, _ = batch(8)
    ours, theirs = (net.forward(x, training=True)[0] for net, _ in nets)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9 * abs(ours).max())


def test_other_sites_are_refused():
    with pytest.raises(ValueError, match="^se_shake_shake26_2x96d: site is 'pre', expected one of"):
        models.build(f"se_{NAME}", site="pre")
