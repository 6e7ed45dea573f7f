"""The pictures of ops and nets say what the code says: names, shapes and numbers."""

import inspect
import re

import numpy as np
import pytest

from minise.nn import SE, Build, Chain, GlobalAvgPool2d, Linear, basic_block
from minise.ops import reference
from minise.ops.reference import fused
from minise.pictures import (
    batch_norm_axes,
    fused_tail,
    graph,
    loss,
    max_pool_routes,
    memory,
    net_graph,
    normalisation,
    pooling,
    sliding,
    softmax_cross_entropy,
    window,
)
from tests.pictures.layout import boxes


def texts(picture):
    return [box.text for box in boxes(picture.svg)]


def count(picture, text):
    return texts(picture).count(text)


# ---- batch normalisation


@pytest.mark.parametrize("mean", normalisation.MEANS, ids=lambda mean: mean.op)
def test_the_coloured_numbers_are_those_that_change_the_mean(mean):
    sizes = normalisation.N, normalisation.C, 2, 2
    x = np.random.default_rng(0).standard_normal(sizes)

    def means(x):
        if mean.op == "batch_norm2d":
            ones, zeros = np.ones(sizes[1]), np.zeros(sizes[1])
            state = dict(running_mean=zeros, running_var=ones, training=True)
            _, cache = reference.batch_norm2d_forward(x, ones, zeros, **state)
            return cache.mean, f"({cache.mean.shape[0]},)"
        w1, w2 = np.ones((1, sizes[1])), np.ones((sizes[1], 1))
        _, cache = reference.squeeze_excite_forward(x, w1, None, w2, None)
        return cache.gates.z, str(cache.gates.z.shape)

    shape = mean.shape.replace("N", str(sizes[0])).replace("C", str(sizes[1]))
    before, printed = means(x)
    assert printed == shape
    n0, c0 = normalisation.CHOSEN
    own = c0 if mean.op == "batch_norm2d" else (n0, c0)
    for n, c in np.ndindex(sizes[:2]):
        changed = x.copy()
        changed[n, c, 1, 0] += 1
        after, _ = means(changed)
        assert (after[own] != before[own]).all() == mean.shares(n, c)
    over = " * ".join(np.array(list("NCHW"))[list(mean.axes)])
    assert f"from {over} numbers" in texts(batch_norm_axes())
    assert f"{mean.name}  {mean.shape}" in texts(batch_norm_axes())


# ---- windows


@pytest.mark.parametrize("where", sliding.CASES)
def test_the_filled_pixels_are_the_view(where):
    padded = np.pad(sliding.image(where), 1)
    i, j = sliding.OFFSET
    expected = reference.windows.window(padded, where, i, j)
    filled = sorted(sliding.view(where, sliding.OFFSET))
    np.testing.assert_array_equal([padded[at] for at in filled], expected.ravel())
    p, q = sliding.FRAMED
    framed = [reference.windows.window(padded, where, *at)[p, q] for at in where.offsets()]
    assert [padded[at] for at in sorted(sliding.pixels(where, sliding.FRAMED))] == framed
    assert f"stride {where.stride[0]}, dilation {where.dilation[0]}" in texts(window())


def test_every_number_of_the_windows_is_drawn():
    drawn = []
    for where in sliding.CASES:
        padded = np.pad(sliding.image(where), 1)
        view = reference.windows.window(padded, where, *sliding.OFFSET)
        drawn += [*padded.ravel(), *view.ravel()]
    numbers = [int(text) for text in texts(window()) if text.isdigit()]
    assert sorted(numbers) == sorted(drawn)
    shown = texts(window())
    parts = sliding.formula()
    at = [shown.index(text) for text in (parts[0], f"= {parts[1]}", parts[2])]
    assert at == sorted(at)


# ---- pooling


def test_the_routes_are_those_of_backward():
    run = pooling.Routes()
    _, rows, columns = run.dout[0].shape
    for p, q in np.ndindex(rows, columns):
        dout = np.zeros_like(run.dout)
        dout[0, 0, p, q] = 1
        (dx,) = reference.max_pool2d_backward(dout, run.cache)
        assert list(zip(*np.nonzero(dx[0, 0]), strict=True)) == [run.routes()[p, q]]
    (tied,) = run.ties().values()
    assert run.x[0, 0][tied[0]] == run.x[0, 0][run.routes()[1, 2]]
    wins = list(run.routes().values())
    assert max(map(wins.count, wins)) > 1  # of overlapping windows


def test_every_number_of_pooling_is_drawn():
    run = pooling.Routes()
    values = [*run.x.ravel(), *run.out.ravel(), *run.dout.ravel(), *run.dx.ravel()]
    numbers = [float(text) for text in texts(max_pool_routes()) if text.isdigit()]
    assert sorted(numbers) == sorted(values)


# ---- the loss


