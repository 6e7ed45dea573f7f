"""Each lesson asks three questions and sets a task, whose wrong answers are told what is wrong."""

import ast

import pytest

from minise.lessons import Question, Task
from tests.tutorials.lessons import FOLDER
from tests.tutorials.solutions import compiled
from tests.tutorials.tasks import WRONG

pytest.importorskip("marimo", reason="needs marimo: pip install -e '.[tutorials]'")
pytest.importorskip("matplotlib", reason="needs Matplotlib: pip install -e '.[tutorials]'")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")

every = pytest.mark.parametrize("stem", WRONG)


def task_of(stem, ran):
    """Return the task of a lesson, its function in the lesson, and the lesson's names."""
    run = ran(FOLDER / f"{stem}.py")
    (task,) = (value for value in run.definitions.values() if isinstance(value, Task))
    (definition,) = ast.parse(task.solution).body
    return task, getattr(run.module, definition.name), vars(run.module)


@every
def test_three_questions_have_computed_answers(stem, ran):
    questions = [
        output for output in ran(FOLDER / f"{stem}.py").outputs if isinstance(output, Question)
    ]
    assert len(questions) >= 3
    for question in questions:
        assert any(letter.isdigit() for letter in question.answer), question.prompt
    tree = ast.parse((FOLDER / f"{stem}.py").read_text())
    calls = [node for node in ast.walk(tree) if getattr(node, "func", None) is not None]
    answers = [call.args[1] for call in calls if getattr(call.func, "id", "") == "Question"]
    assert len(answers) == len(questions)
    for answer in answers:
        assert any(isinstance(part, ast.FormattedValue) for part in ast.walk(answer))


@every
def test_a_task_is_blank_and_its_solution_passes(stem, ran):
    task, blank, names = task_of(stem, ran)
    answer = task.check(blank)
    assert answer.blank
    assert len(answer.hints) >= 3
    assert task.check(compiled(task.solution, names)).solved


@every
def test_a_wrong_answer_to_a_task_is_told_what_is_wrong(stem, ran):
    task, _, names = task_of(stem, ran)
    assert len(WRONG[stem]) >= 2
    for old, new, says in WRONG[stem]:
        assert task.solution.count(old) == 1, old
        answer = task.check(compiled(task.solution.replace(old, new), names))
        assert not answer.solved, (old, new)
        assert says in str(answer), str(answer)
