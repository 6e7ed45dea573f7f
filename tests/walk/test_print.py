"""A printed page is the whole walk: every step, black on white, with no table cut off."""

import re

import numpy as np
import pytest

from minise.walk import trace
from minise.walk.page import write_page
from tests.walk.pages import walk_of

PAPER = dict(width=688, height=1000)  # CSS pixels of A4 between its margins


@pytest.fixture
def printed(opened):
    """Return a function that opens a page as its print preview."""

    def go(name):
        tab = opened(name, "#step-2", viewport=PAPER, color_scheme="dark")
        tab.emulate_media(media="print", color_scheme="dark")
        tab.evaluate("dispatchEvent(new Event('beforeprint'))")
        return tab

    return go


@pytest.mark.parametrize("name", ["squeeze_excite.html", "conv2d.html", "linear.html"])
def test_every_step_is_on_paper(name, printed):
    walked = walk_of(name)
    tab = printed(name)
    assert walked.title in tab.inner_text("#paper h1")
    assert tab.locator("#paper .story > *").count() == len(walked.story)
    sheets = tab.locator("#paper .sheet.forward, #paper .sheet.backward")
    assert sheets.count() == len(walked.steps)
    for step, sheet in zip(walked.steps, sheets.all(), strict=True):
        text = sheet.inner_text()
        assert f"Step {step.number + 1}: {step.name}" in text
        assert step.code in text
        assert f"{step.file}:{step.line}" in text
        assert step.reason.split("`")[0] in text
        assert ("entries agree with the complex-step" in text) == (step.check is not None)
        assert sheet.locator("math").count() == 1
        sizes = [step.value.size, *(read.value.size for read in step.reads)]
        assert sheet.locator("td.cell").count() == sum(sizes)


def test_paper_is_black_on_white_and_has_no_controls(printed):
    tab = printed("squeeze_excite.html")
    colours = (
        "all => [...new Set(all.filter(e => e.checkVisibility())"
        ".map(e => getComputedStyle(e)).map(s => s.color + s.backgroundColor))]"
    )
    shown = tab.eval_on_selector_all("#paper *", colours)
    assert shown == ["rgb(0, 0, 0)rgba(0, 0, 0, 0)"]
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    visible = "all => all.filter(e => e.checkVisibility()).length"
    controls = "button, input, select, nav, summary, .player"
    assert tab.eval_on_selector_all(controls, visible) == 0
    tab.evaluate("dispatchEvent(new Event('afterprint'))")
    assert tab.locator("#paper *").count() == 0


def test_wide_tables_wrap(printed, tmp_path):
    """Thirty columns, and thirty channels side by side."""
    wide = trace("relu", np.arange(1.0, 61.0).reshape(2, 30) - 30)
    write_page(wide, tmp_path / "columns.html")
    images = trace("add", [np.ones((1, 30, 2, 3)), np.arange(180.0).reshape(1, 30, 2, 3)])
    write_page(images, tmp_path / "channels.html")
    for name in ("columns", "channels"):
        tab = printed((tmp_path / f"{name}.html").as_uri())
        assert tab.evaluate("document.documentElement.scrollWidth") <= PAPER["width"]
        right = "all => Math.max(...all.map(e => e.getBoundingClientRect().right))"
        assert tab.eval_on_selector_all("#paper *", right) <= PAPER["width"]
        hidden = "all => all.filter(e => e.scrollWidth > e.clientWidth + 1 && e.clientWidth).length"
        assert tab.eval_on_selector_all("#paper .blocks, #paper .scroll", hidden) == 0
    assert tab.locator("#paper .sheet >> nth=0 >> td.cell").count() == 3 * 180


def test_chromium_prints_the_whole_walk(opened):
    """Through the browser's own printing, which calls the page's handlers."""
    tab = opened("linear.html", "#step-1")
    pdf = tab.pdf(format="A4")
    pages = len(re.findall(rb"/Type\s*/Page\b", pdf))
    assert 2 <= pages <= len(walk_of("linear.html").steps) + 3
    assert tab.locator("#paper *").count() == 0
    assert tab.is_visible("#printing")
