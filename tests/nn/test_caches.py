"""The caller of forward holds the cache: shared layers, concurrent runs, micro-batches."""

import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from minise import files as array_files
from minise import models, nn
from minise.gradcheck import assert_gradients
from minise.gradcheck.slopes.arrays import with_own_containers
from minise.nn import files
from minise.ops import jit, reference
from minise.train import SGD, SoftmaxCrossEntropy, train_step
from tests.nn.adapter import as_functions, perturbed
from tests.nn.composites import COMPOSITES, F64, classifier, conv, norm_relu
from tests.nn.test_composites import EVERYTHING, forward, images, made, passes, same_gradients

# One layer used twice


def tied():
    """Return a net that uses one dense layer and one normalisation twice each."""
    shared, norm = nn.Linear(4, 4, dtype=F64), norm_relu()
    return nn.Chain(
        ("norm", norm),
        ("branch", nn.Chain(("conv", conv()), ("norm", norm))),
        ("pool", nn.GlobalAvgPool2d()),
        ("first", shared),
        ("between", nn.Tanh()),
        ("second", shared),
        ("last", nn.Linear(4, 2, dtype=F64)),
    )


FIRST_NAMES = ["norm.weight", "norm.bias", "branch.conv.weight", "first.weight", "first.bias"]
FIRST_NAMES += ["last.weight", "last.bias"]


def test_a_shared_array_has_its_first_name():
    net = tied()
    assert list(net.named_parameters()) == FIRST_NAMES
    assert list(net.named_state()) == ["norm.running_mean", "norm.running_var"]
    assert net.parameter_count == (4 + 4) + 4 * 4 * 9 + (4 * 4 + 4) + (2 * 4 + 2)
    assert net["second"] is net["first"]


def test_gradients_of_a_shared_array_have_every_name():
    rng = np.random.default_rng(0)
    net = perturbed(tied(), rng)
    _, grads = passes(net, images())
    more = ["branch.norm.weight", "branch.norm.bias", "second.weight", "second.bias"]
    assert sorted(grads) == sorted([*FIRST_NAMES, *more])
    for training in (True, False):
        forward, backward, params = as_functions(net, training)
        assert len(params) == len(FIRST_NAMES)
        assert_gradients(forward, backward, [images(), *params], rng, mode="complex_step")


def squared(names=("a", "b")):
    """Return the net w * w * x of one weight w = 3."""
    layer = nn.Linear(1, 1, bias=False, dtype=F64)
    layer.params["weight"][...] = 3
    return nn.Chain((names[0], layer), (names[1], layer))


@pytest.mark.parametrize("names", ["ab", "aa"], ids=["two names", "one name"])
def test_sgd_adds_the_gradients_and_decays_once_by_hand(names):
    """x = 2: each use gives 3 * 2; the weight changes by half of 6 + 6 + 0.5 * 3."""
    net = squared(names)
    out, cache = net.forward(np.array([[2.0]]), training=True)
    assert out.item() == 18
    dx, grads = net.backward(np.array([[1.0]]), cache)
    assert dx.item() == 9
    assert {name: grad.item() for name, grad in grads.items()} == (
        {"a.weight": 6, "b.weight": 6} if names == "ab" else {"a.weight": 12}
    )
    optimiser = SGD(net, momentum=0, weight_decay=0.5)
    assert list(optimiser.velocity) == ["a.weight"]
    optimiser.step(grads, 0.5)
    assert net[0].params["weight"].item() == 3 - 0.5 * (6 + 6 + 0.5 * 3)
    assert net[1] is net[0]


def test_two_layers_with_one_array():
    """Their weights are one array, as for an embedding and an output layer."""
    first, second = nn.Linear(2, 2, dtype=F64), nn.Linear(2, 2, dtype=F64)
    second.params["weight"] = first.params["weight"]
    net = nn.Chain(("one", first), ("two", second))
    assert list(net.named_parameters()) == ["one.weight", "one.bias", "two.bias"]
    x = np.eye(2)
    out, cache = net.forward(x, training=True)
    _, grads = net.backward(np.ones_like(out), cache)
    expected = first.params["weight"] - (grads["one.weight"] + grads["two.weight"])
    SGD(net, momentum=0).step(grads, 1.0)
    np.testing.assert_array_equal(first.params["weight"], expected)
    assert second.params["weight"] is first.params["weight"]


