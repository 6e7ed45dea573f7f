"""The traces of all pages, computed once for all tests."""

from functools import cache

import pytest

from minise.walk.pages import entries, traced

PAGES = entries()
SAMPLE = {  # between them they have every kind of screen; the other pages in .ci/long
    "batch_norm2d-evaluation", "concat", "conv2d-strided", "linear",
    "max_pool2d-overlapping", "softmax_cross_entropy", "squeeze_excite", "squeeze_excite-max",
}  # fmt: skip
each_page = pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=name, marks=[] if name in SAMPLE else pytest.mark.long)
        for page in PAGES
        for name in [page.file.removesuffix(".html")]
    ],
)


@cache
def walk_of(file):
    """Return the trace of a page by the name of its file."""
    return traced(next(page for page in PAGES if page.file == file))
