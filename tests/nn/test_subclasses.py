"""User-defined layers: inference, nested layers, copies, pickles and messages."""

import copy
import pickle

import numpy as np
import pytest

from minise import nn
from minise.gradcheck import check_layer
from minise.ops import jit, reference, wrap

X = np.random.default_rng(0).standard_normal((2, 4, 5, 6))
F64 = dict(dtype=np.float64)


class Standardised(nn.Conv2d):
    def inputs(self):
        weight = self.params["weight"]
        return [weight - weight.mean((1, 2, 3), keepdims=True), None]


class AsTanh(nn.ReLU):
    op = "tanh"


class AlwaysBatch(nn.BatchNorm2d):
    def settings(self, training):
        return {**super().settings(training), "training": True}


class MaxGate(nn.SEBlock):
    def settings(self, training):
        return {"squeeze": "max", "gate": "sigmoid"}


class Patched(nn.ReLU):
    """Its forward is set after the class statement."""


Patched.forward = lambda self, x, training: (2 * x, None)  # type: ignore[method-assign]


def on_an_instance():
    layer = nn.ReLU()
    layer.forward = lambda x, training: (3 * x, None)  # type: ignore[method-assign]
    return layer


CHANGED = {
    "inputs": lambda: Standardised(4, 4, 3, **F64),
    "op": AsTanh,
    "settings of a normalisation": lambda: AlwaysBatch(4, **F64),
    "settings of a gate": lambda: MaxGate(4, 2, **F64),
    "forward set later": Patched,
    "forward of an instance": on_an_instance,
}


@pytest.mark.parametrize("ops", [reference, jit], ids=["reference", "jit"])
@pytest.mark.parametrize("name", CHANGED)
def test_inference_runs_what_a_subclass_changed(ops, name):
    layer = CHANGED[name]()
    net = nn.Chain(nn.Conv2d(4, 4, 3, **F64), layer, nn.ReLU())
    wrap.attach(net, ops)
    expected = net.predict(X)
    # each number is a sum of at most 4 * 9 products of numbers below 10, some three times over
    bound = 3 * 36 * 100 * np.finfo(float).eps
    np.testing.assert_allclose(net.inference()(X), expected, rtol=0, atol=bound)
    assert "evaluated by its own forward" in repr(layer)


class Blocks(nn.Layer):
    """Holds its layers in a list and in a dict."""

    def __init__(self):
        super().__init__()
        self.blocks = [nn.Linear(3, 3, **F64), nn.Tanh(), nn.Linear(3, 2, **F64)]
        self.heads = {"one": nn.Linear(2, 2, **F64)}

    def parts(self):
        return [*self.blocks, self.heads["one"]]

    def forward(self, x, training):
        caches = []
        for layer in self.parts():
            x, cache = layer.forward(x, training)
            caches.append(cache)
        return x, caches

    def backward(self, dout, cache):
        grads = {}
        names = ("blocks.0", "blocks.1", "blocks.2", "heads.one")
        for name, layer, own in reversed(list(zip(names, self.parts(), cache, strict=True))):
            dout, below = layer.backward(dout, own)
            grads |= nn.under(name, below)
        return dout, grads


def test_layers_in_lists_and_dicts_are_found():
    net = Blocks()
    assert list(net.named_parameters()) == [
        "blocks.0.weight",
        "blocks.0.bias",
        "blocks.2.weight",
        "blocks.2.bias",
        "heads.one.weight",
        "heads.one.bias",
    ]
    assert check_layer(net, np.random.default_rng(1).standard_normal((4, 3))).ok


class TwoOfOneName(nn.Layer):
    def __init__(self):
        super().__init__()
        self.params["m"], self.state["m"] = np.ones(2), np.zeros(2)


def test_two_arrays_of_one_name_are_refused_in_any_layer(tmp_path):
    with pytest.raises(ValueError, match="TwoOfOneName: two arrays are called m"):
        nn.save(TwoOfOneName(), tmp_path / "net.safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ops", [reference, jit], ids=["reference", "jit"])
