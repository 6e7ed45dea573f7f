import importlib.util
import textwrap

import numpy as np
import pytest

from minise.contract.case import Case
from minise.grading.answer import BLANK, BROKEN, UNSEEN
from minise.grading.exercise import Exercise
from minise.ops import reference
from tests.tutorials.solutions import MISTAKES, SOLUTIONS, compiled

SE = dict(C=3, H=2, W=2, R=2)
SEED = 153  # in each image another hidden unit is off
NORM = dict(training=True)
POOL = dict(kernel=(2, 2), stride=(1, 1))
EXERCISES = {
    "linear": Exercise([Case("linear", dict(N=1, I=2, O=1)), Case("linear", dict(N=3, I=2, O=4))]),
    "conv2d": Exercise(
        [
            Case("conv2d", dict(N=1, C=1, H=2, W=2, K=1, KH=1, KW=2)),
            Case(
                "conv2d",
                dict(N=2, C=2, H=4, W=5, K=3, KH=3, KW=2),
                dict(stride=(1, 2), padding=(1, 0)),
            ),
        ],
        given=("where", "padded", "seen"),
    ),
    "max_pool2d": Exercise([Case("max_pool2d", dict(N=2, C=2, H=3, W=4), POOL)]),
    "batch_norm2d": Exercise(
        [
            Case("batch_norm2d", dict(N=1, C=1, H=1, W=3), NORM),
            Case("batch_norm2d", dict(N=2, C=3, H=2, W=4), NORM),
        ]
    ),
    "squeeze_excite": Exercise(
        [
            Case("squeeze_excite", dict(N=1, C=1, H=1, W=2, R=1)),
            Case("squeeze_excite", dict(N=1, **SE)),
            Case("squeeze_excite", dict(N=2, C=5, H=4, W=6, R=3)),
        ],
        {"dv": ("a slope", "s (1 - s)")},
        seed=SEED,
    ),
    "softmax_cross_entropy": Exercise([Case("softmax_cross_entropy", dict(N=3, K=4))]),
    "batch_norm2d_add_relu": Exercise(
        [Case("batch_norm2d_add_relu", dict(N=2, C=2, H=2, W=3), NORM)]
    ),
    "hard_sigmoid": Exercise(
        [Case("hard_sigmoid", {"...": (2,)}), Case("hard_sigmoid", {"...": (3, 8)})],
        given=("out",),
        own={"inside": lambda cache: reference.hard_sigmoid_branches(cache) == 1},
        integers=True,
    ),
    "channel_scale": Exercise([Case("channel_scale", dict(N=1, C=2, H=5, W=7))]),
}
SOLVED = SOLUTIONS["squeeze_excite"]


def edited(op, old, new):
    assert SOLUTIONS[op].count(old) == 1
    return compiled(SOLUTIONS[op].replace(old, new))


@pytest.mark.parametrize("op", EXERCISES)
def test_the_reference_and_the_skeleton_filled_in_are_solutions(op):
    assert EXERCISES[op].check(getattr(reference, f"{op}_backward")).solved
    assert EXERCISES[op].check(compiled(SOLUTIONS[op])).solved


def test_planted_mistakes_are_named_at_their_line():
    named = 0
    for op, old, new in MISTAKES:
        answer = EXERCISES[op].check(edited(op, old, new))
        assert not answer.solved, (op, new)
        where = SOLUTIONS[op].strip().index(old)
        number = SOLUTIONS[op].strip().count("\n", 0, where) + 1
        named += answer.line is not None and answer.line.number == number
    assert len(MISTAKES) >= 20
    assert named >= 0.9 * len(MISTAKES)


MISSHAPED = [  # op, what the right line has, what a reader has, what is said of that line
    (
        "batch_norm2d",
        "(dxhat * centred).sum(axis=(0, 2, 3))",
        "dxhat * centred",
        "a sum is missing",
    ),
    (
        "batch_norm2d",
        "(dxhat * centred).sum(axis=(0, 2, 3))",
        "(dxhat * centred).sum(axis=(0, 2, 3), keepdims=True)",
        "drstd has shape (1, 1, 1, 1), expected (1,), that of rstd",
    ),
    ("squeeze_excite", ", keepdims=True)", ")", "expected (1, 3, 1, 1), that of s: is keepdims"),
    (
        "squeeze_excite",
        'np.einsum("cr,ncij->nrij", w2, dv)',
        "dv[:, :, 0, 0] @ w2",
        "dh has shape (1, 2), expected (1, 2, 1, 1)",
    ),
    ("squeeze_excite", ").sum(axis=(2, 3), keepdims=True)", ")", "a sum is missing"),
    (
        "batch_norm2d",
        "dbeta = dout.sum(axis=(0, 2, 3))",
        "dbeta = dout.sum()",
        "dbeta has shape (), expected (1,), that of beta: are too many axes summed?",
    ),
    ("squeeze_excite", "ncij,nrij->cr", "ncij,nrij->rc", "expected (3, 2), that of w2: transpose"),
]


