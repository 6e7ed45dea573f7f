"""A lesson runs cell by cell, and again with other values of its controls."""

import pytest

from minise.site.run import Lesson

pytest.importorskip("marimo", reason="needs marimo: pip install -e '.[site]'")
LESSON = """
import marimo

app = marimo.App(app_title="A lesson")

with app.setup:
    import time

    import marimo as mo


@app.cell
def _():
    few = mo.ui.slider(1, 3, value=2, label="few")
    many = mo.ui.slider(0, 100, value=31, label="many")
    kind = mo.ui.dropdown({"one": 1, "ten": 10}, value="ten", label="kind")
    mo.vstack([few, many, kind])
    return few, kind, many


@app.cell
def _(few):
    square = few.value**2
    square
    return (square,)


@app.cell
def _(kind, square):
    f"{square * kind.value}"
    return


@app.cell(hide_code=True)
def _(many):
    many.value
    return


@app.cell
def _():
    started = time.perf_counter()
    started
    return (started,)


@app.cell
def _(started):
    started + 1
    return


@app.function
def written(x):
    return x
"""


@pytest.fixture(scope="module")
def lesson(tmp_path_factory):
    path = tmp_path_factory.mktemp("lesson") / "01_lesson.py"
    path.write_text(LESSON)
    return Lesson(path)


def test_cells_show_what_a_running_lesson_shows_first(lesson):
    assert lesson.title == "A lesson"
    _, _, square, product, *_ = lesson.cells
    assert (square.output, product.output) == (4, "40")
    assert lesson.cells[-1].function
    assert [cell.hidden for cell in lesson.cells].count(True) == 1


def test_a_result_is_there_for_each_value_of_what_it_depends_on(lesson):
    _, _, square, product, many, *_ = lesson.cells
    assert square.controls == ("few",)
    assert square.choices == {(0,): 1, (1,): 4, (2,): 9}
    assert product.controls == ("few", "kind")
    assert product.choices[2, 1] == "90"
    assert len(product.choices) == 6
    assert {control.name for control in lesson.controls.values()} == {"few", "many", "kind"}
    own = next(control for control in lesson.controls.values() if control.name == "many")
    assert own.labels[own.chosen] == "31"
    assert (own.labels[0], own.labels[-1]) == ("0", "100")
    assert len(many.choices) == len(own.labels) <= 7


def test_a_cell_that_reads_a_clock_is_not_run(lesson):
    timed = [cell for cell in lesson.cells if cell.timed]
    assert len(timed) == 2
    assert all(cell.output is None for cell in timed)
