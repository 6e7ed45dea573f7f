"""Every architecture, plain and with SE: gradients, training, folded inference, image sizes."""

import ast
import copy
import io
import tokenize
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from minise import models, nn
from minise.analysis.pages import families
from minise.gradcheck import adapters
from minise.ops import wrap
from minise.ops.backend import load_ops
from minise.train import SGD, SoftmaxCrossEntropy, train_step
from tests.models.zoo import NETS, REDUCTION, batch, small
from tests.nn.adapter import perturbed, with_typical_statistics

OVER_ALL = pytest.mark.parametrize("name", models.names())
IN_BOTH = "se_resnet50", "mobilenet"  # of which the slow tests run jit, too
BACK_ENDS = [("reference", name) for name in models.names()] + [
    pytest.param("jit", name, marks=() if name in IN_BOTH else pytest.mark.long)
    for name in models.names()
]
OVER_BACK_ENDS = pytest.mark.parametrize(("ops", "name"), BACK_ENDS)
FILES = [Path(models.__file__).parent / f"{family.file}.py" for family in families()]
LR = 0.1  # of a net that is not in LOWER_LR
# many layers of few channels after a ReLU, without gates that shrink branches
LOWER_LR = {"resnet110": 0.02, "se_resnet110": 0.02, "senet154": 0.002}
MAX_STEPS = 40
STEP = 1e-30  # of the complex step: its square is below the rounding of 1


def test_every_architecture_has_a_small_version():
    assert NETS.keys() == set(models.named.ARCHITECTURES)


def shares_of_evaluation(shake, x, training):
    """Return 1/2 for each image, as the shares of Shake in evaluation."""
    return nn.Shake.shares(shake, x, False)


def without_dropout(net):
    """Set dropout's probability to 0 and Shake's shares to 1/2, so that forward is a function."""
    for _, layer in net.layers():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
        if isinstance(layer, nn.Shake):
            layer.shares = partial(shares_of_evaluation, layer)
    return net


@pytest.mark.slow
@OVER_ALL
def test_all_gradients_by_a_complex_step(name):
    """The derivative along a random direction of x and of all parameters, by forward alone.

    Every entry of every gradient contributes to it: an error of a gradient is missed only if it is
    orthogonal to the direction.
    """
    rng = np.random.default_rng(0)
    net, side = small(name)
    forward, backward, params = adapters.layer(perturbed(without_dropout(net), rng), True)
    x, _ = batch(side)
    inputs = [x, *params.values()]
    directions = [rng.standard_normal(array.shape) for array in inputs]
    out, cache = forward(*inputs)
    dout = rng.standard_normal(out.shape)
    moved = [array + 1j * STEP * u for array, u in zip(inputs, directions, strict=True)]
    slope = (dout * forward(*moved)[0].imag).sum() / STEP
    terms = [
        (gradient * u).sum() for gradient, u in zip(backward(dout, cache), directions, strict=True)
    ]
    # rounding: sums of up to 1e4 products in each of up to 1e3 ops, 2.2e-16 each
    assert abs(sum(terms) - slope) < 1e-9 * sum(map(abs, terms))


@pytest.mark.slow
@OVER_BACK_ENDS
def test_it_memorises_a_batch(ops, name):
    """After a few steps of SGD, every image of the batch has its label."""
    net, side = small(name, ops=load_ops(ops))
    x, labels = batch(side, count=5)
    objective, optimiser = SoftmaxCrossEntropy(net.ops), SGD(without_dropout(net), momentum=0.9)
    lr = LOWER_LR.get(name, LR)
    first = train_step(net, objective, optimiser, [(x, labels)], lr)["loss"]
    for _ in range(MAX_STEPS):
        result = train_step(net, objective, optimiser, [(x, labels)], lr)
        if result["accuracy"] == 1 and result["loss"] < first / 4:
            break
    assert result["accuracy"] == 1
    assert result["loss"] < first / 4


