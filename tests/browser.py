"""Headless Chromium for tests of pages; without it, or without Playwright, a test is skipped."""

import shutil

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
DESKTOP, PHONE = dict(width=1280, height=900), dict(width=360, height=740)


def playwright():
    """Return Playwright's API, or skip the test."""
    return pytest.importorskip(
        "playwright.sync_api", reason="needs Playwright: pip install -e '.[browser]'"
    )


def expect(locator):
    """Return assertions on a part of a page that wait until they hold.

    A new hash is rendered in a later task. `expect` waits outside the page: `wait_for_function`
    evaluates a string, which the page's security policy forbids.
    """
    return playwright().expect(locator)


@pytest.fixture(scope="module")
def browser():
    """Start headless Chromium."""
    if CHROMIUM is None:
        pytest.skip(f"needs one of {', '.join(NAMES)}")
    with playwright().sync_playwright() as api:
        chromium = api.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()
