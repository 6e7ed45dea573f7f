"""Chromium for the tests of pages: Playwright's API, the program and the screens."""

import shutil

import pytest

# A new hash is rendered in a later task, so a test waits with `expect`, which runs outside the
# page: `wait_for_function` evaluates a string, which the page's security policy forbids.
api = pytest.importorskip(
    "playwright.sync_api", reason="needs Playwright: pip install -e '.[browser]'"
)
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
NEEDS = f"needs one of {', '.join(NAMES)}"

DESKTOP, PHONE = dict(width=1280, height=900), dict(width=360, height=740)
