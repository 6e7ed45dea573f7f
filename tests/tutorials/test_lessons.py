"""Every lesson runs as a notebook, as a script and in Jupyter, and its exercise can be graded."""

import importlib.util
import json
import re
import subprocess
import sys
import textwrap
import time
import types
from pathlib import Path

import numpy as np
import pytest

from minise import nn
from minise.gradcheck import check_layer
from minise.grading.answer import BLANK
from minise.grading.exercise import Exercise
from minise.grading.mend import Mended
from minise.lessons import Planted
from minise.ops import reference
from minise.tracing.instrument import Instrumented
from tests.tutorials.solutions import MISTAKES, SOLUTIONS, compiled

pytest.importorskip("marimo", reason="needs marimo: pip install -e '.[tutorials]'")
pytest.importorskip("matplotlib", reason="needs Matplotlib: pip install -e '.[tutorials]'")
FOLDER = Path(__file__).parents[2] / "tutorials"
LESSONS = sorted(FOLDER.glob("[0-9]*.py"))
WITHOUT_EXERCISE = {"01_chain_rule"}
MAX_SECONDS = 10
IGNORED_WARNING = "ignore::DeprecationWarning"  # marimo's own

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@pytest.fixture(scope="module")
def ran():
    """Return a function that runs a lesson once: module, definitions and seconds."""
    done = {}

    def run(path):
        if path not in done:
            spec = importlib.util.spec_from_file_location(f"lesson_{path.stem}", path)
            module = importlib.util.module_from_spec(spec)
            sys.modules[spec.name] = module  # marimo reads the source of a class from here
            spec.loader.exec_module(module)
            started = time.process_time()  # independent of other load on the machine
            _, definitions = module.app.run()
            done[path] = module, definitions, time.process_time() - started
        return done[path]

    return run


def each(function):
    """Repeat a test for every lesson; pytest --dist loadgroup keeps a lesson in one process."""
    lessons = [
        pytest.param(path, id=path.stem, marks=pytest.mark.xdist_group(path.stem))
        for path in LESSONS
    ]
    return pytest.mark.parametrize("path", lessons)(function)


def exercises_of(definitions):
    """Return the exercises among the definitions of a lesson."""
    return [value for value in definitions.values() if isinstance(value, Exercise)]


def solution_of(path, op):
    return SOLUTIONS[path.stem] if path.stem in SOLUTIONS else SOLUTIONS[op]


@each
def test_a_lesson_runs_in_seconds(path, ran):
    *_, seconds = ran(path)
    assert seconds < MAX_SECONDS


@each
def test_an_exercise_is_blank_and_its_solution_passes(path, ran):
    module, definitions, _ = ran(path)
    exercises = exercises_of(definitions)
    assert bool(exercises) == (path.stem not in WITHOUT_EXERCISE)
    for exercise in exercises:
        name = f"{exercise.op}_backward"
        answer = exercise.check(getattr(module, name))
        assert answer.line.verdict == BLANK
        assert answer.hints
        assert exercise.check(exercise.solution).solved
        assert exercise.check(compiled(solution_of(path, exercise.op))).solved


@each
def test_a_skeleton_is_the_solution_with_its_lines_blank(path, ran):
    """So the mistakes of test_exercise.py are mistakes in the lines of the lessons."""
    text = path.read_text()
    for name in re.findall(r"@app\.function\ndef (\w+)_backward\(", text):
        blank = re.search(rf"@app\.function\n(def {name}_backward.*?)\n\n\n", text, re.DOTALL)[1]
        filled = [line.strip() for line in solution_of(path, name).strip().splitlines()]
        lines = [line.strip() for line in blank.splitlines()]
        assert len(lines) == len(filled)
        for line, solution in zip(lines, filled, strict=True):
            left = line.removesuffix("...")
            assert line == solution if left == line else solution.startswith(left)
        hints = re.findall(r'^ +"(\w+)": \(', text, re.MULTILINE)
        assert hints


@each
def test_only_the_last_hint_is_the_solution(path, ran):
    for exercise in ran(path)[1].values():
        if isinstance(exercise, Exercise):
            solution = [line.strip() for line in solution_of(path, exercise.op).splitlines()]
            for *first, last in exercise.hints.values():
                assert set(last.split("; ")) <= set(solution) | {""}
                right = {line.split("= ", 1)[-1] for line in solution}
                assert not right & set(first)


@each
def test_no_two_axes_are_equal_in_the_largest_case(path, ran):
    """With equal axes, a missing or swapped axis can broadcast, and look right."""
    for exercise in ran(path)[1].values():
        if isinstance(exercise, Exercise):
            shape = np.shape(exercise.truths[-1].inputs[0])
            assert len(set(shape)) == len(shape), shape


@each
def test_masks_have_both_sides_in_the_cases(path, ran):
    """With all values on one side, a missing or wrong mask in backward looks right."""
    for exercise in ran(path)[1].values():
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
        for exercise in ran(path)[1].values():
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
    (exercise,) = exercises_of(ran(path)[1])
    text = textwrap.dedent(solution_of(path, exercise.op)).strip()
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
    module, _, _ = ran(FOLDER / "07_residual_blocks.py")
    build = nn.Build(rng=0, dtype=np.float64, se=nn.SE(reduction=2))
    written = module.Block(4, build)
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
    _, definitions, _ = ran(FOLDER / "11_numpy_to_cuda.py")
    (exercise,) = exercises_of(definitions)
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
    module, definitions, _ = ran(path)
    for exercise in definitions.values():
        if isinstance(exercise, Exercise):
            blank = getattr(module, f"{exercise.op}_backward")
            code = Instrumented(blank, file=blank.__code__.co_filename)
            substitution = Mended(code, exercise.right_lines(code), exercise.truths)
            assert substitution.works
            assert substitution.guilty == []


