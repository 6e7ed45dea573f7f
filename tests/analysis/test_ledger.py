"""The ledger of nets: operations, bytes moved and bytes saved, by hand and against real arrays."""

from collections import Counter
from fractions import Fraction

import numpy as np
import pytest

from minise import models, nn
from minise.analysis import cost_of, memory_of
from minise.analysis.cost import Excitation
from minise.analysis.ledger import Folds
from minise.ops import cost, reference
from minise.ops.wrap import Call

N, PIXELS = 2, 5 * 6


def small_net(**settings):
    """Return a convolution, a batch norm and an SE block of 4 channels with 2 hidden units."""
    return nn.Chain(
        ("conv", nn.Conv2d(3, 4, 3, padding=1)),
        ("bn", nn.BatchNorm2d(4)),
        ("se", nn.SEBlock(4, nn.SE(2, **settings))),
    )


def shapes_net(name, **settings):
    """Return a model whose parameters are not drawn."""
    return models.build(name, ops=cost.Shapes(), **settings)


def test_a_small_net_by_hand():
    """Bytes are 4 for each number; images have N * 3 * PIXELS and N * 4 * PIXELS numbers."""
    costs = cost_of(small_net(), (5, 6), N)
    conv, bn, se = costs.layers
    x, out = N * 3 * PIXELS, N * 4 * PIXELS

    assert (conv.parameters, conv.statistics, conv.folded) == (108, 0, 108 + 4)
    assert conv.forward == conv.backward == {"conv": out * 27}  # backward: dweight, and no dx
    assert conv.moved_forward == 4 * (x + 108 + out)
    assert conv.moved_backward == 4 * (out + x + 108 + 108)  # dout, x, weight, dweight
    assert conv.saved == 4 * out

    assert (bn.parameters, bn.statistics, bn.folded) == (8, 8, 0)
    assert (bn.forward, bn.backward) == ({"norm": 7 * out}, {"norm": 10 * out})
    assert bn.moved_forward == 4 * (out + 4 * 4 + out + 4 * 4)  # the cache has 4 new arrays
    assert bn.moved_backward == 4 * (2 * out + 6 * 4 + out + 2 * 4)
    assert bn.saved == 4 * (out + 4 * 4)

    weights, biases, units = 2 * 2 * 4, 2 + 4, 4 + 2 + 4  # units are z, h and s of an image
    assert (se.parameters, se.statistics, se.folded) == (22, 0, 22)
    assert se.forward == {
        "se_fc": N * weights,
        "gate": out,
        "squeeze": out,
        "excite": N * (biases + 2 + 4 * 4),  # a ReLU and 4 operations of a sigmoid
    }
    assert se.backward == {
        "se_fc": N * 2 * weights,
        "gate": 2 * out,
        "squeeze": out,
        "excite": N * (biases + 2 + 4 * 3),
    }
    assert se.moved_forward == 4 * (2 * out + weights + biases + N * units)
    assert se.moved_backward == 4 * (3 * out + 2 * (weights + biases) + N * units)
    assert se.saved == 4 * (out + N * units)
    assert se.excitation == Excitation(
        weights, biases, Fraction(16), se.moved_forward, se.moved_backward, se.saved
    )
    assert (conv.excitation, costs.excitation) == (None, se.excitation)


def test_layers_add_up_to_the_totals():
    costs = cost_of(shapes_net("se_resnet20"))
    for name in ("parameters", "statistics", "folded", "moved_forward", "moved_backward", "saved"):
        assert getattr(costs, name) == sum(getattr(row, name) for row in costs.layers)
    for name in ("forward", "backward"):
        counts = [getattr(row, name) for row in costs.layers]
        assert getattr(costs, name) == sum(counts, Counter())
        for kind in ("conv", "fc", "se_fc", "gate", "squeeze"):
            assert getattr(costs, name)[kind] == sum(count[kind] for count in counts) > 0


def test_conventions():
    costs = cost_of(small_net(), (5, 6), N)
    for name in ("forward", "backward"):
        counts = getattr(costs, name)
        macs = counts["conv"] + counts["se_fc"] + counts["gate"]
        others = sum(counts[kind] for kind in ("squeeze", "excite", "norm"))
        assert costs.operations("macs", name) == macs
        assert costs.operations("flops", name) == 2 * macs
        assert costs.operations("all", name) == 2 * macs - counts["gate"] + others
        assert costs.se_operations("macs", name) == counts["se_fc"] + counts["gate"]
    assert (costs.macs, costs.se_macs) == (costs.operations(), costs.se_operations())


def test_a_batch_has_the_operations_of_its_images():
    single, batch = (cost_of(shapes_net("se_resnet8"), batch_size=n) for n in (1, 5))
    for name in ("forward", "backward"):
        assert getattr(batch, name) == {k: 5 * n for k, n in getattr(single, name).items()}
    assert single.saved < batch.saved < 5 * single.saved
    assert batch.parameters == single.parameters


