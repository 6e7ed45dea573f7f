"""Dropout: its masks come from a seed and a counter, which is part of the state."""

import copy
import math

import numpy as np
import pytest

from minise import nn
from minise.files import NET, write
from minise.gradcheck import assert_gradients
from minise.nn import files
from minise.ops import jit
from minise.train import SGD, SoftmaxCrossEntropy, checkpoint, train_step
from minise.train.config import TrainConfig
from tests.nn.adapter import as_functions

ONES = np.ones((8, 3, 6, 6))


def masks(layer, count=1):
    return [layer.forward(ONES, training=True)[0] != 0 for _ in range(count)]


def same(ours, theirs):
    return all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_by_hand():
    x = np.ones((4, 3, 20, 20))
    layer = nn.Dropout(0.25, rng=np.random.default_rng(0))
    out, cache = layer.forward(x, training=True)
    survivors = out != 0
    assert set(out[survivors]) == {1 / (1 - 0.25)}
    deviation = math.sqrt(x.size * 0.25 * 0.75)
    assert abs(survivors.sum() - 0.75 * x.size) < 5 * deviation
    dx, grads = layer.backward(x, cache)
    np.testing.assert_array_equal(dx, out)  # the same mask, the same scale
    assert grads == {}
    np.testing.assert_array_equal(layer.forward(x, training=False)[0], x)
    assert (layer.forward(x, training=True)[0] != out).any()  # the next mask is another one
    with pytest.raises(ValueError, match="Dropout: p is 1, expected a number from 0 to below 1"):
        nn.Dropout(1)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_gradients(training):
    forward, backward, params = as_functions(nn.Dropout(0.5, rng=0), training)
    rng = np.random.default_rng(0)
    assert_gradients(forward, backward, [rng.standard_normal((2, 3, 4)), *params], rng)


def test_the_counter_counts_masks_that_were_drawn():
    layer = nn.Dropout(0.5)
    counter = layer.state["draws"]
    assert (counter.shape, counter.dtype.kind, int(counter)) == ((), "i", 0)
    masks(layer, 3)
    layer.predict(ONES)
    layer.inference()(ONES)
    assert layer.state["draws"] is counter
    assert int(counter) == 3
    none = nn.Dropout(0.0)
    np.testing.assert_array_equal(none.forward(ONES, training=True)[0], ONES)
    assert int(none.state["draws"]) == 0


def test_masks_differ_between_calls_and_layers_and_one_seed_repeats_them():
    first, second, again = (nn.Dropout(0.5, rng=seed) for seed in (3, 4, 3))
    ours = masks(first, 3)
    assert not any(same([a], [b]) for a, b in ((ours[0], ours[1]), (ours[1], ours[2])))
    assert not same(ours, masks(second, 3))
    assert same(ours, masks(again, 3))


def test_one_dropout_layer_used_twice_draws_different_masks():
    layer = nn.Dropout(0.5)
    out = nn.Chain(layer, layer).forward(ONES, training=True)[0]
    deviation = math.sqrt(0.25 * 0.75 / ONES.size)
    assert abs((out != 0).mean() - 0.25) < 5 * deviation
    assert int(layer.state["draws"]) == 2


def test_every_back_end_draws_the_same_masks():
    assert same(masks(nn.Dropout(0.5, rng=3), 2), masks(nn.Dropout(0.5, rng=3, ops=jit), 2))


def test_masks_repeat_after_a_restore(tmp_path):
    layer = nn.Dropout(0.5, rng=3)
    masks(layer, 2)
    nn.save(layer, tmp_path / "net.safetensors")
    saved, expected = files.arrays_of(layer), masks(layer, 3)
    assert int(saved["draws"]) == 2
    files.restore(layer, saved)
    assert same(masks(layer, 3), expected)
    for seed in (3, 4):  # of the net that reads the file
        fresh = nn.Dropout(0.5, rng=seed)
        nn.load(fresh, tmp_path / "net.safetensors")
        assert same(masks(fresh, 3), expected)
    assert not same(masks(nn.Dropout(0.5, rng=3), 3), expected)  # from the start


