"""The notebooks that the site writes run in Jupyter, from the cell that installs to the last."""

import json
from pathlib import Path

import pytest

from tests.site.conftest import REPOSITORY

LESSONS = sorted((Path(__file__).parents[2] / "tutorials").glob("[0-9]*.py"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
]


def test_every_lesson_has_a_notebook_with_a_badge_and_an_install_cell(site):
    paths = sorted((site / "notebooks").iterdir())
    assert [path.stem for path in paths] == [path.stem for path in LESSONS]
    for path in paths:
        first, install, *cells = json.loads(path.read_text())["cells"]
        opens = f"github/{REPOSITORY}/blob/gh-pages/notebooks/{path.name})"
        assert opens in "".join(first["source"])
        assert f'"minise[tutorials] @ git+https://github.com/{REPOSITORY}"' in "".join(
            install["source"]
        )
        assert {"code", "markdown"} == {cell["cell_type"] for cell in cells}
        assert not any(cell.get("outputs") for cell in cells)
        assert "?file=" not in path.read_text()


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.stem, marks=() if path == LESSONS[-1] else pytest.mark.long)
        for path in LESSONS
    ],
)
def test_a_notebook_runs(path, site, tmp_path):
    nbclient = pytest.importorskip("nbclient", reason="needs Jupyter: nbclient")
    nbformat = pytest.importorskip("nbformat", reason="needs nbformat: pip install -e '.[site]'")
    pytest.importorskip("ipykernel", reason="needs Jupyter: ipykernel")
    cells = nbformat.read(site / "notebooks" / f"{path.stem}.ipynb", as_version=4)
    nbformat.validate(cells)
    client = nbclient.NotebookClient(
        cells, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    shown = [str(output) for cell in cells.cells for output in cell.get("outputs", [])]
    assert not [output for output in shown if "'output_type': 'error'" in output]
    assert any("to fill in" in output for output in shown)