def bytes_of_caches(net, x):
    """Return the bytes of the arrays that forward in training allocates and keeps."""
    before = [x, *net.named_arrays().values()]
    pending = [net.forward(x, training=True)]
    unique = {}
    while pending:
        value = pending.pop()
        if isinstance(value, np.ndarray):
            while value.base is not None:
                value = value.base
            if not any(np.may_share_memory(value, array) for array in before):
                unique[id(value)] = value
        elif isinstance(value, tuple | list):
            pending += value
    return sum(array.nbytes for array in unique.values())


NETS = {
    "se_resnet8": lambda: models.build("se_resnet8"),
    "resnet8, shortcut A": lambda: models.build("resnet8", shortcut="A"),
    "se_preact_resnet110": lambda: models.build("se_preact_resnet110"),
    "site 3x3": lambda: models.build("se_resnet8", site="3x3", squeeze="max"),
    "squeeze none": lambda: small_net(squeeze="none"),
    "dropout": lambda: nn.Chain(
        nn.Conv2d(3, 4, 3),
        nn.Scale(0.5),
        nn.Dropout(0.5),
        nn.Branches(nn.MaxPool2d(2), nn.Conv2d(4, 2, 2, stride=2)),
        nn.Flatten(),
        nn.Linear(6 * 3 * 3, 2),
    ),
}


@pytest.mark.parametrize("name", NETS)
def test_saved_bytes_are_those_of_the_real_caches(name):
    net = NETS[name]()
    costs = cost_of(net, 8, N)
    x = np.random.default_rng(0).standard_normal((N, 3, 8, 8), np.float32)
    assert costs.saved == costs.memory.saved == bytes_of_caches(net, x)


@pytest.mark.parametrize("ops", ["reference", "jit", "cuda"])
def test_the_predicted_memory_is_that_of_memory_of(ops):
    net = shapes_net("se_resnet8")
    costs = cost_of(net, batch_size=64, ops=ops)
    assert costs.memory == memory_of(net, 64, ops=ops)
    assert costs.saved == costs.memory.saved


def test_the_part_of_an_se_block_in_a_fused_op():
    """It is what the net keeps and moves in addition to the same net without the block."""
    sizes = {"num_classes": 3}
    plain, se = (cost_of(shapes_net(name, **sizes), 16, 3) for name in ("resnet8", "se_resnet8"))
    part = se.excitation
    assert se.parameters - plain.parameters == part.weights + part.biases
    assert se.saved - plain.saved == part.saved
    assert se.moved_forward - plain.moved_forward == part.moved_forward
    assert se.moved_backward - plain.moved_backward == part.moved_backward
    for way in ("forward", "backward"):
        more = getattr(se, way) - getattr(plain, way)
        assert set(more) == {"se_fc", "gate", "squeeze", "excite"}
        for convention in ("macs", "flops", "all"):
            difference = se.operations(convention, way) - plain.operations(convention, way)
            assert se.se_operations(convention, way) == difference


def test_the_formula_has_no_integer_hidden_units_and_no_biases():
    net = nn.Chain(nn.SEBlock(10, nn.SE(4)), nn.SEBlock(10, nn.SE(3)))
    part = cost_of(net, (10, 4, 4)).excitation
    assert part.weights == 2 * 10 * 2 + 2 * 10 * 3
    assert part.biases == 10 + 2 + 10 + 3
    assert part.formula == Fraction(2 * 100, 4) + Fraction(2 * 100, 3)


def test_shared_arrays_count_once():
    block, norm = nn.SEBlock(4, nn.SE(2)), nn.BatchNorm2d(4)
    tied = nn.SEBlock(4, nn.SE(2))
    tied.params |= block.params
    costs = cost_of(nn.Chain(norm, block, norm, ("tied", tied)), (4, 5, 6))
    assert (costs.parameters, costs.statistics) == (8 + 22, 8)
    assert (costs.excitation.weights, costs.excitation.formula) == (16, 16)
    assert costs.forward["gate"] == 2 * 4 * PIXELS


def test_norms_that_follow_no_convolution_are_not_folded():
    """A convolution with a bias keeps it."""
    unit = nn.Chain(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1, bias=True), nn.NormReLU(4))
    pooled = nn.Chain(nn.Conv2d(4, 5, 1), nn.MaxPool2d(2), nn.BatchNorm2d(5))
    rows = cost_of(nn.Chain(unit, pooled), 4).layers
    assert [row.folded for row in rows] == [6, 12 + 4, 0, 20, 0, 10]
    residual = nn.basic_block(3, 6, 2, nn.Build())
    folded = {row.layer: row.folded for row in cost_of(residual, 4).layers}
    assert folded["conv2"] == 6 * 6 * 9 + 6
    assert folded["downsample.0"] == 3 * 6 + 6
    assert folded["bn2"] == folded["bn1"] == folded["downsample.1"] == 0