def test_a_shared_array_is_saved_once(tmp_path):
    net, other = perturbed(tied(), np.random.default_rng(0)), tied()
    nn.save(net, tmp_path / "net.safetensors")
    written = array_files.read(tmp_path / "net.safetensors", array_files.NET).arrays
    assert sorted(written) == sorted([*FIRST_NAMES, "norm.running_mean", "norm.running_var"])
    nn.load(other, tmp_path / "net.safetensors")
    np.testing.assert_array_equal(other.predict(images()), net.predict(images()))


def test_a_copy_and_inference_stay_tied():
    net = perturbed(tied(), np.random.default_rng(0))
    twin = copy.deepcopy(net)
    assert list(twin.named_parameters()) == FIRST_NAMES
    assert twin["second"] is twin["first"] is not net["first"]
    expected = net.predict(images())
    np.testing.assert_array_equal(twin.predict(images()), expected)
    np.testing.assert_allclose(net.inference()(images()), expected, rtol=1e-12, atol=1e-12)


def test_running_statistics_of_a_shared_layer_are_updated_by_each_use():
    """momentum 1/2; the batch of 2 and 6 has mean 4, normalised for the second use it has 0."""
    norm = nn.BatchNorm2d(1, momentum=0.5, dtype=F64)
    nn.Chain(norm, norm).forward(np.array([2.0, 6.0]).reshape(1, 1, 1, 2), training=True)
    assert norm.state["running_mean"][0] == pytest.approx((0 + 4) / 2 / 2, abs=1e-12)


# Several runs at once


@pytest.mark.parametrize("name", EVERYTHING)
def test_another_run_between_forward_and_backward_changes_nothing(name):
    layer, x = made(name), images()
    expected = passes(layer, x)
    state = {k: array.copy() for k, array in layer.named_state().items()}
    out, cache = layer.forward(x, training=True)
    for k, array in layer.named_state().items():
        array[...] = state[k]
    layer.predict(images(7))
    layer.inference()(images(7))
    layer.forward(images(8), training=True)
    dx, grads = layer.backward(images(1, out.shape), cache)
    np.testing.assert_array_equal(dx, expected[0])
    same_gradients(grads, expected[1])


@pytest.mark.parametrize("name", EVERYTHING)
def test_two_backwards_in_either_order(name):
    layer, xs = made(name), (images(0), images(7))
    expected = [passes(layer, x) for x in xs]
    outs = [forward(layer, x) for x in xs]
    for k in (0, 1):  # the one that went first goes back first
        out, cache = outs[k]
        dx, grads = layer.backward(images(1, out.shape), cache)
        np.testing.assert_array_equal(dx, expected[k][0])
        same_gradients(grads, expected[k][1])


@pytest.mark.parametrize("ops", [reference, jit], ids=["reference", "jit"])
def test_threads_that_evaluate_one_net_are_bit_identical(ops):
    net = perturbed(models.build("se_resnet8", ops=ops), np.random.default_rng(0))
    xs = [images(seed, (2, 3, 8, 8)).astype(np.float32) for seed in range(8)]
    for run in (net.predict, net.inference(), lambda x: net.forward(x, training=False)[0]):
        expected = [run(x) for x in xs]
        with ThreadPoolExecutor(2) as pool:
            for out, alone in zip(pool.map(run, xs), expected, strict=True):
                np.testing.assert_array_equal(out, alone)


def test_threads_that_differentiate_one_net_in_evaluation_are_bit_identical():
    net = perturbed(models.build("se_resnet8"), np.random.default_rng(0))

    def dx_of(seed):
        out, cache = net.forward(images(seed, (2, 3, 8, 8)).astype(np.float32), training=False)
        return net.backward(out, cache)[0]

    expected = [dx_of(seed) for seed in range(8)]
    with ThreadPoolExecutor(2) as pool:
        for dx, alone in zip(pool.map(dx_of, range(8)), expected, strict=True):
            np.testing.assert_array_equal(dx, alone)


