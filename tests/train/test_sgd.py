"""SGD: by hand, against PyTorch, weight decay, and messages."""

import numpy as np
import pytest

from minise import nn
from minise.nn import files
from minise.ops import reference
from minise.train import SGD
from minise.train.sgd import check_optimiser_state, optimiser_state
from tests.train.regression import WithCounter


def update(param, grad, velocity, **settings):
    defaults = dict(rate=0.5, momentum=0.5, nesterov=False, weight_decay=0.0)
    reference.sgd_update(param, grad, velocity, **{**defaults, **settings})


@pytest.mark.parametrize(
    ("settings", "param", "velocity"),
    [
        (dict(momentum=0.0), 4 - 0.5 * 2, 2),
        ({}, 4 - 0.5 * (0.5 * 8 + 2), 0.5 * 8 + 2),
        (dict(nesterov=True), 4 - 0.5 * (2 + 0.5 * (0.5 * 8 + 2)), 0.5 * 8 + 2),
        (dict(weight_decay=0.25), 4 - 0.5 * (0.5 * 8 + 2 + 0.25 * 4), 0.5 * 8 + 2 + 0.25 * 4),
    ],
)
def test_by_hand(settings, param, velocity):
    p, v = np.array([4.0]), np.array([8.0])
    update(p, np.array([2.0]), v, **settings)
    assert (p[0], v[0]) == (param, velocity)


def net():
    rng = np.random.default_rng(0)
    layers = (
        nn.Conv2d(2, 3, 1, bias=True, dtype=np.float64, rng=rng),
        nn.BatchNorm2d(3, dtype=float),
    )
    return nn.Sequential(*layers)


def trained(steps=4, **settings):
    layer = net()
    optimiser = SGD(layer, **settings)
    for seed in range(steps):
        rng = np.random.default_rng(seed)
        out, cache = layer.forward(rng.standard_normal((2, 2, 3, 3)), training=True)
        _, grads = layer.backward(rng.standard_normal(out.shape), cache)
        optimiser.step(grads, 0.1)
    return layer


def grads_of(layer, x=None):
    out, cache = layer.forward(np.ones((1, 2, 3, 3)) if x is None else x, training=True)
    return layer.backward(out, cache)[1]


def copies(layer):
    return {k: array.copy() for k, array in layer.named_parameters().items()}


def test_arrays_keep_their_identity():
    layer = net()
    before = layer.named_parameters()
    optimiser = SGD(layer, momentum=0.9)
    optimiser.step(grads_of(layer), 0.1)
    assert all(layer.named_parameters()[name] is array for name, array in before.items())


@pytest.mark.parametrize("decay_all", [False, True])
def test_only_weights_decay_unless_decay_all(decay_all):
    layer = net()
    optimiser = SGD(layer, momentum=0, weight_decay=0.5, decay_all=decay_all)
    for array in layer.named_parameters().values():
        array[...] = 2
    zeros = {name: np.zeros_like(array) for name, array in layer.named_parameters().items()}
    optimiser.step(zeros, 0.5)
    decayed = {name for name, array in layer.named_parameters().items() if (array == 1.5).all()}
    assert decayed == (set(layer.named_parameters()) if decay_all else {"0.weight"})


def other_net():
    return nn.Sequential(
        nn.Conv2d(2, 3, 1, dtype=np.float64), nn.ReLU(), nn.NormReLU(3, dtype=np.float64)
    )


