"""Pages in headless Chromium, for the tests that need a browser."""

import pytest

from minise.walk.page import write_page
from tests import browser as chromium
from tests.walk.pages import walk_of

browser = chromium.browser  # a fixture


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Return a function that writes a page once and returns its address."""
    folder = tmp_path_factory.mktemp("pages")

    def address(name):
        path = folder / name
        if not path.exists():
            write_page(walk_of(name), path)
        return path.as_uri()

    return address


@pytest.fixture
def opened(browser, files):
    """Return a function that opens a page; teardown asserts no console output and no requests."""
    console, requests, contexts = [], [], []

    def go(name, hash="", **options):
        context = browser.new_context(**{"viewport": chromium.DESKTOP, **options})
        contexts.append(context)
        tab = context.new_page()
        tab.on("console", lambda message: console.append(message.text))
        tab.on("pageerror", lambda error: console.append(str(error)))
        tab.on("request", lambda request: requests.append(request.url.partition("#")[0]))
        tab.goto((name if ":" in name else files(name)) + hash)
        return tab

    yield go
    for context in contexts:
        context.close()
    assert console == []
    assert len(requests) == len(contexts)
    assert all(address.startswith("file:") for address in requests)
