"""train_step: by hand, with several batches, and with a loss that is not finite."""

import numpy as np
import pytest

from minise import models, nn
from minise.nn import files
from minise.train import SGD, SoftmaxCrossEntropy, evaluate, train_step
from tests.train.regression import SquaredError, net, pairs


class Scaled:
    """Mean of out * targets: its gradient is targets / n."""

    def forward(self, out, targets):
        return np.mean(out * targets), targets

    def backward(self, targets):
        return targets / len(targets)

    def metrics(self, out, targets):
        return {"first": float(out[0, 0])}


def line():
    """Return the net w * x with w = 3."""
    layer = nn.Linear(1, 1, bias=False, dtype=np.float64)
    layer.params["weight"][...] = 3
    return layer


def test_by_hand():
    """loss = 3 * (2 * 5 + 4 * 7) / 2; dw = (2 * 5 + 4 * 7) / 2 = 19."""
    layer = line()
    x, targets = np.array([[2.0], [4.0]]), np.array([[5.0], [7.0]])
    means = train_step(layer, Scaled(), SGD(layer, momentum=0), [(x, targets)], 0.5)
    assert means == {"loss": 57, "first": 6}
    assert layer.params["weight"].item() == 3 - 0.5 * 19


def test_of_two_batches_by_hand():
    """Of one and three inputs: losses 30 and 3 * 4, gradients 10 and 4; shares 1/4 and 3/4."""
    layer = line()
    batches = [(np.array([[2.0]]), np.array([[5.0]])), (np.full((3, 1), 4.0), np.ones((3, 1)))]
    means = train_step(layer, Scaled(), SGD(layer, momentum=0), batches, 1.0)
    assert means == {"loss": 30 / 4 + 12 * 3 / 4, "first": 6 / 4 + 12 * 3 / 4}
    assert layer.params["weight"].item() == 3 - (10 / 4 + 4 * 3 / 4)


def finite_and_not(dtype=np.float32, bad=np.nan):
    x, labels = np.ones((2, 3, 8, 8), dtype), np.array([0, 1])
    x[0, 0] = 2
    return (x, labels), (np.full_like(x, bad), labels)


def everything(layer, optimiser):
    velocity = {f"velocity/{k}": v.copy() for k, v in optimiser.velocity.items()}
    return {**files.arrays_of(layer), **velocity}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("which", [[1], [0, 1], [1, 0], [0, 1, 0]], ids=str)
def test_a_step_whose_loss_is_not_finite_leaves_all_as_it_was(which, bad):
    """Parameters, running statistics, and the optimiser's velocities."""
    layer = models.build("se_resnet8")
    optimiser, batches = SGD(layer), finite_and_not(bad=bad)
    train_step(layer, SoftmaxCrossEntropy(), optimiser, [batches[0]], 0.1)
    before = everything(layer, optimiser)
    with np.errstate(invalid="ignore", over="ignore"):
        means = train_step(
            layer, SoftmaxCrossEntropy(), optimiser, [batches[k] for k in which], 0.1
        )
    assert not np.isfinite(means["loss"])
    assert everything(layer, optimiser).keys() == before.keys()
    for name, array in everything(layer, optimiser).items():
        np.testing.assert_array_equal(array, before[name])
    train_step(layer, SoftmaxCrossEntropy(), optimiser, [batches[0]], 0.1)  # and it goes on
    assert all(np.isfinite(array).all() for array in files.arrays_of(layer).values())


class PlainNumber(SquaredError):
    """Its loss is a Python float."""

    def forward(self, out, targets):
        loss, cache = super().forward(out, targets)
        return float(loss), cache


@pytest.mark.parametrize("objective", [SquaredError(), PlainNumber()])
def test_losses_of_any_numeric_type(objective):
    layer = net()
    optimiser = SGD(layer)
    before = everything(layer, optimiser)
    (x, targets), *_ = pairs(1)
    assert np.isnan(train_step(layer, objective, optimiser, [(x, targets + np.nan)], 0.1)["loss"])
    for name, array in everything(layer, optimiser).items():
        np.testing.assert_array_equal(array, before[name])


def test_an_error_leaves_all_as_it_was():
    layer = net()
    optimiser = SGD(layer)
    before = everything(layer, optimiser)
    (x, targets), *_ = pairs(1)
    for batches in ([(x, targets[:2])], [(x, targets), (x[:, :, :0], targets)]):
        with pytest.raises(ValueError, match="shape"):
            train_step(layer, SquaredError(), optimiser, batches, 0.1)
        for name, array in everything(layer, optimiser).items():
            np.testing.assert_array_equal(array, before[name])


class Returning(SquaredError):
    """Its methods return prescribed values, if there are any."""

    def __init__(self, **returned):
        self.returned = returned

    def forward(self, out, targets):
        return self.returned.get("forward", super().forward(out, targets))

    def metrics(self, out, targets):
        return self.returned.get("metrics", super().metrics(out, targets))