def test_a_product_with_a_constant_is_no_gate():
    costs = cost_of(nn.Chain(nn.Scale(0.1)), (3, 4, 4))
    assert (costs.macs, costs.forward) == (0, {"sum": 48})


def test_sums_of_gradients_count_in_backward():
    """The sum of both branches' dx is computed where it is given to the first branch as plus."""
    net = nn.Chain(nn.Conv2d(3, 4, 1), nn.Branches(nn.Conv2d(4, 4, 1), nn.ReLU(), merge="add"))
    costs = cost_of(net, 5)
    image = 4 * 5 * 5
    assert (costs.forward["sum"], costs.backward["sum"]) == (image, image)
    assert costs.backward["conv"] == 3 * image + 2 * 4 * image


def test_one_value_per_channel():
    """Batch norm cannot train on it, so the costs are those of evaluation mode."""
    costs = cost_of(shapes_net("se_resnet8"), 4)
    assert not costs.training
    assert cost_of(shapes_net("se_resnet8"), 4, batch_size=2).training
    assert costs.saved == costs.memory.saved > 0
    assert costs.backward["conv"] > costs.forward["conv"]


def test_sizes_that_fit_are_searched_only_for_a_message(monkeypatch):
    """One value per channel needs no search, which runs the net again and again."""
    sizes = []
    monkeypatch.setattr(
        "minise.models.net.Images.explained",
        lambda images, x, error: sizes.append(x.shape) or error,
    )
    assert not cost_of(shapes_net("se_resnet8"), 4).training
    assert sizes == []


def test_an_output_in_the_place_of_a_freed_one_follows_no_convolution():
    ops, folds = cost.Shapes(), Folds()
    x, weight, gamma = (
        ops.shaped(shape, np.float32) for shape in ((1, 3, 4, 4), (4, 3, 1, 1), (4,))
    )
    out = ops.conv2d_forward(x, weight)[0]
    folds.observe(Call("conv", "conv2d", "forward", (x, weight), {}, None, (out,), 0.0))
    freed, arrays = id(out), []
    del out
    while not arrays or (id(arrays[-1]) != freed and len(arrays) < 1000):
        arrays.append(ops.shaped((1, 4, 4, 4), np.float32))
    arrays = arrays[-1], gamma, gamma
    folds.observe(Call("bn", "batch_norm2d", "forward", arrays, {}, None, (x,), 0.0))
    assert (folds.gone, folds.biases) == (set(), {})


def test_the_default_size_is_the_nets_own():
    net = shapes_net("se_resnet8")
    assert cost_of(net) == cost_of(net, net.size) == cost_of(net, 32)
    assert cost_of(nn.Chain(nn.ReLU())).shape == (3, 32, 32)


def test_the_net_keeps_its_forward_and_back_end():
    net = models.build("se_resnet8")
    cost_of(net)
    assert not any("forward" in vars(module) for _, module in net.layers())
    assert all(module.ops is reference for _, module in net.layers())


class OnlyForward(nn.Layer):
    """A layer without backward, whose forward needs the elements of x."""

    def forward(self, x, training):
        if float(x.sum()) != 0:
            raise ArithmeticError
        return self.ops.relu_forward(np.asarray(x.tolist(), x.dtype))

    def backward(self, dout, cache):
        raise NotImplementedError


def test_a_layer_without_backward():
    costs = cost_of(nn.Chain(nn.Conv2d(3, 4, 1), OnlyForward()), 5)
    assert costs.forward == {"activation": 100, "conv": 300}
    assert (costs.training, costs.memory) == (False, None)


def test_messages():
    net = shapes_net("se_resnet8")
    with pytest.raises(ValueError, match="cost_of: batch_size is 0, expected at least 1"):
        cost_of(net, batch_size=0)
    with pytest.raises(ValueError, match="cost: ops is 'mine', expected one of reference, jit"):
        cost_of(net, ops="mine")


@pytest.mark.long
@pytest.mark.parametrize("name", models.names())
def test_every_model(name):
    """At its own size: bytes saved, parameters, and the SE blocks' share add up."""
    net = shapes_net(name)
    costs = cost_of(net)
    assert costs.training
    assert costs.saved == costs.memory.saved
    assert costs.parameters == net.parameter_count
    statistics = (a.size for n, a in net.named_state().items() if "running_" in n)
    assert costs.statistics == sum(statistics)
    convolutions = costs.backward["conv"] / costs.forward["conv"]
    assert 1.9 < convolutions < 2  # all but the dx of the first
    assert (costs.excitation is not None) == name.startswith("se_")
    if costs.excitation is not None:
        plain = cost_of(shapes_net(name.removeprefix("se_")))
        assert costs.se_parameters == costs.parameters - plain.parameters
        assert costs.se_macs == costs.macs - plain.macs