@pytest.mark.parametrize(("op", "old", "new", "says"), MISSHAPED)
def test_a_wrong_shape_is_named_where_it_arises(op, old, new, says):
    """And not in a line below, which is right; the earliest line over all cases counts."""
    answer = EXERCISES[op].check(edited(op, old, new))
    number = SOLUTIONS[op].strip()[: SOLUTIONS[op].strip().index(old)].count("\n") + 1
    assert answer.line.number == number, str(answer)
    assert says in answer.reason


def test_gradients_returned_in_another_order_are_the_returns_fault():
    answer = EXERCISES["batch_norm2d"].check(
        edited("batch_norm2d", "return dx, dgamma, dbeta", "return dx, dbeta, dgamma")
    )
    assert answer.line.name == "return"
    assert "hands over dbeta where dgamma is expected (order: dx, dgamma, dbeta)" in answer.reason
    assert [one.name for one in answer.verdicts if one.verdict == "wrong"] == ["return"]


def test_a_gradient_of_labels_is_the_returns_fault():
    exercise = Exercise([Case("softmax_cross_entropy", dict(N=2, K=3))])
    answer = exercise.check(
        compiled("""
        def loss_backward(dout, cache):
            logprob, labels, *_ = cache
            N, K = logprob.shape
            dlogprob = np.where(np.arange(K) == labels[:, None], -dout / N, 0)
            dlogits = dlogprob - np.exp(logprob) * dlogprob.sum(axis=1, keepdims=True)
            return dlogits, dlogprob
        """)
    )
    assert answer.line.name == "return"
    assert "dlabels is a gradient, expected None" in answer.reason


def test_of_lines_that_make_one_array_the_last_is_named_with_the_others():
    exercise = Exercise([Case("softmax_cross_entropy", dict(N=3, K=2))])
    answer = exercise.check(
        compiled("""
        def loss_backward(dout, cache):
            logprob, labels, *_ = cache
            dlogits = np.exp(logprob)
            dlogits[np.arange(len(labels)), labels] -= 1
            dlogits *= dout / 2
            return dlogits, None
        """)
    )
    assert answer.line.text == "dlogits *= dout / 2"
    assert [one.text for one in answer.also] == [
        "dlogits[np.arange(len(labels)), labels] -= 1",
    ]


def test_a_line_that_assigns_several_names_is_shown_once():
    exercise = Exercise(
        [Case("batch_norm2d_add_relu", dict(N=1, C=1, H=1, W=4), dict(training=True))]
    )
    answer = exercise.check(
        compiled("""
        def tail_backward(dout, cache):
            dtotal = np.where(cache.out <= 0, 0, dout)
            norm = cache.norm
            dx, dgamma, dbeta = ops.batch_norm2d_backward(dout, norm)
            return dx, dgamma, dbeta, dtotal
        """)
    )
    assert answer.line.number == 4
    assert [one.number for one in answer.verdicts] == [2, 3, 4, 5]


def test_a_mask_is_judged_for_itself_and_kinks_are_named():
    answer = EXERCISES["hard_sigmoid"].check(
        edited("hard_sigmoid", "(out > 0) & (out < 1)", "(out >= 0) & (out <= 1)")
    )
    assert (answer.line.name, answer.also) == ("inside", ())
    assert "is True, expected False" in answer.reason
    assert "only where out is exactly 0" in answer.reason
    text = SOLUTIONS["hard_sigmoid"].replace("inside, dout", "(out >= 0) & (out <= 1), dout")
    answer = EXERCISES["hard_sigmoid"].check(compiled(text))
    assert answer.line.name == "dx"
    assert "only where out is exactly 0" in answer.reason


@pytest.mark.parametrize(
    ("op", "old", "new", "says"),
    [
        (
            "batch_norm2d",
            "dxhat * rstd[:, None, None]",
            "dxhat * rstd[0]",
            "all of channel 0 is right, channel 1, 2 wrong: a factor or mask along the wrong axis",
        ),
        ("squeeze_excite", "np.where(h <= 0, 0, dh)", "dh * (h[:1] > 0)", "all of image 0 is"),
    ],
)
def test_the_part_that_is_right_is_named(op, old, new, says):
    answer = EXERCISES[op].check(edited(op, old, new))
    assert says in answer.likely
    assert "windows" not in answer.likely