# Micro-batches


def small_net():
    gate = ("se", nn.SEBlock(4, 1, dtype=F64))
    layers = ("conv", conv()), ("relu", nn.ReLU()), gate, ("tail", nn.Residual(conv()))
    return perturbed(classifier(*layers), np.random.default_rng(0))


def batch(count, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((count, 4, 5, 6)), rng.integers(0, 3, count)


def gradients(net, x, labels, weight=1.0):
    objective = SoftmaxCrossEntropy()
    out, cache = net.forward(x, training=True)
    _, loss_cache = objective.forward(out, labels)
    return net.backward(weight * objective.backward(loss_cache), cache, needs_dx=False)[1]


def test_gradients_of_micro_batches_sum_to_those_of_the_batch():
    net, (x, labels) = small_net(), batch(6)
    parts = [gradients(net, x[s], labels[s], len(x[s]) / 6) for s in (slice(4), slice(4, 6))]
    expected, total = gradients(net, x, labels), nn.total(*parts)
    assert total.keys() == expected.keys() == net.named_parameters().keys()
    for name, array in expected.items():
        np.testing.assert_allclose(total[name], array, rtol=0, atol=1e-12)
        assert abs(array).max() > 1e-6  # so that the comparison is not vacuous


def test_total_by_hand():
    a, b = np.array([1.0]), np.array([2.0])
    total = nn.total({"x": a, "y": b}, {"x": b}, {"z": a})
    assert {name: array.item() for name, array in total.items()} == {"x": 3, "y": 2, "z": 1}
    assert (a.item(), b.item()) == (1, 2)
    assert nn.total() == {}
    assert nn.under("n", {"w": a, "m.w": b}) == {"n.w": a, "n.m.w": b}
    assert nn.under("", {"w": a}) == {"w": a}


@pytest.mark.parametrize("sizes", [(4, 2), (1, 2, 3), (6,)], ids=str)
def test_a_step_of_micro_batches_equals_a_step_of_the_batch(sizes):
    (x, labels), reference_net, parts = batch(6), small_net(), small_net()
    files.restore(parts, files.arrays_of(reference_net))
    ends = np.cumsum(sizes)
    batches = [(x[e - n : e], labels[e - n : e]) for e, n in zip(ends, sizes, strict=True)]
    settings = dict(momentum=0.9, nesterov=True, weight_decay=0.1)
    ours, theirs = SGD(parts, **settings), SGD(reference_net, **settings)
    for _ in range(3):
        mine = train_step(parts, SoftmaxCrossEntropy(), ours, batches, 0.1)
        yours = train_step(reference_net, SoftmaxCrossEntropy(), theirs, [(x, labels)], 0.1)
        assert mine.keys() == yours.keys() == {"loss", "accuracy"}
        assert mine == pytest.approx(yours, abs=1e-12)
    for name, array in reference_net.named_parameters().items():
        np.testing.assert_allclose(parts.named_parameters()[name], array, rtol=0, atol=1e-12)


# Caches and gradients that are wrong


def without_identity_last(name):
    return name not in ("identity", "added to itself")


@pytest.mark.parametrize("name", list(filter(without_identity_last, EVERYTHING)))
def test_after_a_dout_of_the_wrong_shape_the_right_one_still_works(name):
    layer, x = made(name), images()
    expected = passes(layer, x)
    out, cache = layer.forward(x, training=True)
    with pytest.raises(ValueError, match="shape"):
        layer.backward(np.ones((out.shape[0] + 1, *out.shape[1:])), cache)
    with pytest.raises(TypeError, match=r"float32, expected float64|dtype"):
        layer.backward(np.ones(out.shape, np.float32), cache)
    dx, grads = layer.backward(images(1, out.shape), cache)
    np.testing.assert_array_equal(dx, expected[0])
    same_gradients(grads, expected[1])


@pytest.mark.parametrize("name", COMPOSITES)
def test_a_cache_that_is_used_up_is_refused(name):
    layer = made(name)
    out, cache = layer.forward(images(), training=True)
    layer.backward(np.ones_like(out), cache)
    used_up = f"^{type(layer).__name__}: the cache is used up, .* call forward again"
    with pytest.raises(ValueError, match=used_up):
        layer.backward(np.ones_like(out), cache)


@pytest.mark.parametrize("name", COMPOSITES)
def test_a_cache_of_another_net_is_refused(name):
    layer, twin = made(name), made(name)
    out, _ = layer.forward(images(), training=True)
    _, cache = twin.forward(images(), training=True)
    _, own = copy.deepcopy(layer).forward(images(), training=True)
    for wrong in (cache, own):
        with pytest.raises(ValueError, match="cache is another net's, expected the cache that"):
            layer.backward(np.ones_like(out), wrong)
    for wrong, kind in ((None, "None"), ((1, 2), "a tuple"), (out, "a ndarray")):
        with pytest.raises(ValueError, match=f"cache is {kind}, expected the cache that"):
            layer.backward(np.ones_like(out), wrong)
    dx, _ = twin.backward(np.ones_like(out), cache)  # nothing was taken out of it
    assert dx.shape == images().shape


def test_a_tail_refuses_wrong_caches():
    tails = [nn.NormAddReLU("bn", nn.BatchNorm2d(4, dtype=F64)), nn.Tail()]
    for tail, other in (tails, tails[::-1]):
        out, cache = tail.forward(images(), images(1), training=True)
        with pytest.raises(ValueError, match="cache is another net's"):
            other.backward(out, cache)
        tail.backward(out, cache)
        with pytest.raises(ValueError, match="cache is used up"):
            tail.backward(out, cache)


LEAVES = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "conv2d": conv,
    "batch_norm2d": lambda: nn.BatchNorm2d(4, dtype=F64),
    "batch_norm2d_relu": norm_relu,
    "squeeze_excite": lambda: nn.SEBlock(4, 2, dtype=F64),
    "max_pool2d": lambda: nn.MaxPool2d(1),
    "dropout": lambda: nn.Dropout(0.5),
}


