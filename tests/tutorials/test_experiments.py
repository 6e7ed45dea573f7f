"""What the experiments of the lessons show is what theory says, within its own spread."""

import numpy as np
import pytest

from minise.contract.case import Case, draw
from minise.ops import reference as ops
from tests.tutorials.lessons import FOLDER

pytest.importorskip("marimo", reason="needs marimo: pip install -e '.[tutorials]'")
pytest.importorskip("matplotlib", reason="needs Matplotlib: pip install -e '.[tutorials]'")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@pytest.fixture
def stacks(ran):
    return ran(FOLDER / "07_residual_blocks.py").definitions


def theoretical_norms(size, layers, branch, draws=20000):
    """Return norms after each layer, (layers, draws), without a rotation.

    |g + a Q g|^2 = |g|^2 (1 + 2 a c + a^2), where c, the cosine between g and Q g, is the first
    coordinate of a uniformly distributed point of the sphere.
    """
    points = np.random.default_rng(1).standard_normal((layers, draws, size))
    cosines = points[:, :, 0] / np.linalg.norm(points, axis=2)
    return np.sqrt(np.cumprod(1 + 2 * branch * cosines + branch**2, axis=0))


def outliers(norms, branch=0.5, size=8):
    """Return how many percentiles of the stacks are off by more than four standard errors.

    Of S stacks a share q is expected below the quantile q, with the standard error
    sqrt(q (1 - q) / S) of a binomial distribution.
    """
    theory = theoretical_norms(size, len(norms) - 1, branch)
    shares = np.array([0.05, 0.5, 0.95])
    limits = np.quantile(theory, shares, axis=1)  # (3, layers)
    below = (norms[None, 1:] <= limits[:, :, None]).mean(axis=2)
    errors = np.sqrt(shares * (1 - shares) / norms.shape[1])
    return int(np.sum(abs(below - shares[:, None]) > 4 * errors[:, None]))


@pytest.mark.xdist_group("07_residual_blocks")
def test_the_gradient_vanishes_without_the_sum_and_grows_with_it(stacks):
    plain, residual = stacks["plain"], stacks["residual"]
    layers = np.arange(len(plain))
    np.testing.assert_allclose(plain, np.broadcast_to(0.5 ** layers[:, None], plain.shape))
    assert outliers(residual) == 0
    assert np.median(residual[20]) > 1
    assert np.mean(residual[20] > 1) > 0.95


@pytest.mark.xdist_group("07_residual_blocks")
def test_rotations_without_the_correction_of_signs_are_noticed(stacks):
    shape = (residual := stacks["residual"]).shape[1], len(residual) - 1, 8, 8
    raw, _ = np.linalg.qr(np.random.default_rng(0).standard_normal(shape))
    assert outliers(stacks["norms_of"](0.5 * raw, shortcut=True)) > 10


@pytest.mark.xdist_group("07_residual_blocks")
def test_a_branch_that_starts_at_zero_keeps_the_norm(stacks):
    residual = stacks["norms_of"](np.zeros((3, 5, 8, 8)), shortcut=True)
    np.testing.assert_allclose(residual, 1)


@pytest.fixture
def bug(ran):
    return ran(FOLDER / "06_squeeze_and_excitation.py").definitions


@pytest.mark.xdist_group("06_squeeze_and_excitation")
def test_the_wrong_net_starts_equal_points_nearly_the_same_way_and_trains(bug):
    right, wrong = bug["losses"].values()
    np.testing.assert_array_equal(right[:, 0], wrong[:, 0])  # forward has no bug
    assert np.all(wrong[:, 1:] != right[:, 1:])
    assert np.all(bug["missing"] > 0.01)
    assert np.all((bug["cosines"] > 0.9) & (bug["cosines"] < 1 - 1e-4))
    assert np.all(wrong[:, -1] < wrong[:, 0])


@pytest.mark.xdist_group("06_squeeze_and_excitation")
def test_the_planted_bug_leaves_out_the_second_route_and_nothing_else(bug):
    sizes = dict(N=2, C=4, H=3, W=5, R=2)
    inputs, keywords = draw(
        Case("se_block_tail", sizes, dict(training=True)), np.random.default_rng(2)
    )
    out, cache = ops.se_block_tail_forward(*inputs, **keywords)
    dout = np.random.default_rng(3).standard_normal(out.shape)
    names = ("x", "gamma", "beta", "w1", "b1", "w2", "b2", "shortcut")
    right = dict(zip(names, ops.se_block_tail_backward(dout, cache), strict=True))
    wrong = dict(zip(names, bug["without_gate_route"](dout, cache), strict=True))
    for name in ("w1", "b1", "w2", "b2", "shortcut"):
        np.testing.assert_array_equal(wrong[name], right[name])
    dtotal = np.where(out <= 0, 0, dout)
    dnorm = ops.batch_norm2d_backward(dtotal * cache.gates.s, cache.norm)
    for name, gradient in zip(names, dnorm, strict=False):
        np.testing.assert_allclose(wrong[name], gradient)
        assert abs(wrong[name] - right[name]).max() > 1e-3
