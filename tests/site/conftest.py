"""The site that the tests look at, in the folder MINISE_SITE; .ci/run builds it by the command."""

import os
from pathlib import Path

import pytest

from tests import browser as chromium

browser = chromium.browser  # a fixture
REPOSITORY = "octocat/minise"
BUILD = f"minise site build FOLDER --repository {REPOSITORY}"


@pytest.fixture(scope="session")
def site():
    """Return the folder of a whole site."""
    if folder := os.environ.get("MINISE_SITE"):
        assert (Path(folder) / "index.html").is_file(), folder
        return Path(folder)
    pytest.skip(f"needs a site: {BUILD}, then MINISE_SITE=FOLDER pytest -m slow tests/site")