def test_the_bars_are_those_of_a_run():
    values = loss.run()
    exponentials = np.exp(values["logits"])
    np.testing.assert_allclose(values["softmax"], exponentials / exponentials.sum())
    np.testing.assert_allclose(values["dlogits"], values["softmax"] - values["target"])
    np.testing.assert_allclose(values["loss"], -np.log(values["softmax"][loss.LABEL]))
    shown = texts(softmax_cross_entropy())
    for name, decimals in (("logits", 1), ("softmax", 2), ("target", 0), ("dlogits", 2)):
        bars = [f"{number:.{decimals}f}".replace("-", "\N{MINUS SIGN}") for number in values[name]]
        at = shown.index(name)
        assert shown[at + 1 : at + 1 + len(bars)] == bars
    line = next(text for text in shown if text.startswith("loss"))
    p, value = map(float, re.findall(r"\d\.\d+", line))
    assert value == round(float(values["loss"]), 2) == round(-float(np.log(p)), 2)
    rounded = values["softmax"].round(2)
    assert rounded.sum() == pytest.approx(1)
    assert loss.gradient() == "dlogits = (softmax - target) / N * dout"
    assert loss.gradient() in shown


# ---- a net


@pytest.mark.parametrize("stride", [1, 2])
def test_the_nodes_are_the_layers_of_the_net(stride):
    build = Build(rng=0, se=SE(reduction=2))
    net = Chain(
        ("block", basic_block(2, 2 * stride, stride, build)),
        ("pool", GlobalAvgPool2d()),
        ("fc", Linear(2 * stride, 3, rng=0)),
    )
    shown = texts(net_graph(net, (2, 4, 4)))
    leaves = [(name, layer) for name, layer in net.layers() if name and not layer.children()]
    layers = [pair for pair in leaves if type(pair[1]) is not Chain]
    assert len(layers) == 7 + 2 * (stride == 2)
    for name, layer in layers:
        if ".downsample." in name:
            assert name.rpartition(".")[2] in shown
        else:
            assert f"{name} {type(layer).__name__}" in shown
    out, _ = net.forward(np.zeros((2, 2, 4, 4), np.float32), training=True)
    assert f"(N, {out.shape[1]})" in shown
    assert f"(N, {2 * stride}, {4 // stride}, {4 // stride})" in shown
    total = sum(array.size for array in net.named_parameters().values())
    assert f"{total:,} parameters" in shown


def test_the_shapes_are_those_of_a_run():
    net = graph.small_residual_net()
    x = np.zeros((2, 1, 6, 6))
    shown = texts(net_graph())
    for name, layer in net.children():
        x, _ = layer.forward(x, training=True)
        shape = ", ".join(map(str, ("N", *x.shape[1:])))
        *_, last = (row.name for row in graph.rows(layer, name) if row.layer and row.name)
        at = next(k for k, text in enumerate(shown) if text.startswith(f"{last} "))
        assert shown[at + 1] == f"({shape})"


# ---- fused ops


def table():
    """Return by op the arrays read and written: forward, fused, backward, fused."""
    line = r"^ +(\w+) +(\d) read, (\d) written +(\d), (\d) +(\d) read, (\d) written +(\d), (\d)"
    rows = re.findall(line, inspect.getdoc(fused), re.MULTILINE)
    return {op: [tuple(map(int, n[k : k + 2])) for k in (0, 2, 4, 6)] for op, *n in rows}


def test_the_passes_are_those_of_the_docstring():
    numbers = table()
    assert len(numbers) == 3
    parts = {
        "batch_norm2d_relu": ("batch_norm2d", "relu"),
        "batch_norm2d_add_relu": ("batch_norm2d", "add", "relu"),
        "se_block_tail": ("batch_norm2d", "squeeze_excite", "add", "relu"),
    }
    for op, ops in parts.items():
        for column, direction in ((0, "forward"), (2, "backward")):
            functions = [f"{part}_{direction}" for part in ops]
            assert memory.counts(functions) == numbers[op][column]
            source = inspect.getsource(getattr(fused, f"{op}_{direction}"))
            called = re.findall(r"= (\w+)_(?:forward|backward)\(", source)
            assert sorted(called) == sorted(ops)
    for column, direction in ((1, "forward"), (3, "backward")):
        assert memory.counts([f"se_block_tail_{direction}"]) == numbers["se_block_tail"][column]


def test_each_pass_is_a_bar_with_a_name_of_the_source():
    for direction in ("forward", "backward"):
        source = inspect.getsource(getattr(fused, f"se_block_tail_{direction}"))
        functions = [*memory.replaced(direction), f"se_block_tail_{direction}"]
        passes = [item for name in functions for item in memory.PASSES[name]]
        for name in {array for item in passes for array in (*item.reads, *item.writes)}:
            where = inspect.getsource(fused) if name in ("x", "y", "out") else source
            assert re.search(rf"\b{name}\b", where)
    total = sum(sum(memory.counts([name])) for name in memory.PASSES)
    assert fused_tail().svg.count(f'width="{memory.BAR_WIDTH}"') == total
    for numbers in table()["se_block_tail"]:
        assert "{} read, {} written".format(*numbers) in texts(fused_tail())
