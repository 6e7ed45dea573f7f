"""Joins of Branches: Shake's random shares, joins of one's own, and messages."""

import numpy as np
import pytest

from minise import nn
from minise.gradcheck import check_layer
from minise.nn import files
from minise.ops import cost, jit, reference
from tests.nn.composites import conv

IMAGES = np.random.default_rng(0).standard_normal((3, 4, 5, 6))


def unit(rng=3, ops=reference):
    """Return a unit that gives alpha - (1 - alpha) on images of ones: 2 alpha - 1."""
    shake = nn.Shake(ops=ops, rng=rng)
    return nn.Branches(nn.Chain(), nn.Scale(-1.0, ops=ops), merge=shake, ops=ops)


def shares(net, count=1, N=2000):
    """Return alpha and beta (N,) of a number of training passes."""
    drawn = []
    for _ in range(count):
        out, cache = net.forward(np.ones((N, 1, 1, 1)), training=True)
        dx, _ = net.backward(np.ones((N, 1, 1, 1)), cache)
        drawn.append(((out.ravel() + 1) / 2, (dx.ravel() + 1) / 2))
    return drawn


def test_every_image_has_its_own_shares_in_forward_and_in_backward():
    ((alpha, beta),) = shares(unit())
    deviation = np.sqrt(1 / 12 / len(alpha))  # of the mean of uniform numbers in 0..1
    for share in (alpha, beta):
        assert len(np.unique(share.round(12))) == len(share)
        assert 0 <= share.min() < 0.01 < 0.99 < share.max() <= 1
        assert abs(share.mean() - 0.5) < 5 * deviation
    assert abs(np.corrcoef(alpha, beta)[0, 1]) < 5 / np.sqrt(len(alpha))


def test_one_share_for_all_pixels_of_an_image():
    net = nn.Branches(nn.Chain(), nn.Scale(-1.0), merge=nn.Shake())
    out, cache = net.forward(np.ones((4, 3, 2, 5)), training=True)
    dx, _ = net.backward(np.ones((4, 3, 2, 5)), cache)
    for array in (out, dx):
        assert len(np.unique(array)) == 4
        np.testing.assert_array_equal(array, array[:, :1, :1, :1] + np.zeros(array.shape))


def test_in_evaluation_both_shares_are_one_half():
    net = nn.Branches(nn.Scale(8.0), nn.Scale(2.0), merge=nn.Shake())
    out, cache = net.forward(IMAGES, training=False)
    np.testing.assert_array_equal(out, 4 * IMAGES + IMAGES)
    np.testing.assert_array_equal(net.backward(IMAGES, cache)[0], 4 * IMAGES + IMAGES)
    np.testing.assert_array_equal(net.inference()(IMAGES), out)
    assert int(net["merge"].state["draws"]) == 0


def test_shares_differ_between_calls_and_seeds_and_one_seed_repeats_them():
    ours, theirs, again = (np.array(shares(unit(rng), 2)) for rng in (3, 4, 3))
    assert not (ours[0] == ours[1]).any()
    assert not (ours == theirs).any()
    np.testing.assert_array_equal(ours, again)
    np.testing.assert_allclose(np.array(shares(unit(3, jit), 2)), ours, rtol=0, atol=1e-15)


def test_shares_continue_after_a_restore():
    net = nn.Chain(("unit", unit()))
    shares(net, 2)
    saved = files.arrays_of(net)
    assert {name: int(a) for name, a in saved.items() if "draws" in name} == {"unit.merge.draws": 2}
    assert "unit.merge.seed" in saved
    expected, fresh = np.array(shares(net, 2)), nn.Chain(("unit", unit(7)))
    files.restore(fresh, saved)
    np.testing.assert_array_equal(np.array(shares(fresh, 2)), expected)


def test_a_gradient_check_passes_in_evaluation_and_fails_in_training():
    net = nn.Branches(conv(), conv(4, 1), merge=nn.Shake(rng=0))
    assert check_layer(net, IMAGES, training=False).ok
    report = check_layer(net, IMAGES, training=True)
    assert {argument.verdict for argument in report.arguments} == {"wrong"}


class EqualShares(nn.Shake):
    """Shake whose gradients are those of forward."""

    def shares(self, x, training):
        alpha, _ = super().shares(x, training)
        return alpha, alpha


def test_with_equal_shares_it_passes_in_training_too():
    net = nn.Branches(conv(), conv(4, 1), merge=EqualShares(rng=0))
    assert check_layer(net, IMAGES, training=True).ok


def test_on_a_back_end_of_shapes_nothing_is_drawn():
    ops = cost.Shapes()
    net = unit(ops=ops)
    out, cache = net.forward(ops.shaped((2, 3, 4, 5), np.float32), training=True)
    assert (out.shape, out.dtype) == ((2, 3, 4, 5), np.float32)
    assert net.backward(out, cache)[0].shape == (2, 3, 4, 5)


class Product(nn.Join):
    """A join of one's own."""

    count = 2

    def forward(self, outs, training):
        a, b = outs
        return a * b, (a, b)

    def backward(self, dout, cache):
        a, b = cache
        return [dout * b, dout * a]


def test_a_join_of_ones_own():
    net = nn.Branches(conv(), nn.Tanh(), merge=Product())
    assert check_layer(net, IMAGES).ok
    np.testing.assert_allclose(net.inference()(IMAGES), net.predict(IMAGES), rtol=1e-12)
    assert "merge: Product()" in repr(net)
    assert [name for name, _ in net.children()] == ["0", "1", "merge"]


@pytest.mark.parametrize("join", [nn.Concat, nn.Add])
def test_a_join_and_its_name_are_equal(join):
    layers = conv(), nn.Tanh(), conv(4, 1)
    named, explicit = (nn.Branches(*layers, merge=m) for m in (join.__name__.lower(), join()))
    outs, caches = zip(*(net.forward(IMAGES, True) for net in (named, explicit)), strict=True)
    np.testing.assert_array_equal(*outs)
    both = (net.backward(outs[0], c) for net, c in zip((named, explicit), caches, strict=True))
    (dx, grads), (same, others) = both
    np.testing.assert_array_equal(dx, same)
    assert grads.keys() == others.keys()


class Weighted(Product):
    """A join with a parameter, whose gradient nobody would compute."""

    def __init__(self):
        super().__init__()
        self.params["factor"] = np.ones(1)


@pytest.mark.parametrize(
    ("branches", "merge", "error", "message"),
    [
        (2, nn.Tanh(), TypeError, r"merge is a Tanh, expected 'concat' or 'add' or a join, such"),
        (2, nn.Shake, TypeError, "merge is the class Shake, expected 'concat' or 'add' or a join"),
        (2, None, TypeError, "merge is None, expected 'concat' or 'add' or a join"),
        (3, nn.Shake(), ValueError, "the number of layers is 3, expected 2, because Shake merges"),
        (1, nn.Shake(), ValueError, "the number of layers is 1, expected 2, because Shake merges"),
        (2, Weighted(), ValueError, "merge has the parameters factor, expected a join without"),
    ],
)
def test_messages(branches, merge, error, message):
    with pytest.raises(error, match=f"^Branches: {message}"):
        nn.Branches(*(nn.Tanh() for _ in range(branches)), merge=merge)


def test_a_base_class_says_what_is_missing():
    net = nn.Branches(nn.Tanh(), merge=nn.Join())
    with pytest.raises(NotImplementedError, match=r"^Join has no forward\(outs, training\)"):
        net.forward(IMAGES, True)
