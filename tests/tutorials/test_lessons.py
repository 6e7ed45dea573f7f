"""Every lesson runs as a notebook, as a script and in Jupyter; a solution in its file passes."""

import json
import re
import subprocess
import sys
import types

import pytest

from tests.tutorials.lessons import FOLDER, IGNORED_WARNING, each, skeletons_of, solution_of

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
