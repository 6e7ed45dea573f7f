"""A trace has the numbers of the library, with correct sources, derivatives and checks."""

import ast

import numpy as np
import pytest

from minise import nn
from minise.contract.case import OPS, family
from minise.ops import reference
from minise.tracing.instrument import PACKAGE
from minise.tracing.source import reason_in
from minise.walk import trace
from minise.walk.cases import case
from minise.walk.pages import Page, completed
from minise.walk.steps import BACKWARD, FORWARD
from tests.walk.pages import PAGES, walk_of
from tests.walk.students import RIGHT, edited, module

EPS = float(np.finfo(float).eps)


@pytest.fixture(scope="module", params=PAGES, ids=lambda page: page.file.removesuffix(".html"))
def page(request):
    return request.param


@pytest.fixture(scope="module")
def walked(page):
    return walk_of(page.file)


def test_every_op_has_a_page():
    assert {page.subject for page in PAGES} == {*OPS, "block", "net"}


def test_an_op_without_a_page_joins_the_last_group_of_its_family():
    few = {"A": [Page("tanh")], "B": [Page("relu"), Page("tanh", "again")], "C": [Page("conv2d")]}
    groups = completed(few)
    others = [op for op in OPS if family(op) == "activation" and op not in ("relu", "tanh")]
    assert groups["B"] == [*few["B"], *map(Page, others)]
    assert (groups["A"], groups["C"]) == (few["A"], few["C"])
    assert groups["Linear"] == [Page("linear")]  # of a family that no group has


def test_out_and_gradients_are_the_librarys(page, walked):
    """Bit-identical: the same lines run in the same order."""
    chosen = case(page.subject, settings=page.settings)
    dout = walked.inputs["dout"]
    if isinstance(chosen.subject, str):
        forward, backward = (
            getattr(reference, f"{chosen.name}_{way}") for way in (FORWARD, BACKWARD)
        )
        out, cache = forward(*chosen.x, **chosen.settings)
        gradients = backward(dout, cache)
        names = [name for name in walked.inputs if name != "dout"]
    else:
        net = chosen.subject
        out, net_cache = net.forward(chosen.x, True)
        if chosen.target is not None:
            out, cache = reference.softmax_cross_entropy_forward(out, chosen.target)
            dout = reference.softmax_cross_entropy_backward(dout, cache)[0]
        dx, grads = net.backward(dout, net_cache)
        gradients, names = [dx, *grads.values()], ["x", *grads]
        assert walked.gradients.keys() == set(names)
    np.testing.assert_array_equal(walked.value(walked.out), out)
    for name, gradient in zip(names, gradients, strict=False):
        if gradient is not None:
            np.testing.assert_array_equal(walked.value(walked.gradients[name]), gradient)


def test_every_gradient_is_checked_and_right(walked):
    assert walked.ok
    for name, number in walked.gradients.items():
        step = walked.steps[number]
        assert step.gradient_of == name or walked.gradients[step.gradient_of] == number
        assert step.check is not None


def test_numerical_derivatives_are_close_to_the_gradients(walked):
    """Complex steps are exact up to rounding, differences up to their fourth-order error."""
    for step in walked.passes(BACKWARD):
        if step.check is not None:
            size = 1 + np.max(abs(step.value))
            for slopes, share in ((step.check.complex_step, 1e-12), (step.check.difference, 1e-6)):
                assert np.max(abs(slopes - step.value)) <= share * size


def test_a_sum_of_terms_is_the_entry(walked):
    """The value is the sum of entry times derivative, up to one rounding per term."""
    seen = 0
    for step in walked.steps:
        reads = [read for read in step.reads if read.summed]
        if not reads:
            continue
        terms = np.concatenate([read.derivative * read.value.ravel() for read in reads], axis=1)
        each = EPS if all(read.exact for read in reads) else EPS ** (2 / 3)
        bound = (2 + terms.shape[1]) * each * (abs(terms).sum(axis=1) + np.max(abs(step.value)))
        assert np.all(abs(terms.sum(axis=1) - step.value.ravel()) <= bound)
        seen += 1
    assert seen


def test_reads_equal_the_value_of_their_source(walked):
    for step in walked.steps:
        for read in step.reads:
            if read.source is not None:
                assert not isinstance(read.source, int) or read.source < step.number
                np.testing.assert_array_equal(read.value, walked.value(read.source))


