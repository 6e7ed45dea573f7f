"""The check that a reader of lesson 9 writes is tested on right and on wrong backwards."""

import re

import numpy as np
import pytest

from minise.lessons import Planted
from tests.tutorials.lessons import FOLDER

pytest.importorskip("marimo", reason="needs marimo: pip install -e '.[tutorials]'")
pytest.importorskip("matplotlib", reason="needs Matplotlib: pip install -e '.[tutorials]'")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")

LESSON_9 = FOLDER / "09_checking_gradients.py"

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
    space = {"np": np}
    exec("def slope_check(forward, backward, x, rng):" + CHECK_BODY.replace(old, new), space)
    answer = Planted(space["slope_check"], ran(LESSON_9).definitions["pairs"])
    assert re.search(says, str(answer)), str(answer)
    assert answer.solved == (says == "solved")
    assert answer.headline() in answer.markdown()


def test_the_first_blank_line_of_a_check_is_named(ran):
    run = ran(LESSON_9)
    answer = Planted(run.module.slope_check, run.definitions["pairs"])
    assert "dout is the next to fill in" in str(answer)


def test_the_solution_of_the_check_is_its_last_hint(ran):
    *first, last = ran(LESSON_9).definitions["planted"].hints
    lines = [line.strip() for line in CHECK_BODY.splitlines() if " = " in line][2:]
    assert all(line in last for line in lines)
    assert not any(line.split("= ", 1)[1] in hint for line in lines for hint in first)
