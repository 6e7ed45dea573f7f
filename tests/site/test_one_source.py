"""One line of an op is changed: the walk, the article and the lesson change, or fail."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("marimo", reason="needs marimo: pip install -e '.[site]'")
pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
OP = Path("minise", "ops", "reference", "squeeze_excite.py")
LINE, CHANGED = "    dx = dx_scale + dx_gate\n", "    dx = dx_scale\n"
SHOW = """
import json, re, runpy
from minise.site import article
from minise.walk.pages import Page, traced

def error_of(make):
    try:
        make()
    except Exception as error:
        return str(error)
    return ""

app = runpy.run_path("tutorials/06_squeeze_and_excitation.py")["app"]
texts = " ".join(getattr(output, "text", "") for output in app.run()[0])
walk = traced(Page("squeeze_excite"))
print(json.dumps({
    "wrong steps": [step.name for step in walk.steps if step.check and not step.check.ok],
    "article": error_of(article.values),
    "lesson": re.search("each pixel of the .*?channel gets\\s+([-0-9.]+)", texts, re.DOTALL)[1],
}))
"""


def shown(root):
    """Return what a copy of the project shows."""
    result = subprocess.run(
        [sys.executable, "-c", SHOW],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(result.stdout.splitlines()[-1])


@pytest.fixture
def copy(tmp_path):
    for folder in ("minise", "tutorials"):
        ignored = shutil.ignore_patterns("__pycache__", "__marimo__")
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    return tmp_path


def test_a_changed_line_shows_everywhere(copy):
    before = shown(copy)
    assert (before["wrong steps"], before["article"]) == ([], "")
    assert float(before["lesson"]) != 0
    source = (copy / OP).read_text()
    assert source.count(LINE) == 1
    (copy / OP).write_text(source.replace(LINE, CHANGED))
    after = shown(copy)
    assert after["wrong steps"] == ["dx"]
    assert "the text says that each gradient agrees with forward" in after["article"]
    assert float(after["lesson"]) == 0  # the gate route, in the lesson's prose
