"""Results: a round trip of committed files, tables, figures and tasks."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import minise.bench
from minise.bench.result import (
    Figure,
    Panel,
    Result,
    Table,
    Task,
    draw_panel,
    failed_tasks,
    figure_class,
    run_tasks,
)
from tests.bench.tables import text_of

COMMITTED = [
    path
    for path in sorted((Path(minise.bench.__file__).parent / "results").glob("*.json"))
    if path.name != "checkers.json"  # written by tests.gradcheck.peers
]
PANEL = Panel("batch of 2", "depth", "ms", [8, 20, 32], [37, 85, 133], 4, 5, "4 ms a layer")


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_committed_results_are_read_and_written_as_they_are(path, tmp_path):
    result = Result.read(path)
    assert np.min(result.settings["batch"]) >= 1  # one number, or a list
    assert result.circumstances["machine"]["processor"]
    assert len(result.rows) >= 1
    result.write(tmp_path / "again.json")
    assert json.loads((tmp_path / "again.json").read_text()) == json.loads(path.read_text())


def test_there_are_results_of_all_kinds():
    assert {Result.read(path).rows_key for path in COMMITTED} == {"works", "series", "rows"}


def test_a_result_has_its_circumstances(tmp_path):
    result = Result({"batch": 2}, [1, 2], {"verdict": "quiet"})
    result.write(tmp_path / "figures.json")
    content = json.loads((tmp_path / "figures.json").read_text())
    assert {"date", "command", "machine", "versions"} < content.keys()
    assert content["settings"] == {"batch": 2}
    assert (content["rows"], content["verdict"]) == ([1, 2], "quiet")
    assert Result.read(tmp_path / "figures.json") == result


@pytest.mark.parametrize("content", [{}, {"settings": {}, "rows": []}, {"checkers": {}}])
def test_another_file_is_refused(tmp_path, content):
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"a\.json is not the result of a benchmark"):
        Result.read(tmp_path / "a.json")


def test_a_table():
    """Names and the column `left` are left-aligned, numbers right-aligned; markup is not parsed."""
    rows = [("one", "a", "1.5"), (), ("[bold]two", "b")]
    text = text_of(Table("heading", ("kind", "ms"), rows, "note", left=("kind",)), width=40)
    lines = [line.rstrip() for line in text.splitlines()]
    assert lines[0] == "heading"
    columns, first, second = (
        next(line for line in lines if name in line) for name in ("kind", "one", "two")
    )
    assert columns.split() == ["kind", "ms"]
    assert (first.split(), second.split()) == (["one", "a", "1.5"], ["[bold]two", "b"])
    assert columns.index("kind") == first.index("a") == second.index("b", 6)
    assert len(columns) == len(first)
    assert lines[-2:] == ["note", ""]


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_a_figure_is_drawn(tmp_path, suffix):
    pytest.importorskip("matplotlib", reason="needs Matplotlib: pip install -e '.[plot]'")
    path = tmp_path / f"lines{suffix}"
    Figure([PANEL, PANEL], "on one thread").draw(path)
    assert path.read_bytes().startswith({".png": b"\x89PNG", ".svg": b"<?xml"}[suffix])


def test_a_panel_shows_points_and_line():
    pytest.importorskip("matplotlib", reason="needs Matplotlib: pip install -e '.[plot]'")
    axes = figure_class()().subplots()
    draw_panel(axes, PANEL)
    assert axes.get_xlabel() == "depth"
    assert axes.get_ylabel() == "ms"
    assert axes.get_title("left") == "batch of 2"
    line, points = axes.get_lines()
    assert list(points.get_ydata()) == [37, 85, 133]
    assert line.get_ydata()[0] == pytest.approx(5)
    assert line.get_label() == "4 ms a layer"


def test_without_matplotlib_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"drawing needs Matplotlib: pip install -e '.\[plot\]'"):
        figure_class()


def fails():
    raise RuntimeError("out of memory\nand more")


def test_a_failing_task_does_not_stop_the_others():
    messages = []
    tasks = [Task("a", lambda: 1), Task("b", fails), Task("c", lambda: 2)]
    rows = list(run_tasks(tasks, 60, messages.append))
    assert [row.get("result") for row in rows] == [1, None, 2]
    assert rows[1]["problem"] == "RuntimeError: out of memory"
    assert "and more" in rows[1]["trace"]
    assert failed_tasks(rows) == ["b"]
    assert messages == ["a", "b", "c"]


def test_a_task_after_the_time_limit_is_skipped(monkeypatch):
    now = iter(range(0, 1000, 10))
    monkeypatch.setattr("minise.bench.result.time.monotonic", lambda: next(now))
    rows = list(run_tasks([Task("a", lambda: 1), Task("b", fails)], 15))
    assert rows[1]["problem"].startswith("skipped")
    assert failed_tasks(rows) == []
