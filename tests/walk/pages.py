"""The traces of all pages, computed once for all tests."""

from functools import cache

from minise.walk.pages import entries, traced

PAGES = entries()


@cache
def walk_of(file):
    """Return the trace of a page by the name of its file."""
    return traced(next(page for page in PAGES if page.file == file))
