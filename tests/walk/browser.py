"""Playwright's API and the screens, for the tests that use a page beyond the fixture `opened`."""

import pytest

from tests.walk.conftest import CHROMIUM, DESKTOP, NEEDS

# A new hash is rendered in a later task, so a test waits with `expect`, which runs outside the
# page: `wait_for_function` evaluates a string, which the page's security policy forbids.
api = pytest.importorskip(
    "playwright.sync_api", reason="needs Playwright: pip install -e '.[browser]'"
)
PHONE = dict(width=360, height=740)
__all__ = ["CHROMIUM", "DESKTOP", "NEEDS", "PHONE", "api"]
