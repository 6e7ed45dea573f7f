"""The pages of the book, each traced once for all tests."""

from functools import cache

from minise.walk.book import BOOK, traced

PAGES = [page for pages in BOOK.values() for page in pages]


@cache
def walk_of(file):
    """Return the trace of a page by the name of its file."""
    return traced(next(page for page in PAGES if page.file == file))