def test_every_float_array_has_a_source(walked):
    """Only a slice of integers, such as argmax[:, :, 0, 0], has no source."""
    reads = [read for step in walked.steps for read in step.reads]
    assert all(read.source is not None or read.derivative is None for read in reads)


def test_terms_add_up(walked):
    """A gradient with several routes is the sum of the gradients of its routes."""
    for step in walked.steps:
        if step.terms:
            reads = {read.name: read for read in step.reads}
            alone = [reads[name].derivative @ reads[name].value.ravel() for name in step.terms]
            bound = 4 * EPS * np.max(abs(np.array(alone)))
            np.testing.assert_allclose(sum(alone), step.value.ravel(), rtol=0, atol=bound)


def test_file_and_line_of_each_step_are_correct(walked):
    for step in walked.steps:
        lines = (PACKAGE.parent / step.file).read_text().splitlines()
        assert lines[step.line - 1].strip().startswith(step.code)
        for inner in step.inner:
            assert (
                (PACKAGE.parent / inner.file)
                .read_text()
                .splitlines()[inner.line - 1]
                .count(inner.code)
            )


def test_squeeze_excite_line_by_line():
    steps = walk_of("squeeze_excite.html").steps
    forward = ["z", "u", "h", "v", "s", "out"]
    backward = [
        "dx_scale",
        "ds",
        "dv",
        "dh",
        "dw2",
        "db2",
        "du",
        "dz",
        "dw1",
        "db1",
        "dx_gate",
        "dx",
    ]
    assert [step.name for step in steps] == forward + backward
    by_name = {step.name: step for step in steps}
    assert by_name["s"].formula.text == "s = 1 / (1 + exp(\N{MINUS SIGN}v))"
    assert by_name["dz"].formula.text == "dz[n,c,i,j] = ∑[r] w_1[r,c] · du[n,r,i,j]"
    assert by_name["dx_gate"].formula.text == "dx_gate = dz / (H · W)"
    assert by_name["ds"].rule == "out = x * s"
    assert by_name["ds"].reason.startswith("The slope of x * s in s is x, and one gate multiplies")
    assert by_name["dx_scale"].route == ("x", by_name["out"].number)
    assert by_name["dx_gate"].route == ("x", by_name["z"].number)
    assert by_name["dx"].terms == ("dx_scale", "dx_gate")
    assert [read.name for read in by_name["dz"].upstream] == ["du"]
    assert by_name["z"].constants == {"squeeze": "avg"}


def test_a_derivative_by_hand():
    """The derivative of dz = sum over r of w1[r, c] du[n, r] in du[1, 0] is w1[0, c]."""
    walked = walk_of("squeeze_excite.html")
    step = next(step for step in walked.steps if step.name == "dz")
    read = next(read for read in step.reads if read.name == "du")
    w1 = walked.inputs["w1"]
    expected = np.kron(np.eye(2), w1.T)  # (N * C, N * R)
    np.testing.assert_allclose(read.derivative, expected, rtol=4 * EPS, atol=0)


@pytest.fixture(scope="module")
def students(tmp_path_factory):
    """Return the trace of a student's correct squeeze_excite."""
    path = tmp_path_factory.mktemp("student") / "mine.py"
    return trace("squeeze_excite", case("se").x, ops=module(path, RIGHT), file=path)


@pytest.mark.parametrize("student", [False, True], ids=["ours", "a student's"])
def test_a_condition_gives_no_slope(student, tmp_path):
    """All derivatives of du = where(h <= 0, 0, dh) with respect to h are 0, also where h is 0."""
    walked, path = walk_of("squeeze_excite.html"), tmp_path / "mine.py"
    if student:
        text = RIGHT.replace("du = dh * (cache", "du = dh * np.float64(cache")
        walked = trace("squeeze_excite", case("se").x, ops=module(path, text), file=path)
    step = next(step for step in walked.steps if step.name == "du")
    condition = next(read for read in step.reads if read.name == "h")
    assert np.any(condition.value == 0)
    assert not np.any(condition.derivative)


def test_relus_slopes_are_0_and_1(walked):
    for step in walked.steps:
        if step.op == "relu":
            for read in step.reads:
                assert set(np.unique(read.derivative)) <= {0, 1}