WRONG = {
    "none": (
        lambda grads: {},
        r"0.weight has no gradient \(missing for 4 of 4 .*pass .* net.backward",
    ),
    "missing": (
        lambda grads: {k: v for k, v in grads.items() if k != "1.bias"},
        r"SGD: 1.bias has no gradient \(missing for 1 of 4 parameters\)",
    ),
    "unknown": (
        lambda grads: {**grads, "2.weight": grads["0.bias"]},
        "SGD: grads has 2.weight, expected names of the net's parameters",
    ),
    "of another shape": (
        lambda grads: {**grads, "1.weight": np.zeros(4)},
        r"the gradient of 1.weight has shape \(4,\), expected \(3,\): is it from another net",
    ),
    "of another dtype": (
        lambda grads: {**grads, "1.weight": np.zeros(3, np.float32)},
        "the gradient of 1.weight is float32, expected float64",
    ),
    "None": (
        lambda grads: {**grads, "1.weight": None},
        "the gradient of 1.weight is a NoneType, expected float64",
    ),
    "None for all": (lambda grads: None, "grads is a NoneType, expected a dict .*_, grads = net"),
    "a list": (lambda grads: list(grads.values()), "SGD: grads is a list, expected a dict of grad"),
    "all that backward returns": (
        lambda grads: (np.zeros(3), grads),
        r"SGD: grads is a tuple, expected a dict .*`_, grads = net.backward\(dout, cache\)`",
    ),
    "of another net": (
        lambda grads: grads_of(other_net()),
        "SGD: grads has 2.weight, expected names of the net's parameters",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_gradients_move_nothing(name):
    layer = net()
    wrong, message = WRONG[name]
    optimiser = SGD(layer, momentum=0.5, weight_decay=0.1)
    grads = wrong(grads_of(layer))
    before = copies(layer)
    with pytest.raises((ValueError, TypeError), match=message):
        optimiser.step(grads, 0.1)
    for k, array in layer.named_parameters().items():
        np.testing.assert_array_equal(array, before[k])
    assert not any(array.any() for array in optimiser.velocity.values())


@pytest.mark.parametrize("lr", [float("nan"), float("inf"), -0.1, "0.1", None])
def test_a_wrong_learning_rate_moves_nothing(lr):
    layer = net()
    optimiser, before = SGD(layer), copies(layer)
    with pytest.raises(ValueError, match="^SGD: lr is .*, expected a number from 0 to 1e6"):
        optimiser.step(grads_of(layer), lr)
    for k, array in layer.named_parameters().items():
        np.testing.assert_array_equal(array, before[k])


@pytest.mark.parametrize("shape", [(3,), (4,)], ids=["of the same shape", "of another shape"])
@pytest.mark.parametrize("name", ["gate", "bias"], ids=["new", "changed"])
def test_a_net_that_changed_is_refused_before_anything_moves(name, shape):
    layer = nn.Linear(2, 3, dtype=np.float64)
    optimiser = SGD(layer)
    layer.params[name] = np.ones(shape)
    before = copies(layer)
    grads = {k: np.ones_like(array) for k, array in layer.named_parameters().items()}
    if (name, shape) == ("bias", (3,)):  # a compatible replacement
        optimiser.step(grads, 0.1)
        return
    with pytest.raises(
        ValueError, match=rf"^SGD: {name} is new or changed, .*: call SGD\(net\) ag"
    ):
        optimiser.step(grads, 0.1)
    for k, array in layer.named_parameters().items():
        np.testing.assert_array_equal(array, before[k])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(momentum=-3), "momentum is -3, expected a number from 0 to 1"),
        (dict(momentum=float("nan")), "momentum is nan, expected a number from 0 to 1"),
        (dict(momentum=None), "momentum is None, expected a number from 0 to 1"),
        (dict(weight_decay="x"), "weight_decay is 'x', expected a number from 0 to 1e6"),
        (dict(weight_decay=-1e-4), "weight_decay is -0.0001, expected a number from 0 to 1e6"),
        (dict(nesterov="yes"), "nesterov is 'yes', expected True or False"),
        (dict(decay_all=2), "decay_all is 2, expected True or False"),
    ],
)
def test_settings_are_checked_where_they_are_passed(settings, message):
    with pytest.raises((ValueError, TypeError), match=f"^SGD: {message}"):
        SGD(net(), **settings)


@pytest.mark.parametrize("value", [None, nn.Linear, [np.ones(2)]])
def test_net_must_be_a_layer(value):
    with pytest.raises(TypeError, match="^SGD: net is a .*, expected a layer: pass SGD"):
        SGD(value)