@pytest.mark.parametrize("op", LEAVES)
def test_a_cache_of_another_op_is_refused(op):
    layer = LEAVES[op]()
    out, own = layer.forward(images(), training=True)
    for other in LEAVES.keys() - {op}:
        _, cache = LEAVES[other]().forward(images(), training=True)
        message = f"^{op}: cache is a {type(cache).__name__} of {other}, expected the cache that"
        with pytest.raises(ValueError, match=message):
            layer.backward(out, cache)
    _, cache = nn.Chain(layer).forward(images(), training=True)
    with pytest.raises(ValueError, match=f"^{op}: cache is .*Caches.*, expected the cache that"):
        layer.backward(out, cache)
    assert layer.backward(out, own)[0].shape == out.shape


def test_a_cache_of_a_layer_serves_every_backward():
    layer = conv()
    out, cache = layer.forward(images(), training=True)
    (dx, grads), (again, same) = (layer.backward(out, cache) for _ in range(2))
    np.testing.assert_array_equal(dx, again)
    same_gradients(grads, same)


def test_a_copy_of_the_containers_serves_another_backward():
    """The gradient checker calls backward twice in this way."""
    net = made("residual with tails")
    out, cache = net.forward(images(), training=True)
    twice = with_own_containers(cache)
    (dx, grads), (again, same) = (net.backward(out, held) for held in (twice, cache))
    np.testing.assert_array_equal(dx, again)
    same_gradients(grads, same)


def test_backward_returns_memory_as_it_goes():
    """During the first layer's backward, the caches of later layers are already released."""
    sizes = []

    class Looks(nn.Tanh):
        def backward(self, dout, cache, plus=None, needs_dx=True):
            sizes.append(len(held))
            return super().backward(dout, cache, plus, needs_dx)

    net = nn.Chain(nn.Tanh(), Looks(), nn.Tanh(), Looks())
    out, held = net.forward(images(), training=True)
    net.backward(out, held)
    assert sizes == [4, 2]
    assert held == []