CHECK_BODY = """
    h = 1e-5
    out, cache = forward(x)
    dout = rng.standard_normal(out.shape)
    u = rng.standard_normal(x.shape)
    by_backward = (backward(dout, cache) * u).sum()
    by_forward = (dout * (forward(x + h * u)[0] - forward(x - h * u)[0])).sum() / (2 * h)
    error = abs(by_backward - by_forward) / (abs(by_backward) + abs(by_forward))
    return error
"""


ZERO = "batch_norm2d, right: both slopes are .nearly. zero here: lesson 5, Why dout must be random"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("", "", "solved"),
        ("dout = rng.standard_normal(out.shape)", "dout = np.ones(out.shape)", ZERO),
        ("dout = rng.standard_normal(out.shape)", "dout = out", ZERO),
        ("/ (2 * h)", "/ h", "not solved yet"),
        (
            "forward(x - h * u)[0])).sum() / (2 * h)",
            "out)).sum() / h",
            "0, right: is the difference central",
        ),
        (" / (abs(by_backward) + abs(by_forward))", "", "1e-6: is it relative"),
        (" / (abs(by_backward) + abs(by_forward))", "", "1e6: is it relative"),
        ("u = rng.standard_normal(x.shape)", "u = rng.standard_normal(3)", "it fails: ValueError"),
        ("rng.standard_normal(x.shape)", "...", "it fails|next to fill in"),
    ],
)
def test_a_learners_check_is_tested_on_planted_mistakes(old, new, says, ran):
    _, definitions, _ = ran(FOLDER / "09_checking_gradients.py")
    space = {"np": np}
    exec("def slope_check(forward, backward, x, rng):" + CHECK_BODY.replace(old, new), space)
    answer = Planted(space["slope_check"], definitions["pairs"])
    assert re.search(says, str(answer)), str(answer)
    assert answer.solved == (says == "solved")
    assert answer.headline() in answer.markdown()


def test_the_first_blank_line_of_a_check_is_named(ran):
    module, definitions, _ = ran(FOLDER / "09_checking_gradients.py")
    assert "dout is the next to fill in" in str(Planted(module.slope_check, definitions["pairs"]))


def test_the_solution_of_the_check_is_its_last_hint(ran):
    _, definitions, _ = ran(FOLDER / "09_checking_gradients.py")
    *first, last = definitions["planted"].hints
    lines = [line.strip() for line in CHECK_BODY.splitlines() if " = " in line][2:]
    assert all(line in last for line in lines)
    assert not any(line.split("= ", 1)[1] in hint for line in lines for hint in first)


@each
def test_a_solution_written_into_the_file_passes(path, tmp_path):
    text = path.read_text()
    for name in re.findall(r"@app\.function\ndef (\w+)_backward\(", text):
        blank = re.search(rf"def {name}_backward.*?(?=\n\n\n)", text, re.DOTALL)[0]
        solution = textwrap.dedent(solution_of(path, name)).strip()
        copy = tmp_path / path.name
        copy.write_text(text.replace(blank, solution))
        done = subprocess.run(
            [sys.executable, str(copy)], capture_output=True, text=True, check=True
        )
        assert "solved, every gradient is right" in done.stdout


@each
def test_a_lesson_runs_as_a_script(path, tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", IGNORED_WARNING, str(path)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    if path.stem not in WITHOUT_EXERCISE:
        assert "is the next to fill in" in done.stdout
        assert done.stdout.count(" to fill in\n") == done.stdout.count("  hint 1 of ")


@each
def test_a_lesson_runs_as_a_jupyter_notebook(path, tmp_path, monkeypatch):
    """Converted as in tutorials/README.md, and run cell by cell."""
    pytest.importorskip("nbformat", reason="needs nbformat: pip install -e '.[tutorials]'")
    notebook = tmp_path / f"{path.stem}.ipynb"
    command = ["export", "ipynb", str(path), "-o", str(notebook)]
    subprocess.run([sys.executable, "-m", "marimo", "-q", *command], check=True, timeout=60)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["notebook"])
    space = vars(types.ModuleType("notebook"))
    cells = json.loads(notebook.read_text())["cells"]
    assert {"code", "markdown"} <= {cell["cell_type"] for cell in cells}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), path.stem, "exec"), space)


def test_an_exercise_answers_in_jupyter(tmp_path):
    """In a Jupyter kernel, in which the source of a cell is not in a file."""
    nbformat = pytest.importorskip(
        "nbformat", reason="needs nbformat: pip install -e '.[tutorials]'"
    )
    nbclient = pytest.importorskip("nbclient", reason="needs Jupyter: nbclient")
    pytest.importorskip("ipykernel", reason="needs Jupyter: ipykernel")
    notebook = tmp_path / "notebook.ipynb"
    command = ["export", "ipynb", str(FOLDER / "05_batch_norm.py"), "-o", str(notebook)]
    subprocess.run([sys.executable, "-m", "marimo", "-q", *command], check=True, timeout=60)
    cells = nbformat.read(notebook, as_version=4)
    nbclient.NotebookClient(cells, timeout=60, kernel_name="python3").execute()
    shown = [str(output) for cell in cells.cells for output in cell.get("outputs", [])]
    assert any("line 6 is the next to fill in" in output for output in shown)


@each
def test_links_lead_somewhere(path):
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text()):
        assert link.startswith("https://") or (FOLDER / link).exists(), link
