"""Pages that everyone can read: contrast, size of targets, names, keyboard, words beside colours.

Measured in headless Chromium on screens of all kinds; skipped without it.
"""

import re
from itertools import pairwise

import pytest

from minise.walk import trace
from minise.walk.cases import case
from minise.walk.page import write_page
from minise.walk.pages import write_pages
from tests.browser import DESKTOP, expect
from tests.walk.pages import PAGES
from tests.walk.students import RIGHT, module, replaced

PHONE = dict(width=390, height=844)
MIN_CONTRAST, MIN_CONTRAST_SIGN = (
    4.5,
    3.0,
)  # WCAG 2.2, 1.4.3 for text and 1.4.11 for parts of a page
MIN_TARGET = 24  # CSS pixels, 2.5.8
SCREENS = [
    "squeeze_excite.html#start",
    "squeeze_excite.html#step-18",
    "softmax_cross_entropy.html#step-1",
    "mine.html#step-13",
    "mine.html#end",
    "index.html",
]

# The contrast of every text with what is behind it: backgrounds and opacities blended, from the
# page up. A gradient at the edges of a box that scrolls counts as the box without it. A button that
# is disabled is exempt.
CONTRASTS = """() => {
  const parse = (text) => (text.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
  const over = ([r, g, b, a = 1], under) => [r, g, b].map((v, k) => v * a + under[k] * (1 - a));
  const linear = (v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) =>
    0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
  const around = (node) => (node ? [...around(node.parentElement), getComputedStyle(node)] : []);
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), contrasts = [];
  while (texts.nextNode()) {
    const node = texts.currentNode.parentElement, text = texts.currentNode.data.trim();
    if (!text || !node.checkVisibility()) continue;
    if (node.closest("script, style, noscript, .sr, .skip, button:disabled")) continue;
    const styles = around(node), style = styles.at(-1);
    const blended = (under, at) => over(parse(at.backgroundColor), under);
    const back = styles.reduce(blended, [255, 255, 255]);
    const [r, g, b, a = 1] = parse(node instanceof SVGElement ? style.fill : style.color);
    const opacity = styles.reduce((product, at) => product * Number(at.opacity), a);
    const pair = [light(over([r, g, b, opacity], back)), light(back)].sort((x, y) => x - y);
    const contrast = (pair[1] + 0.05) / (pair[0] + 0.05);
    contrasts.push([contrast, text.slice(0, 30), node.outerHTML.slice(0, 90)]);
  }
  return contrasts;
}"""

# The smaller side of every target; a link in a longer sentence is exempt.
TARGETS = """() => {
  const length = (node) => (node ? node.textContent.trim().length : 0);
  const inSentence = (a) => a.matches("a") && length(a.closest("p:not(.fault)")) > length(a) + 20;
  return [...document.querySelectorAll("button, a, summary, input, td.cell, [role=button]")]
    .filter((node) => node.checkVisibility() && !node.matches(".skip") && !inSentence(node))
    .map((node) => {
      const { width, height } = node.getBoundingClientRect();
      return [Math.min(width, height), node.outerHTML.slice(0, 90)];
    });
}"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with an index, a page and the page of two planted mistakes."""
    path = tmp_path_factory.mktemp("access")
    with pytest.MonkeyPatch.context() as patch:
        few = {"Activations": [page for page in PAGES if page.subject == "relu"]}
        patch.setattr("minise.walk.pages.GROUPS", few)
        write_pages(path)
    edits = ("dv = ds * s * (1 - s)", "dv = ds * s"), ('dv @ cache["w2"]', '2 * dv @ cache["w2"]')
    ops = module(path / "mine.py", replaced(RIGHT, *edits))
    walked = trace("squeeze_excite", case("se").x, ops=ops, file=path / "mine.py")
    write_page(walked, path / "mine.html")
    return path


@pytest.fixture
def screen(opened, folder):
    """Return a function that opens a screen: one of the folder's, or one of a page of an op."""

    def go(name, **options):
        file, _, hash = name.partition("#")
        own = (folder / file).as_uri() if (folder / file).exists() else file
        return opened(own, f"#{hash}" if hash else "", **options)

    return go


@pytest.mark.parametrize("name", SCREENS)
def test_contrast_targets_and_headings(name, screen):
    """Dimmed cells, cells of full colour and the current step in the contents included."""
    tab = screen(name, viewport=DESKTOP, reduced_motion="reduce")  # colours without transitions
    if tab.locator("#entry .all").count():
        tab.click("#entry .all")
    if "#start" in name:  # with the field for a number, and what was changed
        tab.dblclick(".inputs td.cell >> nth=0")
        tab.fill("#number", "0.5")
        tab.keyboard.press("Enter")
        assert tab.locator(".changed button").count() == 2
    if "#step" in name:
        assert tab.locator(".lit td.cell:not(.on, .chosen)").count() > 2
    for scheme in ("light", "dark"):
        tab.emulate_media(color_scheme=scheme)
        expect(tab.locator("html")).to_have_attribute("data-theme", scheme)
        contrasts = tab.evaluate(CONTRASTS)
        assert len(contrasts) >= 7
        assert [contrast for contrast in contrasts if contrast[0] < MIN_CONTRAST] == []
    for size in (DESKTOP, PHONE):
        tab.set_viewport_size(size)
        for summary in tab.locator("details:not([open]) > summary").all():
            summary.click()
        assert [target for target in tab.evaluate(TARGETS) if target[0] < MIN_TARGET] == []
        assert tab.evaluate("document.documentElement.scrollWidth") <= size["width"]
    levels = tab.eval_on_selector_all(
        "h1, h2, h3, h4", "all => all.filter(h => h.checkVisibility()).map(h => +h.tagName[1])"
    )
    assert (levels[0], levels.count(1)) == (1, 1)
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert tab.get_attribute("html", "lang") == "en"