@pytest.mark.slow
@OVER_BACK_ENDS
def test_folded_inference_equals_evaluation(ops, name):
    """Both agree to half of all digits, as in the tests of composites."""
    net, side = small(name)
    with_typical_statistics(perturbed(net, np.random.default_rng(1)), batch(side, seed=1)[0])
    x, _ = batch(side)
    wrap.attach(net, load_ops(ops))
    expected, logits = net.predict(x), net.inference()(x)
    assert np.ptp(expected, axis=0).max() > 0.1 * abs(expected).max()  # the logits depend on x
    assert abs(logits - expected).max() < np.sqrt(np.finfo(float).eps) * abs(expected).max()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n in IN_BOTH else pytest.mark.long) for n in models.names()],
)
def test_gradients_of_jit_are_those_of_reference(name):
    net, side = small(name)
    perturbed(without_dropout(net), np.random.default_rng(2))
    x, _ = batch(side)
    gradients = []
    for ops in ("reference", "jit"):
        twin = copy.deepcopy(net)
        wrap.attach(twin, load_ops(ops))
        out, cache = twin.forward(x, training=True)
        dx, grads = twin.backward(np.cos(out), cache)
        gradients.append({"x": dx, **grads})
    expected, actual = gradients
    assert expected.keys() == actual.keys()
    scale = max(abs(gradient).max() for gradient in expected.values())
    for key, gradient in expected.items():
        # rounding: the errors of each of up to 1e3 ops, 1e4 products of 2.2e-16 each
        assert abs(actual[key] - gradient).max() < 1e-9 * max(abs(gradient).max(), 1e-3 * scale), (
            key
        )


@pytest.mark.slow
@pytest.mark.parametrize(  # SE blocks keep the sizes of images
    "name",
    [pytest.param(n, marks=pytest.mark.long if "se_" in n[:3] else ()) for n in models.names()],
)
def test_the_smallest_image_is_named(name):
    own, _ = NETS[name.removeprefix("se_")]
    se = dict(reduction=REDUCTION) if name.startswith("se_") else {}
    net = models.build(name, **own, **se)
    smallest = net.images.smallest()
    if smallest == 1:
        return
    rows, columns = smallest - 1, smallest + 40
    x = np.zeros((1, 3, rows, columns), np.float32)
    message = f"{name}: images are {rows} x {columns}, expected (at least )?{smallest} x {smallest}"
    for predict in (net.predict, net.inference()):
        with pytest.raises(ValueError, match=message):
            predict(x)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_architecture_is_declared_in_sixty_lines(path):
    assert 10 < len(code_lines(path.read_text())) <= 60


def code_lines(text):
    """Return the numbers of the lines that have code, without comments and docstrings."""
    tree = ast.parse(text)
    documented = (node for node in ast.walk(tree) if hasattr(node, "body") and ast_docstring(node))
    strings = [node.body[0] for node in documented]
    docs = {n for node in strings for n in range(node.lineno, node.end_lineno + 1)}
    skipped = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    lines = {
        n
        for t in tokens
        if t.type not in skipped and t.string
        for n in range(t.start[0], t.end[0] + 1)
    }
    return lines - docs


def ast_docstring(node):
    kinds = ast.Module, ast.ClassDef, ast.FunctionDef
    return isinstance(node, kinds) and ast.get_docstring(node) is not None


@pytest.mark.parametrize(
    ("shape", "fix"),
    [((1, 9, 8, 3), "x.transpose\\(0, 3, 1, 2\\)"), ((1, 4, 8, 9), "convert the images to RGB")],
)
def test_images_of_other_channels(shape, fix):
    net, _ = small("resnet8")
    for run in (lambda x: net.forward(x, training=False), net.inference()):
        with pytest.raises(ValueError, match=f"^resnet8: x has shape .*, expected .*: {fix}"):
            run(np.zeros(shape))
