"""Lessons as Jupyter notebooks, which begin with a badge and a cell that installs the package."""

import json
import re
from pathlib import Path
from typing import Any

BRANCH = "gh-pages"  # the branch to which .github/workflows/pages.yml pushes the site
COLAB = "https://colab.research.google.com"
NEEDED = ("minise", "marimo", "matplotlib", "latex2mathml")
LESSON = re.compile(r"\]\(\?file=([\w-]+)\.py(#[\w-]+)?\)")

INSTALL = '''import importlib.util

# installs the package, unless it is there
if any(importlib.util.find_spec(name) is None for name in {needed}):
    %pip install -q "{package}"'''


def notebook(path: Path, repository: str = "") -> str:
    """Return a lesson as the text of an .ipynb file.

    Parameters
    ----------
    path : path
        The lesson, a marimo notebook.
    repository : str, optional
        "OWNER/NAME" on GitHub, from where the first cell installs the package, and where the badge
        opens the notebook.
    """
    from marimo._ast.app import InternalApp
    from marimo._convert.ipynb.from_ir import convert_from_ir_to_ipynb

    from minise.site.run import module_of

    app = InternalApp(module_of(path).app)
    made: dict[str, Any] = json.loads(convert_from_ir_to_ipynb(app, sort_mode="topological"))
    for cell in made["cells"]:
        cell["source"] = _lines(LESSON.sub(_link(repository), "".join(cell["source"])))
    made["cells"] = [*_first(path.stem, repository), *made["cells"]]
    made["metadata"]["kernelspec"] = {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
    }
    made["metadata"].pop("marimo", None)
    return json.dumps(made, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def _first(stem: str, repository: str) -> list[dict[str, Any]]:
    """Return the cells before the lesson's own."""
    text = (
        "Run the cells from top to bottom. Sliders do not move here: change their `value`, and run "
        "the cells below. After you change your solution, run the cell that checks it again."
    )
    if repository:
        badge = f"![Open in Colab]({COLAB}/assets/colab-badge.svg)"
        text = f"[{badge}]({in_colab(stem, repository)})\n\n{text}"
    package = f"minise[tutorials] @ git+https://github.com/{repository}"
    if not repository:
        package = "minise[tutorials]"
    code = INSTALL.format(
        needed=json.dumps(NEEDED).replace("[", "(").replace("]", ")"), package=package
    )
    return [
        {"cell_type": "markdown", "id": "start", "metadata": {}, "source": _lines(text)},
        {
            "cell_type": "code",
            "execution_count": None,
            "id": "install",
            "metadata": {},
            "outputs": [],
            "source": _lines(code),
        },
    ]


def in_colab(stem: str, repository: str) -> str:
    """Return the address of a notebook in Colab."""
    return f"{COLAB}/github/{repository}/blob/{BRANCH}/notebooks/{stem}.ipynb"


def _link(repository: str) -> Any:
    def link(match: re.Match[str]) -> str:
        stem = match[1]
        return f"]({in_colab(stem, repository) if repository else f'{stem}.ipynb'})"

    return link


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)