def test_a_reader_hears_rounded_numbers(screen):
    """The full number is shown to a mouse, and is no description of the cell."""
    tab = screen("squeeze_excite.html#step-18")
    labels = tab.eval_on_selector_all("td.cell", "all => all.map(c => c.ariaLabel)")
    assert "dx[0, 0, 0, 0]: 0.11" in labels
    assert "dx[0, 2, 0, 0]: \N{MINUS SIGN}2e\N{MINUS SIGN}3" in labels
    assert max(len(re.sub(r"^.*: ", "", label)) for label in labels) <= 6
    assert tab.locator("td.cell[title]").count() == 0
    tab.hover(".result td.cell[data-entry='0']")
    title = tab.get_attribute(".result td.cell[data-entry='0']", "title")
    assert title == "dx[0, 0, 0, 0]: 0.1080577310005642"


def test_a_reader_hears_which_entries_and_lines_are_wrong(screen):
    tab = screen("mine.html#step-8")
    assert tab.get_attribute(".result td.cell", "aria-label").endswith(", wrong")
    tab.click("#next")
    assert tab.text_content("[role=status]").endswith(
        "\N{BALLOT X} wrong line, inherits from dv too"
    )
    label = tab.get_attribute(".graph .node >> nth=4", "aria-label")
    assert label == "v, gradient computed, dv wrong line"


def test_wrong_lines_and_heirs_are_told_apart_in_words(screen):
    tab = screen("mine.html#end")
    marks = dict(
        zip(
            tab.locator(".summary code").all_text_contents(),
            tab.locator(".summary .verdict").all_text_contents(),
            strict=True,
        )
    )
    assert marks["ds"] == "\N{CHECK MARK} correct"
    assert marks["dv"] == "\N{BALLOT X} wrong line"
    assert marks["dw2"] == "\N{DOWNWARDS ARROW WITH TIP RIGHTWARDS} inherits from dv"
    listed = tab.locator("#list .mark").all_text_contents()
    assert [mark for mark in marks.values() if "correct" not in mark] == listed
    signs = tab.locator(".graph .sign").all_text_contents()
    assert sorted(set(signs)) == sorted({mark[0] for mark in listed})
    tab.click("#list a[href='#step-13']")
    note = tab.locator("#step .fault")
    assert (
        "this line is right, and reads the error of dv (step 8), dh (step 9)" in note.inner_text()
    )
    tab.click("#step .fault a >> text=Go to dh")
    assert "Wrong line, inherits from dv too: the mistake is in" in note.inner_text()


def test_a_route_that_is_off_is_said_in_words(screen):
    tab = screen("squeeze_excite.html#step-18")
    tab.uncheck("[data-term=dx_gate]")
    mark = tab.locator("#list a[href='#step-18'] .mark")
    expect(mark).to_have_text("\N{BALLOT X} a route is off")
    label = tab.get_attribute(".graph .node >> nth=0", "aria-label")
    assert label == "x, gradient computed, dx a route is off"
    tab.check("[data-term=dx_gate]")
    expect(mark).to_have_count(0)


def test_nodes_of_the_graph_are_reached_and_opened_with_keys(screen):
    tab = screen("squeeze_excite.html#start")
    tab.focus(".graph .node[tabindex='0']")
    for _ in range(3):
        tab.keyboard.press("ArrowRight")
    assert tab.evaluate("location.hash") == "#start"
    assert tab.evaluate("document.activeElement.textContent") == "h"
    tab.keyboard.press("Enter")
    assert tab.text_content("h2").startswith("h")
    assert tab.get_attribute(".graph .node[aria-current]", "aria-label") == "h"


def test_every_control_is_reached_with_tab_and_shows_the_focus(screen):
    tab = screen("squeeze_excite.html#step-18")
    seen = set()
    for _ in range(80):
        tab.keyboard.press("Tab")
        name, outline, stroke = tab.evaluate(
            "() => { const at = document.activeElement, style = getComputedStyle(at); return ["
            "at.id || at.className.baseVal || at.className || at.dataset.term || at.tagName,"
            "style.outlineStyle, at.querySelector('.target') &&"
            "getComputedStyle(at.querySelector('.target')).stroke]; }"
        )
        if name == "BODY":
            break
        seen.add(name.split()[0])
        assert outline != "none" or stroke not in (None, "none"), name
    assert seen >= {"skip", "printing", "theme", "back", "slider", "next", "node", "cell"}
    assert seen >= {"dx_scale", "dx_gate", "chip", "more", "quiet"}


def test_the_walk_has_states_of_nodes_without_colour(screen):
    """Not computed, computed, with a gradient, this step: outline, its width, and the radius."""
    tab = screen("squeeze_excite.html#step-10")
    looks = "all => all.map(c => [getComputedStyle(c).strokeWidth, getComputedStyle(c).r])"
    backward = tab.eval_on_selector_all(".graph circle", looks)
    assert len({tuple(look) for look in backward}) == 3
    dashes = "all => all.map(c => getComputedStyle(c).strokeDasharray)"
    tab = screen("squeeze_excite.html#step-3")
    assert len(set(tab.eval_on_selector_all(".graph circle", dashes))) == 2


def test_reduced_motion(screen):
    moving = "all => all.filter(c => getComputedStyle(c).transitionDuration !== '0s').length"
    tab = screen("squeeze_excite.html#step-18", reduced_motion="reduce")
    assert tab.eval_on_selector_all("*", moving) == 0
