"""The exercise of a lesson is blank, its solution passes, and a mistake is named at its line."""

import re

import numpy as np
import pytest

from minise import nn
from minise.gradcheck import check_layer
from minise.grading.answer import BLANK
from minise.grading.exercise import Exercise
from minise.grading.mend import Mended
from minise.ops import reference
from minise.tracing.instrument import Instrumented
from tests.tutorials.lessons import (
    FOLDER,
    LESSONS,
    each,
    exercises_of,
    skeletons_of,
    solution_of,
)
from tests.tutorials.solutions import MISTAKES, SOLUTIONS, compiled

pytest.importorskip("marimo", reason="needs marimo: pip install -e '.[tutorials]'")
pytest.importorskip("matplotlib", reason="needs Matplotlib: pip install -e '.[tutorials]'")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@each
def test_an_exercise_is_blank_and_its_solution_passes(path, ran):
    run = ran(path)
    exercises = exercises_of(run.definitions)
    assert exercises
    for exercise in exercises:
        name = f"{exercise.op}_backward"
        answer = exercise.check(getattr(run.module, name))
        assert answer.line.verdict == BLANK
        assert answer.hints
        assert exercise.check(exercise.solution).solved
        assert exercise.check(compiled(solution_of(path, exercise.op))).solved


@each
def test_a_skeleton_is_the_solution_with_its_lines_blank(path):
    """So the mistakes of test_exercise.py are mistakes in the lines of the lessons."""
    text = path.read_text()
    for op, blank in skeletons_of(text).items():
        filled = [line.strip() for line in solution_of(path, op).splitlines()]
        lines = [line.strip() for line in blank.splitlines()]
        assert len(lines) == len(filled)
        for line, solution in zip(lines, filled, strict=True):
            left = line.removesuffix("...")
            assert line == solution if left == line else solution.startswith(left)
        hints = re.findall(r'^ +"(\w+)": \(', text, re.MULTILINE)
        assert hints


@each
def test_only_the_last_hint_is_the_solution(path, ran):
    for exercise in ran(path).definitions.values():
        if isinstance(exercise, Exercise):
            solution = [line.strip() for line in solution_of(path, exercise.op).splitlines()]
            for *first, last in exercise.hints.values():
                assert set(last.split("; ")) <= set(solution) | {""}
                right = {line.split("= ", 1)[-1] for line in solution}
                assert not right & set(first)


@each
def test_no_two_axes_are_equal_in_the_largest_case(path, ran):
    """With equal axes, a missing or swapped axis can broadcast, and look right."""
    for exercise in ran(path).definitions.values():
        if isinstance(exercise, Exercise):
            shape = np.shape(exercise.truths[-1].inputs[0])
            assert len(set(shape)) == len(shape), shape


@each
def test_masks_have_both_sides_in_the_cases(path, ran):
    """With all values on one side, a missing or wrong mask in backward looks right."""
    for exercise in ran(path).definitions.values():
        branches = getattr(reference, f"{getattr(exercise, 'op', '')}_branches", None)
        if isinstance(exercise, Exercise) and branches:
            largest = branches(exercise.truths[-1].cache)
            assert len(np.unique(largest)) > 1
            if exercise.op == "squeeze_excite":
                hidden = [exact.cache.gates.h for exact in exercise.truths]
                units = hidden[-1][:, :, 0, 0] > 0  # (N, R), different ones in each image
                assert units.any(axis=0).all()
                assert (units[0] != units[1]).any()
                assert units.any(axis=1).all()
                assert all((h > 0).any() for h in hidden)


def test_planted_mistakes_are_named_at_their_line(ran):
    """By the exercises of the lessons, on the smallest case that shows the mistake."""
    exercises = {}
    for path in LESSONS:
        for exercise in ran(path).definitions.values():
            if isinstance(exercise, Exercise) and path.stem not in SOLUTIONS:
                exercises[exercise.op] = exercise
    named = []
    for op, old, new in MISTAKES:
        text = SOLUTIONS[op].strip()
        answer = exercises[op].check(compiled(text.replace(old.strip(), new.strip())))
        assert not answer.solved, (op, new)
        number = text[: text.index(old.strip())].count("\n") + 1
        named.append(answer.line is not None and answer.line.number == number)
    assert len(named) >= 20
    assert sum(named) >= 0.9 * len(named)


