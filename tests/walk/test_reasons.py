"""Every step of backward says why, shows the code that computes it, and a formula without code."""

import re

import numpy as np
import pytest

from minise import nn
from minise.walk import trace
from minise.walk.cases import case
from minise.walk.steps import BACKWARD
from tests.walk.pages import PAGES, walk_of
from tests.walk.students import RIGHT, module

FORBIDDEN_WORDS = re.compile(
    r"einsum|matmul|np\.|numpy|thread|memory|dtype|broadcast|reshape|keepdims|view|cache|"
    r"\breturn|ndarray|shape",
    re.IGNORECASE,
)
LEFTOVERS = {
    "a power": r"\*\*",
    "a product": r"(?<!\w)\*|\*(?!\w)",
    "a division of integers": r"//",
    "a comparison": r"==|!=|<=|>=",
    "a condition": r"\bif\b|\belse\b|\bNone\b|\bTrue\b|\bFalse\b",
    "an attribute": r"[a-z]\.[a-z]",
    "a shape": r"\(\d+(, \d+)+,?\)",
    "a slice": r"\[[^\]]*:[^\]]*\]|\.\.\.",
    "a matrix product": r" @ ",
    "a function with a name of several words": r"[a-z]+ [a-z]+\([^)]",
    "a function of NumPy": r"arange|cumsum|concatenate|zeros|ones|broadcast|reshape|einsum",
    "a private name": r"(?<!\w)_\w",
}


@pytest.fixture(scope="module", params=PAGES, ids=lambda page: page.file.removesuffix(".html"))
def walked(request):
    return walk_of(request.param.file)


def test_every_backward_step_has_a_sentence_of_why(walked):
    for step in walked.passes(BACKWARD):
        where = f"{step.layer} {step.op}: {step.code}"
        assert re.fullmatch(r"[A-Za-z].*[\w)]\.", step.reason), where
        assert len(step.reason.split()) > 7, where
        assert not FORBIDDEN_WORDS.search(step.reason), where


def test_what_is_no_gradient_says_so(walked):
    """Values of forward that backward computes again are told from gradients."""
    for step in walked.passes(BACKWARD):
        says_so = re.match(r"(Recomputed, not|Not) a gradient: ", step.reason)
        assert bool(says_so) == (not step.upstream), step.code
        recomputed = step.name in ("centred", "xhat", "padded", "divisor")
        assert step.reason.startswith("Recomputed") == recomputed, step.code


def test_no_formula_has_leftovers_of_python(walked):
    for step in walked.steps:
        for what, pattern in LEFTOVERS.items():
            assert not re.search(pattern, step.formula.text), f"{what}: {step.formula.text}"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("share = dout / (2, 2, 2, 2)[2]", "a shape"),
        ("dx = broadcast to(share, (2, 2))", "a function with a name of several words"),
        ("at_label = arange(K) == labels", "a comparison"),
        ("h = {0 where u.real ≤ 0}", "an attribute"),
        ("y = x[:, 0]", "a slice"),
        ("divisor = divisor of(count_include_pad, x)", "a function with a name of several words"),
        ("p = h * W + w", "a product"),
    ],
)
def test_leftovers_are_found(text, what):
    assert re.search(LEFTOVERS[what], text)


def test_a_line_that_calls_a_helper_shows_what_the_helper_runs(walked):
    for step in walked.passes(BACKWARD):
        called = re.search(
            r"= (_\w+|gate_backward|squeeze_backward|unpad|pad|divisor_of)\(", step.code
        )
        assert bool(called) == bool(step.inner), step.code


def test_loops_of_convolution_are_shown_once_and_indented():
    step = next(s for s in walk_of("conv2d.html").steps if s.name == "dpadded")
    lines = [(inner.depth, inner.code) for inner in step.inner]
    assert (0, "for i, j in where.offsets():  # for each offset (i, j) of the kernel") in lines
    assert (1, "seen = matrices[i, j].swapaxes(1, 2) @ rows") in lines
    assert (1, "window(dpadded, where, i, j)[...] += _images(seen, N, where.outputs)") in lines
    assert (2, "top, left = i * where.dilation[0], j * where.dilation[1]") in lines
    assert (0, "return dpadded") in lines
    assert len(set(lines)) == len(lines)
    assert step.formula.text == (
        "window(dpadded, a, b)[n,c,p,q] += ∑[k] weight[k,c,a,b] · dout[n,k,p,q]"
    )


