"""Every lesson runs in marimo and as a script; a solution in its file passes."""

import subprocess
import sys

import pytest

from tests.tutorials.lessons import IGNORED_WARNING, each, skeletons_of, solution_of

pytest.importorskip("marimo", reason="needs marimo: pip install -e '.[tutorials]'")
pytest.importorskip("matplotlib", reason="needs Matplotlib: pip install -e '.[tutorials]'")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")

MAX_SECONDS = 10


@each
def test_a_lesson_runs_in_seconds(path, ran):
    assert ran(path).seconds < MAX_SECONDS


@each
def test_a_solution_written_into_the_file_passes(path, tmp_path):
    text = path.read_text()
    for op, blank in skeletons_of(text).items():
        copy = tmp_path / path.name
        copy.write_text(text.replace(blank, solution_of(path, op)))
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
    assert "is the next to fill in" in done.stdout
    assert done.stdout.count(" to fill in\n") == done.stdout.count("  hint 1 of ")