def test_a_route_alone_is_the_slope_of_one_line():
    """The derivative of out = x * s with respect to x, s held fixed, is s."""
    walked = walk_of("squeeze_excite.html")
    step = next(step for step in walked.steps if step.name == "dx_scale")
    s = next(step for step in walked.steps if step.name == "s").value
    expected = walked.inputs["dout"] * s
    np.testing.assert_allclose(step.check.complex_step, expected, rtol=8 * EPS, atol=0)
    assert step.check.of == "x as read by out = x * s"


def test_a_block_names_its_layers():
    walked = walk_of("block.html")
    assert [layer for layer in dict.fromkeys(s.layer for s in walked.steps) if layer] == [
        "conv1", "bn1", "conv2", "bn2", "se",
    ]  # fmt: skip
    last = walked.steps[-1]
    assert (last.op, last.direction, last.gradient_of) == ("add", BACKWARD, "x")
    assert last.formula.text == "dx = dx_conv1 + db_add"
    assert last.terms == ("dx_conv1", "db_add")
    assert last.reason == reason_in(nn.Residual.backward)
    assert {"z", "s", "ds", "dx_gate"} <= {step.name for step in walked.steps}


@pytest.mark.slow
def test_every_sum_of_gradients_of_a_fork_is_explained():
    """Two units: the gradient of the array between them is a sum, too."""
    build = nn.Build(rng=0, dtype=float)
    net = nn.Chain(nn.basic_block(1, 1, 1, build), nn.preact_block(1, 1, 1, build))
    walked = trace(net, np.random.default_rng(1).standard_normal((1, 1, 2, 2)))
    assert walked.ok
    sums = [step for step in walked.steps if step.op == "add" and step.direction == BACKWARD]
    assert [step.layer for step in sums if step.terms] == ["1.bn1", "0.conv1"]
    assert {step.reason for step in sums if step.terms} == {reason_in(nn.Residual.backward)}


def test_gradient_of_a_layer_used_twice_is_the_sum_over_its_uses():
    twice = nn.Linear(2, 2, rng=0, dtype=float)
    net = nn.Chain(("first", twice), ("relu", nn.ReLU()), ("second", twice))
    walked = trace(net, np.random.default_rng(1).standard_normal((3, 2)))
    assert walked.ok
    assert walked.gradients.keys() == {"x", "first.weight", "first.bias"}
    _, cache = net.forward(walked.inputs["x"], True)
    _, grads = net.backward(walked.inputs["dout"], cache)
    for name in ("weight", "bias"):
        step = walked.steps[walked.gradients[f"first.{name}"]]
        uses = [grads[f"{use}.{name}"] for use in ("second", "first")]
        assert step.check.of == f"first.{name}"
        assert [read.name for read in step.reads] == [f"d{name}_first", f"d{name}_first'"]
        np.testing.assert_array_equal([read.value for read in step.reads], uses)
        np.testing.assert_array_equal(step.value, sum(uses))


def test_a_net_ends_in_its_loss_and_stays_as_it_was():
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    before = dict(net.named_parameters())
    rng = np.random.default_rng(5)
    walked = trace(net, rng.standard_normal((2, 3)), np.array([1, 0]))
    assert walked.ok
    assert walked.steps[walked.out].op == "softmax_cross_entropy"
    assert float(walked.value(walked.out)) == walked.loss
    assert all(net.named_parameters()[name] is array for name, array in before.items())
    assert {id(layer.ops) for layer in net.named_layers().values()} == {id(reference)}


def test_evaluation_has_one_route():
    assert all(not step.terms for step in walk_of("batch_norm2d-evaluation.html").steps)


def test_a_students_file_is_walked_and_right(students):
    assert students.ok
    assert {step.file for step in students.steps} == {"mine.py"}
    own = walk_of("squeeze_excite.html")
    for name in ("x", "w1", "b1", "w2", "b2"):
        ours, theirs = own.value(own.gradients[name]), students.value(students.gradients[name])
        np.testing.assert_allclose(theirs, ours, rtol=0, atol=64 * EPS * np.max(abs(ours)))


def test_the_wrong_line_of_a_student_is_the_first_that_does_not_agree(tmp_path):
    path = tmp_path / "mine.py"
    ops = module(path, RIGHT.replace("dv = ds * s * (1 - s)", "dv = ds * s"))
    walked = trace("squeeze_excite", case("se").x, ops=ops, file=path)
    wrong = [step.name for step in walked.steps if step.check and not step.check.ok]
    assert wrong[0] == "dv"
    assert "ds" not in wrong
    assert not walked.ok


