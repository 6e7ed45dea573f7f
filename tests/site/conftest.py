"""The site that the tests look at: the one in the folder MINISE_SITE, or one built for the run."""

import os
from pathlib import Path

import pytest

REPOSITORY = "octocat/minise"


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """Return the folder of a whole site, built with REPOSITORY."""
    if folder := os.environ.get("MINISE_SITE"):
        return Path(folder)
    for name in ("marimo", "matplotlib", "latex2mathml", "nbformat", "pdoc"):
        pytest.importorskip(name, reason=f"needs {name}: pip install -e '.[site]'")
    from minise.site.build import build

    folder = tmp_path_factory.mktemp("site")
    build(folder, REPOSITORY)
    return folder