def test_nets_can_be_pickled(ops):
    net = nn.Chain(nn.Conv2d(4, 3, 3, ops=ops, **F64), nn.NormReLU(3, ops=ops, **F64))
    same = pickle.loads(pickle.dumps(net))
    assert same.ops is ops
    np.testing.assert_array_equal(same.predict(X), net.predict(X))
    assert same[0].params["weight"] is not net[0].params["weight"]


def test_a_copied_cache_serves_a_second_backward():
    net = nn.Chain(nn.Residual(nn.Conv2d(4, 4, 3, padding=1, **F64)), nn.Tanh())
    out, cache = net.forward(X, training=True)
    dx, grads = net.backward(out, copy.deepcopy(cache))
    again, same = net.backward(out, cache)
    np.testing.assert_array_equal(again, dx)
    assert all((same[name] == grads[name]).all() for name in grads)


def test_numpy_integers_do_not_overflow():
    small = nn.Conv2d(np.uint8(100), 16, 3, rng=0)
    np.testing.assert_array_equal(
        small.params["weight"], nn.Conv2d(100, 16, 3, rng=0).params["weight"]
    )
    unit = nn.bottleneck(np.uint8(64), np.uint8(100), 1, nn.Build(rng=0))
    assert unit.predict(np.ones((1, 64, 2, 2), np.float32)).shape == (1, 400, 2, 2)
    with pytest.raises(ValueError, match="channels is 4, expected at least channels_in = 8"):
        nn.basic_block(np.uint8(8), np.uint8(4), 1, nn.Build(rng=0), shortcut="A")


def test_a_child_without_layers_takes_the_back_end_of_the_others():
    net = nn.Chain(
        nn.Residual(nn.Chain(), nn.Conv2d(4, 4, 1, ops=jit), nn.Tail(relu=False)),
        nn.Branches(nn.Chain(), nn.Conv2d(4, 4, 1, ops=jit)),
    )
    assert {module.ops for _, module in net.layers()} == {jit}


class ForgetsCache(nn.Layer):
    def forward(self, x, training):
        return x


class ForgetsGrads(nn.Layer):
    def forward(self, x, training):
        return x, None

    def backward(self, dout, cache):
        return dout


class ForgetsInit(nn.Layer):
    def __init__(self):
        self.size = 3


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: nn.Chain(ForgetsCache()).predict(X), r"forward returns a ndarray, .*\(out, cache"),
        (lambda: ForgetsGrads().backward(X, None), r"backward returns a ndarray, .*\(dx, grads\)"),
        (lambda: nn.Chain(ForgetsInit()), r"ForgetsInit has no attribute ops: call super"),
        (lambda: nn.Layer().predict(X), r"Layer has no forward\(x, training\)"),
        (lambda: nn.ReLU(ops=3), r"ReLU: ops is 3, expected a back end, such as minise.ops.jit"),
        (lambda: nn.ReLU().backward(X, None), "relu: cache is None, expected the cache that"),
        (lambda: nn.Chain(nn.ReLU())[2], "Chain has 1 children, not 2"),
        (lambda: nn.BatchNorm2d(4, eps=-1), "BatchNorm2d: eps is -1, expected a small number"),
        (lambda: nn.Conv2d(4, 4, 1, bias="no"), "Conv2d: bias is 'no'"),
        (lambda: nn.Build(se=4), r"Build: se is 4, expected SE\(reduction="),
        (lambda: nn.PadChannels(2).forward(X[0], True), "PadChannels: x has shape"),
    ],
)
def test_messages(run, message):
    errors = TypeError, ValueError, IndexError, AttributeError, NotImplementedError
    with pytest.raises(errors, match=message):
        run()


def test_plus_of_another_shape():
    out, cache = nn.Tanh().forward(X, training=True)
    with pytest.raises(
        ValueError, match=r"Tanh: plus has shape \(2, 4\), expected \(2, 4, 5, 6\), as x"
    ):
        nn.Tanh().backward(out, cache, np.ones((2, 4)))