def test_maximum_of_complex_numbers_is_not_trusted(students):
    """np.maximum compares complex numbers wrongly: the derivative is a finite difference."""
    step = next(step for step in students.steps if step.name == "h")
    (read,) = step.reads
    expected = np.diag((read.value.ravel() > 0).astype(float))
    np.testing.assert_allclose(read.derivative, expected, rtol=0, atol=EPS ** (1 / 2))


def test_a_changed_line_changes_the_trace(tmp_path):
    path = tmp_path / "edited.py"
    old, new = "dx_gate = squeeze_backward(dz, argmax, x)", "dx_gate = dz"
    walked = trace("squeeze_excite", case("se").x, ops=edited(path, (old, new)), file=path)
    step = next(step for step in walked.steps if step.name == "dx_gate")
    assert (step.formula.text, step.code) == ("dx_gate = dz", "dx_gate = dz")
    assert not step.check.ok


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: trace("relu", np.zeros((40, 40, 2))),
            r"at least 6,400 numbers.*try .20, 20, 2.",
        ),
        (lambda: case("conv", (9, 9, 99, 99)), r"at most 3,000.* try \("),
        (lambda: trace("conv3d", np.zeros(3)), "has no conv3d_forward and no conv3d_backward"),
        (lambda: trace("relu", np.array([np.nan])), "x has NaN or infinity"),
        (
            lambda: trace("relu", np.ones(3), np.ones(2)),
            r"target has shape \(2,\), expected \(3,\)",
        ),
        (lambda: trace("linear", [np.ones((2, 3)), np.ones((4, 2))]), "linear: weight has shape"),
        (lambda: trace("relu", np.ones(3), bogus=1), "settings has bogus, expected none: relu has"),
        (lambda: trace("relu", np.ones(3), seed=-1), "walk: seed is -1, expected at least 0"),
        (lambda: case("convolution"), "'convolution' is unknown, expected one of batch-norm"),
        (lambda: case("loss", (2, 3, 4)), "expected 2 numbers: logits of .* has shape"),
        (
            lambda: case("block", settings={"gate": "relu"}),
            "settings has gate, expected none: block has no settings",
        ),
    ],
)
def test_messages(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("subject", "message"),
    [
        (np.tanh, 'net_or_op is of type ufunc, expected a layer .* name of an op: pass "tanh"$'),
        (reference.relu_forward, 'net_or_op is of type function, expected .*: pass "relu"$'),
        (nn.ReLU, r"net_or_op is the class ReLU, expected .*: pass an instance, such as ReLU\("),
        (None, 'net_or_op is of type NoneType, expected .*: pass a net, or a name such as "relu"'),
    ],
)
def test_a_subject_that_is_neither_layer_nor_name_is_refused(subject, message):
    with pytest.raises(TypeError, match=f"^walk: {message}"):
        trace(subject, np.ones(3))


@pytest.mark.slow
def test_the_shape_that_is_tried_instead_is_small_enough():
    chosen = case("conv", (2, 4, 16, 16))
    with pytest.raises(ValueError, match="try") as caught:
        trace(chosen.subject, chosen.x)
    smaller = ast.literal_eval(str(caught.value).rpartition("try ")[2])
    chosen = case("conv", smaller)
    assert chosen.x[0].shape == smaller
    assert trace(chosen.subject, chosen.x).ok


def test_incomplete_ops_of_a_student_are_refused(tmp_path):
    path = tmp_path / "mine.py"
    lacking = module(path, RIGHT.replace("def squeeze_excite_backward", "def backward"))
    with pytest.raises(ValueError, match="mine.py has no squeeze_excite_backward.*it has squeeze"):
        trace("squeeze_excite", case("se").x, ops=lacking, file=path)
    few = module(path, RIGHT.replace(", dv.sum(axis=0)", ""))
    with pytest.raises(ValueError, match="returns 4 gradients, expected 5, one for each of x, w1"):
        trace("squeeze_excite", case("se").x, ops=few, file=path)
    block = nn.basic_block(2, 2, 1, nn.Build())
    with pytest.raises(ValueError, match="mine.py has no conv2d_forward, which layer conv1 calls"):
        trace(block, np.ones((1, 2, 2, 2)), ops=few, file=path)
