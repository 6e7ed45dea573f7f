"""Random streams of layers: all differ by default, and one seed reproduces them all."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations

import numpy as np
import pytest

from minise import models, nn
from minise.nn.streams import generator

LAYERS_BY_NAME = {
    "conv": lambda **more: nn.Conv2d(16, 16, 3, **more),
    "linear": lambda **more: nn.Linear(4, 3, **more),
    "SE": lambda **more: nn.SEBlock(8, nn.SE(reduction=2), **more),
    "basic block": lambda **more: nn.basic_block(4, 4, 1, nn.Build(se=nn.SE(reduction=2), **more)),
}
SE_PARTS = "fc.0.weight", "fc.2.weight"
ONES = np.ones((8, 4, 16, 16))


def weights(layer):
    return [array for array in layer.named_parameters().values() if np.ptp(array)]


def mask(layer):
    return layer.forward(ONES, training=True)[0] != 0


def equal(arrays, others):
    return [np.array_equal(a, b) for a, b in zip(arrays, others, strict=True)]


@pytest.mark.parametrize("name", LAYERS_BY_NAME)
def test_layers_without_rng_differ_and_one_seed_repeats_them(name):
    make = LAYERS_BY_NAME[name]
    nn.seed(7)
    first, second = weights(make()), weights(make())
    assert not any(equal(first, second))
    nn.seed(7)
    assert all(equal(first + second, weights(make()) + weights(make())))
    nn.seed(8)
    assert not any(equal(first, weights(make())))


def test_layers_of_one_block_differ():
    block = nn.basic_block(4, 4, 1, nn.Build())
    first, second = (block[name].params["weight"] for name in ("conv1", "conv2"))
    assert not np.array_equal(first, second)


def test_the_two_weights_of_a_square_se_block_differ():
    params = nn.SEBlock(8, nn.SE(reduction=1)).params
    first, second = (params[name] for name in SE_PARTS)
    assert not np.allclose(first, second * np.sqrt(2))


def test_dropout_masks_differ_between_layers_and_between_calls():
    layers = nn.Dropout(0.5), nn.Dropout(0.5)
    masks = [mask(layer) for layer in layers * 2]
    deviation = 0.5 / np.sqrt(ONES.size)  # of the share of values where two masks are equal
    for first, second in combinations(masks, 2):
        assert abs((first == second).mean() - 0.5) < 5 * deviation


def test_a_quarter_survives_two_dropouts_in_a_row():
    net = nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.5))
    share = mask(net).mean()
    assert abs(share - 0.25) < 5 * np.sqrt(0.25 * 0.75 / ONES.size)


def test_one_seed_repeats_the_masks():
    def masks():
        nn.seed(3)
        layers = nn.Dropout(0.5), nn.Dropout(0.5)
        return [mask(layer) for layer in layers * 2]

    assert all(equal(masks(), masks()))


def test_evaluation_draws_no_mask():
    evaluated, fresh = nn.Dropout(0.5, rng=5), nn.Dropout(0.5, rng=5)
    evaluated.predict(ONES)
    evaluated.forward(ONES, training=False)
    np.testing.assert_array_equal(mask(evaluated), mask(fresh))


def test_a_program_that_sets_no_seed_repeats_too():
    program = "from minise.nn import Linear as L; L(2, 2); print(L(3, 2).params['weight'].sum())"
    run = [sys.executable, "-c", program]
    printed = {subprocess.run(run, capture_output=True, check=True).stdout for _ in range(2)}
    nn.seed(0)
    nn.Linear(2, 2)
    assert printed == {str(nn.Linear(3, 2).params["weight"].sum()).encode() + b"\n"}


def test_threads_build_different_layers():
    nn.seed(1)
    with ThreadPoolExecutor(8) as pool:
        layers = list(pool.map(lambda _: nn.Linear(4, 4), range(200)))
    drawn = {layer.params["weight"].tobytes() for layer in layers}
    assert len(drawn) == 200
    nn.seed(1)
    assert drawn == {nn.Linear(4, 4).params["weight"].tobytes() for _ in range(200)}


def test_the_package_shares_no_stream_with_a_generator_of_the_same_seed():
    """models.build draws SE blocks from the first child of seed 0."""
    nn.seed(0)
    ours = generator("", None).random(4)
    others = [np.random.default_rng(0), *np.random.default_rng(0).spawn(3)]
    assert not any(np.array_equal(ours, other.random(4)) for other in others)


# models.build


@pytest.mark.parametrize("name", ["se_resnet8", "se_preact_resnet110", "resnet20"])
def test_models_do_not_depend_on_the_seed_of_layers(name):
    expected = weights(models.build(name, rng=np.random.default_rng(0)))
    nn.seed(5)
    assert all(equal(weights(models.build(name)), expected))
    after = nn.Linear(3, 2).params["weight"]
    nn.seed(5)
    np.testing.assert_array_equal(after, nn.Linear(3, 2).params["weight"])  # build drew nothing
    assert all(equal(weights(models.build(name, rng=0)), expected))
    assert not any(equal(weights(models.build(name, rng=1)), expected))


def test_models_start_from_seed_0():
    """Weights that were trained or published with a seed are drawn again in every version."""
    params = models.build("se_resnet8", dtype=np.float64).named_parameters()
    rng = np.random.default_rng(0)
    (se_rng,) = rng.spawn(1)
    for drawn, name, fan_in in (
        (rng, "conv1.weight", 3 * 9),
        (rng, "layer1.0.conv1.weight", 16 * 9),
        (se_rng, "layer1.0.se.fc.0.weight", 16),
    ):
        values = drawn.standard_normal(params[name].shape) * np.sqrt(2 / fan_in)
        np.testing.assert_array_equal(params[name], values)


# Seeds and generators as rng


@pytest.mark.parametrize("name", LAYERS_BY_NAME)
@pytest.mark.parametrize("seed", [3, np.int64(3)])
def test_an_integer_is_a_seed(name, seed):
    make = LAYERS_BY_NAME[name]
    same = weights(make(rng=np.random.default_rng(3)))
    assert all(equal(weights(make(rng=seed)), same))
    assert not any(equal(weights(make(rng=4)), same))


def test_an_integer_makes_no_twins_within_a_block():
    block = nn.basic_block(4, 4, 1, nn.Build(rng=3))
    first, second = (block[name].params["weight"] for name in ("conv1", "conv2"))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("seed", [{}, dict(rng=3), dict(rng=3, se_rng=4)])
def test_the_se_blocks_of_one_build_differ(seed):
    build = nn.Build(se=nn.SE(reduction=1), **seed)
    first, second = (nn.basic_block(4, 4, 1, build) for _ in range(2))
    assert not any(equal(weights(first), weights(second)))


MAKERS = {
    "Conv2d": lambda rng: nn.Conv2d(1, 1, 1, rng=rng),
    "Linear": lambda rng: nn.Linear(1, 1, rng=rng),
    "SEBlock": lambda rng: nn.SEBlock(1, rng=rng),
    "Dropout": lambda rng: nn.Dropout(0.5, rng=rng),
    "Build": lambda rng: nn.Build(rng=rng),
    "build": lambda rng: models.build("resnet8", rng=rng),
}


@pytest.mark.parametrize("where", MAKERS)
@pytest.mark.parametrize(
    ("rng", "error", "message"),
    [
        (np.random.RandomState(0), TypeError, "rng is a RandomState, expected a numpy.random.Gen"),
        (np.random, TypeError, "rng is a module, expected a numpy.random.Generator"),
        (0.5, TypeError, "rng is a float, expected a numpy.random.Generator, an integer seed or N"),
        (-1, ValueError, "rng is -1, expected at least 0"),
    ],
)
def test_other_sources_of_random_numbers_are_refused(where, rng, error, message):
    with pytest.raises(error, match=f"^{where}: {message}"):
        MAKERS[where](rng)


@pytest.mark.parametrize(("n", "error"), [(-1, ValueError), (0.5, TypeError), (None, TypeError)])
def test_invalid_seeds(n, error):
    with pytest.raises(error, match="^nn.seed: n is "):
        nn.seed(n)
