"""One line of an op is changed: the walk, the article and the lesson change, or fail."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
OP = Path("minise", "ops", "reference", "squeeze_excite.py")
LINE, CHANGED = "    dx = dx_scale + dx_gate\n", "    dx = dx_scale\n"
SHOW = """
import hashlib, json, runpy, sys
from minise.site import article
from minise.walk.page import page
from minise.walk.pages import Page, traced

def walk():
    return page(traced(Page("squeeze_excite")))

def text():
    return json.dumps(article.values(), sort_keys=True)

def lesson():
    app = runpy.run_path("tutorials/06_squeeze_and_excitation.py")["app"]
    return "".join(getattr(output, "text", str(output)) for output in app.run()[0])

shown = {}
for make in (walk, text, lesson):
    try:
        shown[make.__name__] = hashlib.sha256(make().encode()).hexdigest()
    except Exception as error:
        shown[make.__name__] = f"{type(error).__name__}: {error}"
print(json.dumps(shown))
"""


def shown(root):
    """Return what a copy of the project shows: hashes, or messages of errors."""
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
    assert [len(text) for text in before.values()] == [hashlib.sha256().digest_size * 2] * 3
    assert shown(copy) == before
    source = (copy / OP).read_text()
    assert source.count(LINE) == 1
    (copy / OP).write_text(source.replace(LINE, CHANGED))
    after = shown(copy)
    assert after["walk"] != before["walk"]
    assert "the text says that each gradient agrees with forward" in after["text"]
    assert after["lesson"] != before["lesson"]