def test_only_the_branch_that_runs_is_shown():
    (inner,) = next(s for s in walk_of("tanh.html").steps if s.name == "dx").inner
    assert inner.code == "return ds * (1 - s * s)"


def test_training_and_evaluation_have_words_of_their_own():
    def reasons(file):
        return {step.name: step.reason for step in walk_of(file).passes(BACKWARD)}

    training, evaluation = reasons("batch_norm2d.html"), reasons("batch_norm2d-evaluation.html")
    assert "dmean" in training
    assert "dmean" not in evaluation
    for name in ("dcentred_direct", "dcentred", "dx"):
        assert "valuation" not in training[name]
        assert "evaluation" in evaluation[name]


def test_gates_of_pixels_have_words_of_their_own():
    pooled, each = (
        {step.name: step for step in walk_of(file).passes(BACKWARD)}
        for file in ("squeeze_excite.html", "squeeze_excite-none.html")
    )
    assert "all H * W pixels" in pooled["ds"].reason
    assert "a gate of its own" in each["ds"].reason
    assert each["dx_gate"].formula.text == "dx_gate = dz"


def test_the_loss_without_smoothing_shows_p_minus_onehot():
    plain = {step.name: step for step in walk_of("softmax_cross_entropy.html").steps}
    assert "(p - onehot) / N * dout" in plain["dlogits"].reason
    assert plain["dhit"].formula.text == "dhit = \N{MINUS SIGN}dout / N"
    assert "dspread" not in plain
    assert not any("label_smoothing" in step.formula.text for step in plain.values())
    smoothed = {s.name: s for s in walk_of("softmax_cross_entropy-smoothing.html").steps}
    assert "(p - target) / N * dout" in smoothed["dlogits"].reason
    assert "label_smoothing" in smoothed["dhit"].formula.text


def test_the_parts_of_a_fused_tail_are_named_as_its_layers():
    backward = walk_of("block.html").passes(BACKWARD)
    assert [*dict.fromkeys((step.layer, step.op) for step in backward)] == [
        ("", "relu"), ("", "add"), ("se", "squeeze_excite"), ("bn2", "batch_norm2d"),
        ("conv2", "conv2d"), ("bn1", "relu"), ("bn1", "batch_norm2d"), ("conv1", "conv2d"),
        ("conv1", "add"),
    ]  # fmt: skip
    build = nn.Build(rng=0, dtype=float)
    net = nn.Chain(("a", nn.basic_block(1, 1, 1, build)), ("b", nn.basic_block(1, 1, 1, build)))
    walked = trace(net, np.random.default_rng(1).standard_normal((1, 1, 2, 2)))
    named = {f"{step.layer}: {step.op}" for step in walked.passes(BACKWARD)}
    assert {"a: relu", "a: add", "a.bn2: batch_norm2d", "b: add", "b.bn2: batch_norm2d"} <= named


def test_a_shared_array_has_a_reason():
    twice = nn.Linear(2, 2, rng=0, dtype=float)
    walked = trace(nn.Chain(("first", twice), ("second", twice)), np.ones((3, 2)))
    step = walked.steps[walked.gradients["first.weight"]]
    assert step.reason.startswith("Several layers use this one array")


def test_a_students_reasons_are_shown(tmp_path):
    path = tmp_path / "mine.py"
    text = RIGHT.replace("    dv = ds", "    # why: The sigmoid's slope.\n    dv = ds")
    walked = trace("squeeze_excite", case("se").x, ops=module(path, text), file=path)
    assert [s.reason for s in walked.steps if s.name == "dv"] == ["The sigmoid's slope."]