def test_lines_that_inherit_a_mistake_follow_it_and_others_are_wrong():
    text = SOLUTIONS["batch_norm2d"].replace("dbeta = dout.sum", "dbeta = dout.mean")
    both = EXERCISES["batch_norm2d"].check(compiled(text.replace("dout * gamma", "2 * gamma")))
    said = {one.name: one.verdict for one in both.verdicts}
    assert (both.line.name, said["dxhat"], said["drstd"]) == ("dbeta", "wrong", "wrong")
    one = EXERCISES["squeeze_excite"].check(edited("squeeze_excite", "ds * s * (1 - s)", "ds * s"))
    said = [verdict.verdict for verdict in one.verdicts]
    assert said.count("wrong") == 1
    assert said.count("follows") >= 5
    assert one.headline() == "squeeze_excite_backward: line 7 is wrong, lines below it follow"
    assert str(one).count(" after 7  ") == one._repr_html_().count(">after 7<") >= 5
    assert "after 7 = wrong as what it reads is" in str(one)


def test_a_line_of_a_file_is_named_with_its_place(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("import numpy as np\n\n" + textwrap.dedent(SOLVED).strip())
    text = path.read_text().replace("ds * s * (1 - s)", "ds * s")
    path.write_text(text)
    spec = importlib.util.spec_from_file_location("mine", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    answer = EXERCISES["squeeze_excite"].check(module.squeeze_excite_backward)
    assert "line 7 (mine.py:9) is wrong" in answer.headline()


def test_a_sum_that_comes_later_is_no_mistake():
    text = SOLUTIONS["batch_norm2d"].replace(
        "(dxhat * centred).sum(axis=(0, 2, 3))", "dxhat * centred"
    )
    blank = text.replace("-0.5 * rstd**3 * drstd", "...")
    later = "(-0.5 * rstd[:, None, None]**3 * drstd).sum(axis=(0, 2, 3))"
    later = text.replace("-0.5 * rstd**3 * drstd", later)
    assert EXERCISES["batch_norm2d"].check(compiled(later)).solved
    answer = EXERCISES["batch_norm2d"].check(compiled(blank))
    assert (answer.line.verdict, answer.line.text) == (BLANK, "dvar = ...")
    assert {one.verdict for one in answer.verdicts if one.name == "drstd"} == {UNSEEN}
    wrong = later.replace("dcentred + dmean[:, None, None] / M", "dcentred")
    assert EXERCISES["batch_norm2d"].check(compiled(wrong)).line.name == "dx"


@pytest.mark.parametrize(
    ("old", "new", "blank"),
    [
        ("ncij,nrij->cr", "ncij,nrij->rc", "dv.sum(axis=(0, 2, 3))"),
        (
            'np.einsum("ncij,nrij->cr", dv, h)',
            "dv[0, :, 0, 0][:, None] * h[0, :, 0, 0]",
            "dx_scale + dz / (H * W)",
        ),
        (", keepdims=True)", ")", 'np.einsum("cr,ncij->nrij", w2, dv)'),
    ],
)
def test_lines_above_a_blank_are_judged_at_every_case(old, new, blank):
    """With one image, one channel and one hidden unit they look right."""
    text = SOLVED.replace(old, new).replace(blank, "...")
    answer = EXERCISES["squeeze_excite"].check(compiled(text))
    number = SOLVED.strip()[: SOLVED.strip().index(old)].count("\n") + 1
    assert answer.line.number == number, str(answer)


OTHER_WAYS = {
    "squeeze_excite": """
        def my_backward(dout, cache):
            x, gates, n = cache.x, cache.gates, cache.x[0, 0].size
            z, h, s = (one[:, :, 0, 0] for one in (gates.z, gates.h, gates.s))
            g = (dout * x).sum((2, 3)) * s * (1 - s)
            a = (g @ gates.w2) * (h > 0)
            dx = dout * gates.s
            dx += (a @ gates.w1 / n)[:, :, None, None]
            return [dx, a.T @ z, a.sum(0), g.T @ h, g.sum(0)]
    """,
    "batch_norm2d": """
        def closed_form_backward(dout, cache):
            x, gamma, beta, mean, rstd, *_ = cache
            xhat = (x - mean[:, None, None]) * rstd[:, None, None]
            share = (dout * xhat).mean((0, 2, 3), keepdims=True)
            dx = dout - dout.mean((0, 2, 3), keepdims=True) - xhat * share
            dx = dx * (gamma * rstd)[:, None, None]
            return dx, (dout * xhat).sum((0, 2, 3)), dout.sum((0, 2, 3))
    """,
    "linear": """
        def einsum_backward(dout, cache):
            dv = 3  # a name of the reader's own, that means nothing here
            dx = np.einsum("no,oi->ni", dout, cache.weight)
            return dx, np.einsum("no,ni->oi", dout, cache.x), np.einsum("no->o", dout)
    """,
    "conv2d": """
        def loops_backward(dout, cache):
            x, weight, _, (a, b), (top, left), *_ = cache
            framed = np.pad(x, [(0, 0), (0, 0), (top, top), (left, left)])
            dframed, dw = np.zeros(framed.shape), np.zeros(weight.shape)
            KH, KW = weight.shape[2:]
            for n, k, p, q in np.ndindex(*dout.shape):
                rows, columns = slice(p * a, p * a + KH), slice(q * b, q * b + KW)
                dw[k] += dout[n, k, p, q] * framed[n, :, rows, columns]
                dframed[n, :, rows, columns] += dout[n, k, p, q] * weight[k]
            H, W = x.shape[2:]
            return dframed[:, :, top : top + H, left : left + W], dw, dout.sum((0, 2, 3))
    """,
    "softmax_cross_entropy": """
        def short_backward(dout, cache):
            probability = np.exp(cache.logprob)
            probability[np.arange(len(cache.labels)), cache.labels] -= 1
            return dout * probability / len(cache.labels), None
    """,
}


@pytest.mark.parametrize("op", OTHER_WAYS)
def test_right_solutions_pass_however_they_are_written(op):
    answer = EXERCISES[op].check(compiled(OTHER_WAYS[op]))
    assert answer.solved, str(answer)


def test_blank_lines_are_to_do_from_top_to_bottom():
    text = SOLVED.replace("ds * s * (1 - s)", "...").replace("dz / (H * W)", "...")
    answer = EXERCISES["squeeze_excite"].check(compiled(text))
    assert (answer.line.verdict, answer.line.text) == (BLANK, "dv = ...")
    assert [one.verdict for one in answer.verdicts[:2]] == ["right", "right"]
    assert answer.hint(1) == "a slope"
    assert answer.hint(9) == "s (1 - s)"  # the op's own line calls what no reader has
    blank = SOLVED.replace("dout * s\n", "...\n")
    answer = EXERCISES["squeeze_excite"].check(compiled(blank))
    assert answer.hint(9) == "dx_scale = dout * s"


def test_a_line_that_fails_is_named_with_its_error():
    answer = EXERCISES["squeeze_excite"].check(edited("squeeze_excite", "* x).sum", "* y).sum"))
    assert (answer.line.verdict, answer.line.number) == (BROKEN, 6)
    assert "NameError" in answer.reason


def test_a_wrong_line_above_a_blank_one_comes_first():
    text = SOLVED.replace("ds * s * (1 - s)", "ds * s").replace("dz / (H * W)", "...")
    answer = EXERCISES["squeeze_excite"].check(compiled(text))
    assert answer.line.text == "dv = ds * s"
    assert "dv[0, 0, 0, 0] is" in answer.reason
    assert "N = 1, C = 1, H = 1" in answer.case


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("pass", "returns nothing"),
        ("return dout", "1 gradients, expected dx, dweight, dbias"),
        (
            "dout[...] = 0\n    return dout @ cache.weight, dout.T @ cache.x, dout.sum(0)",
            "in place",
        ),
        ("return dout @ cache.weight, dout.T @ cache.x, None", "NoneType, expected an array"),
        ("return dout @ cache.weight, cache.x.T @ dout, dout.sum(0)", "expected (1, 2)"),
    ],
)
def test_what_comes_back_is_checked(body, says):
    answer = EXERCISES["linear"].check(compiled(f"def some_backward(dout, cache):\n    {body}\n"))
    assert not answer.solved
    assert says in str(answer)


def test_a_function_without_source_is_refused():
    assert "source" in EXERCISES["linear"].check(np.sin).headline()


def test_the_page_says_what_the_text_says():
    answer = EXERCISES["squeeze_excite"].check(edited("squeeze_excite", "ds * s * (1 - s)", "ds"))
    html = answer._repr_html_()
    assert "line 7 is wrong" in html
    assert html.count("<details") == len(answer.hints) == 2
    assert "<script" not in html


@pytest.mark.parametrize(
    ("cases", "says"),
    [
        ([], "cases are of no op, expected one or more of one op"),
        ([Case("relu", {"...": (2,)}), Case("tanh", {"...": (2,)})], "cases are of relu, tanh"),
        ([Case("pool", dict(N=1))], "'pool' is no op, expected one of add, "),
    ],
)
def test_cases_that_make_no_exercise_are_refused(cases, says):
    with pytest.raises(ValueError, match=says):
        Exercise(cases)