MISTAKEN = {
    "a loss of shape (1,)": (
        dict(forward=(np.ones(1), None)),
        r"the loss of .* is of shape \(1,\)",
    ),
    "no loss": (dict(forward=(None, None)), "the loss of .* is a NoneType, expected a number"),
    "a loss alone": (dict(forward=np.ones(())), "forward returns a .*, expected a pair"),
    "no dict": (dict(metrics=None), "metrics returns a NoneType, expected a dict"),
    "an array": (
        dict(metrics=dict(top=np.ones(2))),
        r"top of .* is a ndarray of shape \(2,\), exp",
    ),
    "None": (dict(metrics=dict(top=None)), "top of .* is a NoneType, expected a number"),
    "no name": (dict(metrics={3: 1.0}), "metrics has 3, expected a name other than"),
    **{
        name: (dict(metrics={name: 1.0}), f"has '{name}', expected a name other than")
        for name in ("loss", "lr", "rate", "epoch", "step", "seconds", "kind", "val_loss")
    },
}


@pytest.mark.parametrize("name", MISTAKEN)
def test_what_an_objective_returns_is_checked(name):
    returned, message = MISTAKEN[name]
    layer, objective = net(), Returning(**returned)
    optimiser = SGD(layer)
    before = everything(layer, optimiser)
    with pytest.raises((ValueError, TypeError), match=f"^train_step: .*{message}"):
        train_step(layer, objective, optimiser, pairs(1), 0.1)
    for key, array in everything(layer, optimiser).items():
        np.testing.assert_array_equal(array, before[key])
    with pytest.raises((ValueError, TypeError), match=f"^evaluate: .*{message}"):
        evaluate(layer, pairs(1), objective)


def test_numbers_of_numpy_are_metrics_too():
    objective = Returning(metrics=dict(top=np.float32(0.5), low=np.array(1)))
    metrics = train_step(layer := net(), objective, SGD(layer), pairs(1), 0.1)
    assert (metrics["top"], metrics["low"]) == (0.5, 1)
    assert all(type(value) is float for value in metrics.values())


def test_wrong_arguments():
    layer, objective = net(), SquaredError()
    for arguments, message in (
        ((objective, SGD(layer), pairs(1)[0]), r"batches\[0\] is a ndarray, expected a pair"),
        ((objective, SGD(layer), [*pairs(1), 5]), r"batches\[1\] is a int, expected a pair"),
        ((objective, SGD(layer), []), "batches is empty, expected at least one"),
        ((objective, SGD(net()), pairs(1)), r"optimiser is for another net: pass SGD\(net\)"),
        ((objective, None, pairs(1)), r"optimiser is a NoneType, .*: pass SGD\(net\)"),
        ((SquaredError, SGD(layer), pairs(1)), "objective is the class SquaredError, expected an"),
        (
            (len, SGD(layer), pairs(1)),
            "objective is a builtin.* without forward and backward and m",
        ),
    ):
        with pytest.raises((ValueError, TypeError), match=f"^train_step: {message}"):
            train_step(layer, *arguments, 0.1)


def test_the_objective_takes_the_name_of_a_back_end():
    assert SoftmaxCrossEntropy("reference").ops is SoftmaxCrossEntropy().ops
    for value in (-0.1, 1.5, "0.1", np.nan):
        with pytest.raises(
            ValueError, match="label_smoothing is .*, expected a number from 0 to 1"
        ):
            SoftmaxCrossEntropy(label_smoothing=value)


def test_running_statistics_move_once_for_each_batch():
    """momentum 1/2 from 0: batches of means 4 and 8 leave (0 + 4) / 2 = 2, then (2 + 8) / 2."""
    norm = nn.BatchNorm2d(1, momentum=0.5, dtype=np.float64)
    layer = nn.Chain(("norm", norm), ("pool", nn.GlobalAvgPool2d()))
    batches = [
        (np.array([low, high]).reshape(1, 1, 1, 2), np.zeros((1, 1)))
        for low, high in ((2.0, 6.0), (7.0, 9.0))
    ]
    train_step(layer, SquaredError(), SGD(layer), batches, 0.1)
    assert norm.state["running_mean"].item() == 5


def test_the_first_convolution_skips_its_dx():
    layer, calls = net(), []
    honest = layer["conv"].ops.conv2d_backward

    class Ops:
        def __getattr__(self, name):
            return getattr(layer.ops, name)

        def conv2d_backward(self, dout, cache, **settings):
            calls.append(settings["needs_dx"])
            return honest(dout, cache, **settings)

    layer["conv"].ops = Ops()
    train_step(layer, SquaredError(), SGD(layer), pairs(1), 0.1)
    assert calls == [False]