WITHOUT_SLOPE = [  # lesson, text of the correct line, its replacement, part of the answer
    (
        "03",
        "weight[:, :, i, j], dout",
        "weight[:, :, -i - 1, -j - 1], dout",
        "dseen[0, 0, 0, 0] is -0.698513, expected 0.13679",
    ),
    ("03", 'nkpq->ncpq", weight', 'nkpq->nkpq", weight', "dseen has shape (1, 1, 2, 2), expected"),
    ("03", "dseen = np.einsum(", "dseen: np.ndarray = -np.einsum(", "dseen[0, 0, 0, 0] is -"),
    ("04", "divmod(argmax[n, c, p, q], W)", "p, q", "i is 0, expected 1"),
    ("04", "i, j = divmod", "j, i = divmod", "line 7, which reads it, fails: IndexError"),
    ("04", "divmod(argmax[n, c, p, q], W)", "divmod(argmax[n, c, p, q], 2)", "i is 2, expected 1"),
    ("04", "+= dout[n, c, p, q]", "+= 1", "forward's slope is"),
    ("04", "dx[n, c, i, j] += dout", "dx[n, c, i, j] -= dout", "the gradient has the wrong sign"),
    ("10", 'ncopq->kco", dout', 'ncopq->cko", dout', "dfilters has shape (4, 5, 6), expected"),
    ("10", "dout, cols)", "dout, cols[:, :, ::-1])", "dfilters[0, 0, 0] is"),
    ("10", "dout, cols)", "dout, cols) / len(x)", "dfilters["),
    ("10", 'nkpq->ncopq", filters, dout', 'nkpq->nocpq", filters, dout', "line 13, which reads it"),
    ("10", 'np.einsum("kco,', '-np.einsum("kco,', "dcols["),
    ("10", "filters, dout)", "dfilters, dout)", "dcols["),
    ("11", "dy[row, i] * x[row, i]", "dy[row, i] * s[row]", "lanes[lane] is"),
    ("11", "lanes[lane] += dy", "lanes[lane] = dy", "lanes[lane] is"),
    ("11", "lanes[lane] += dy", "lanes[0] -= dy", "lanes[lane] is -"),
    ("11", "lanes[:half] += lanes", "lanes[:half] = lanes", "entry (1) of lanes[:half] is"),
    ("11", "lanes[half : 2 * half]", "lanes[0]", "entry (0) of lanes[:half] is"),
    ("11", "ds[row] = lanes[0]", "ds[row] = lanes.sum()", "forward's slope is"),
]


@pytest.mark.parametrize(("number", "old", "new", "says"), WITHOUT_SLOPE)
def test_a_line_without_a_slope_is_judged_by_substitution(number, old, new, says, ran):
    """Also if the line below is the first whose value is wrong."""
    path = next(path for path in LESSONS if path.stem.startswith(number))
    (exercise,) = exercises_of(ran(path).definitions)
    text = solution_of(path, exercise.op)
    assert text.count(old) == 1
    answer = exercise.check(compiled(text.replace(old, new)))
    assert answer.line.number == text[: text.index(old)].count("\n") + 1, str(answer)
    assert not answer.also
    assert says in f"{answer.reason}\n{answer.likely}", str(answer)
    assert answer.hints
    wrong = [line.number for line in answer.verdicts if line.verdict == "wrong"]
    assert wrong == [answer.line.number]
    assert len({line.number for line in answer.verdicts}) == len(answer.verdicts)


@pytest.mark.parametrize("training", [True, False])
def test_the_block_of_lesson_7_is_bit_identical_to_the_declared_one(training, ran):
    """Compare three blocks: line by line, declared from the same layers, and fused."""
    build = nn.Build(rng=0, dtype=np.float64, se=nn.SE(reduction=2))
    written = ran(FOLDER / "07_residual_blocks.py").module.Block(4, build)
    branch = [(name, getattr(written, name)) for name in ("conv1", "bn1", "relu", "conv2")]
    tail = nn.Tail(("bn2", written.bn2), ("se", written.se))
    fused = nn.basic_block(4, 4, 1, build)
    for name, array in fused.named_parameters().items():
        array[...] = written.named_parameters()[name]
    x, dout = np.random.default_rng(1).standard_normal((2, 3, 4, 5, 6))
    runs = []
    for block in (written, nn.Residual(nn.Chain(*branch), tail=tail), fused):
        out, cache = block.forward(x, training)
        dx, grads = block.backward(dout, cache)
        runs.append({"out": out, "dx": dx, **grads})
    for other in runs[1:]:
        assert other.keys() == runs[0].keys()
        for name, array in runs[0].items():
            np.testing.assert_array_equal(other[name], array)
    assert check_layer(written, x, training=training).ok


def test_a_learner_may_redefine_a_name(ran):
    """Here lanes is minus the sum, and ds is minus lanes: the only mistake is in dx."""
    (exercise,) = exercises_of(ran(FOLDER / "11_numpy_to_cuda.py").definitions)
    own = SOLUTIONS["channel_scale"].replace("lanes[lane] +=", "lanes[lane] -=")
    own = own.replace("ds[row] = lanes[0]", "ds[row] = -lanes[0]")
    assert exercise.check(compiled(own)).solved
    answer = exercise.check(compiled(own.replace("* s[row]", "/ s[row]")))
    assert answer.line.text == "dx[row, i] = dy[row, i] / s[row]"
    assert not answer.also
    assert [line.name for line in answer.verdicts if line.verdict == "wrong"] == ["dx"]


@each
def test_the_last_hints_fill_in_what_is_blank(path, ran):
    """So that every line can be judged by substitution of all others."""
    run = ran(path)
    for exercise in exercises_of(run.definitions):
        blank = getattr(run.module, f"{exercise.op}_backward")
        code = Instrumented(blank, file=blank.__code__.co_filename)
        substitution = Mended(code, exercise.right_lines(code), exercise.truths)
        assert substitution.works
        assert substitution.guilty == []