@pytest.mark.parametrize("nesterov", [False, True])
def test_pytorch_agrees(nesterov):
    torch = pytest.importorskip("torch", reason="needs torch: pip install -e '.[oracle]'")
    settings = dict(momentum=0.9, nesterov=nesterov, weight_decay=0.01)
    ours = trained(decay_all=True, **settings).named_parameters()
    conv, norm = torch.nn.Conv2d(2, 3, 1).double(), torch.nn.BatchNorm2d(3).double()
    twin = torch.nn.Sequential(conv, norm)
    start = {name: torch.tensor(array) for name, array in net().named_parameters().items()}
    twin.load_state_dict(start, strict=False)
    optimiser = torch.optim.SGD(twin.parameters(), lr=0.1, **settings)
    for seed in range(4):
        rng = np.random.default_rng(seed)
        out = twin(torch.tensor(rng.standard_normal((2, 2, 3, 3))))
        optimiser.zero_grad()
        out.backward(torch.tensor(rng.standard_normal(tuple(out.shape))))
        optimiser.step()
    for name, param in twin.named_parameters():
        # four steps of sums over 2 * 3 * 3 pixels, through a normalisation: some 100 roundings
        bound = 100 * np.finfo(float).eps * (1 + abs(ours[name]).max())
        np.testing.assert_allclose(ours[name], param.detach().numpy(), rtol=0, atol=bound)


def test_the_state_is_the_velocities_themselves():
    layer = net()
    optimiser = SGD(layer)
    state = optimiser_state(optimiser)
    assert state.keys() == {f"velocity/{name}" for name in layer.named_parameters()}
    assert all(state[f"velocity/{name}"] is array for name, array in optimiser.velocity.items())
    optimiser.step(grads_of(layer), 0.1)
    assert all(state[name] is array for name, array in optimiser_state(optimiser).items())


class OnlyVelocity:
    """An optimiser with the attributes that train_step needs."""

    def __init__(self, net):
        self.net, self.velocity = net, {"1.weight": np.ones(3)}


def test_the_state_of_other_optimisers():
    assert list(optimiser_state(OnlyVelocity(net()))) == ["velocity/1.weight"]
    assert optimiser_state(WithCounter(net()))["steps"].shape == ()


def test_any_optimiser_goes_on_from_its_restored_state():
    """Four steps, or two, a restore into another net and optimiser, and two more: the same bits."""
    first, other = net(), net()
    optimiser, fresh = WithCounter(first), WithCounter(other)
    for _ in range(2):
        optimiser.step(grads_of(first), 0.1)
    arrays = {**files.arrays_of(first), **optimiser_state(optimiser)}
    arrays = {name: array.copy() for name, array in arrays.items()}
    files.restore(other, arrays, others=optimiser_state(fresh))
    for _ in range(2):
        optimiser.step(grads_of(first), 0.1)
        fresh.step(grads_of(other), 0.1)
    assert int(fresh.steps) == 4
    for name, array in {**files.arrays_of(first), **optimiser_state(optimiser)}.items():
        restored = {**files.arrays_of(other), **optimiser_state(fresh)}[name]
        np.testing.assert_array_equal(array, restored)


@pytest.mark.parametrize("name", ["velocity/1.weight", "steps", "1.weight"])
def test_a_restore_that_lacks_an_array_writes_nothing(name):
    layer = net()
    optimiser = WithCounter(layer)
    before = {**files.arrays_of(layer), **optimiser_state(optimiser)}
    arrays = {key: array + 1 for key, array in before.items() if key != name}
    before = {key: array.copy() for key, array in before.items()}
    with pytest.raises(ValueError, match=f"the checkpoint does not fit the net: it lacks {name}:"):
        files.restore(layer, arrays, others=optimiser_state(optimiser))
    for key, array in {**files.arrays_of(layer), **optimiser_state(optimiser)}.items():
        np.testing.assert_array_equal(array, before[key])


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (lambda steps: int(steps), "run: steps of the optimiser's .* is a int, expected an array"),
        (lambda steps: steps[()], "is a int64, expected an array"),
        (np.copy, "run: steps of the optimiser's .* is a copy, expected the array that"),
    ],
)
def test_a_state_that_cannot_be_restored_is_refused_at_the_start(read, message):
    class Counting(SGD):
        def state(self):
            return super().state() | {"steps": read(self.steps)}

    optimiser = Counting(nn.Linear(2, 2))
    optimiser.steps = np.zeros((), np.int64)
    with pytest.raises((TypeError, ValueError), match=message):
        check_optimiser_state("run", optimiser)


def test_an_attribute_state_that_is_no_method_is_the_optimisers_own():
    optimiser = SGD(nn.Linear(2, 2))
    optimiser.state = {}
    assert optimiser_state(optimiser).keys() == {"velocity/weight", "velocity/bias"}
    check_optimiser_state("run", optimiser)