@pytest.mark.parametrize("shared", [False, True])
def test_a_file_without_seeds_keeps_those_of_the_net(tmp_path, shared):
    """As checkpoints that were written before seeds were part of the state."""
    drop = nn.Dropout(0.5, rng=3)
    net = nn.Chain(drop, ("fc", nn.Linear(4, 2, rng=0)), drop if shared else nn.Dropout(0.5, rng=4))
    seeds = {name: int(a) for name, a in net.named_state().items() if name.endswith("seed")}
    net.forward(np.ones((2, 4), np.float32), training=True)
    old = {name: a for name, a in files.arrays_of(net).items() if name not in seeds}
    assert len(seeds) == (1 if shared else 2)
    assert len(old) == len(seeds) + 2
    write(tmp_path / "old.safetensors", NET, old, {})
    other = copy.deepcopy(net)
    for name, array in other.named_arrays().items():
        if name not in seeds:
            array[...] = 0
    nn.load(other, tmp_path / "old.safetensors")
    for name, array in files.arrays_of(other).items():
        np.testing.assert_array_equal(array, net.named_arrays()[name])
    for missing in old:
        with pytest.raises(ValueError, match=f"it lacks {missing}: build"):
            files.restore(other, {name: a for name, a in old.items() if name != missing})
    with pytest.raises(ValueError, match=r"fit the net: the net has no 1\.seed: build"):
        files.restore(other, {**old, "1.seed": np.zeros((), np.int64)})


def test_seed_and_counter_are_in_a_checkpoint(tmp_path):
    net = nn.Chain(("fc", nn.Linear(4, 2, rng=0)), ("drop", nn.Dropout(0.5, rng=3)))
    net.forward(np.ones((2, 4), np.float32), training=True)
    arrays = checkpoint.arrays_of(net)
    path = tmp_path / "last.safetensors"
    checkpoint.save(path, checkpoint.Checkpoint(arrays, {}, TrainConfig(), {}, {}))
    read = checkpoint.load(path).arrays
    assert (read["drop.draws"].shape, int(read["drop.draws"])) == ((), 1)
    seed = net["drop"].state["seed"]
    assert (read["drop.seed"].shape, read["drop.seed"].dtype) == ((), np.dtype(np.int64))
    assert int(read["drop.seed"]) == int(seed) == nn.Dropout(0.5, rng=3).state["seed"]


def dropping(seed=3):
    layers = nn.Dropout(0.5, rng=seed), nn.Linear(4, 2, rng=0), nn.Dropout(0.25, rng=seed + 1)
    return nn.Chain(*layers)


@pytest.mark.parametrize("nans", [[0], [1], [0, 1]], ids=str)
def test_a_refused_step_puts_the_counter_back(nans):
    net = dropping()
    optimiser = SGD(net)
    batches = [(np.ones((3, 4), np.float32), np.array([0, 1, 0])) for _ in range(2)]
    train_step(net, SoftmaxCrossEntropy(), optimiser, batches, 0.1)
    assert [int(net.named_state()[f"{k}.draws"]) for k in (0, 2)] == [2, 2]
    before = files.arrays_of(net)
    bad = [(np.full_like(x, np.nan) if k in nans else x, t) for k, (x, t) in enumerate(batches)]
    assert np.isnan(train_step(net, SoftmaxCrossEntropy(), optimiser, bad, 0.1)["loss"])
    for name, array in files.arrays_of(net).items():
        np.testing.assert_array_equal(array, before[name])


def test_a_restored_net_continues_bit_identically():
    """Three steps, or two, a restore into a net of another seed and one more: the same bits."""
    batches = [(np.ones((3, 4), np.float32) * (k + 1), np.array([0, 1, 0])) for k in range(3)]

    def step(net, batch):
        train_step(net, SoftmaxCrossEntropy(), SGD(net, momentum=0), [batch], 0.1)

    continued, fresh = dropping(), dropping(7)
    for k, batch in enumerate(batches):
        if k == 2:
            files.restore(fresh, files.arrays_of(continued))
            step(fresh, batch)
        step(continued, batch)
    for name, array in files.arrays_of(continued).items():
        np.testing.assert_array_equal(files.arrays_of(fresh)[name], array)
