"""Pages in headless Chromium with mouse, keyboard, touch, links and a phone's screen.

Skipped without Playwright (the extra `browser`) or without Chromium.
"""

import json
import re
import socket

import numpy as np

from minise.walk import trace
from minise.walk.cases import case
from minise.walk.page import write_page
from minise.walk.pages import write_pages
from tests.browser import DESKTOP, PHONE, expect
from tests.walk.pages import PAGES, each_page, walk_of
from tests.walk.students import RIGHT, module

SE = "squeeze_excite.html"


def numbers(tab, selector):
    """Return the numbers in the cells of a figure, in the order of the array."""
    cells = tab.eval_on_selector_all(
        f"{selector} td.cell", "cells => cells.map(c => [Number(c.dataset.entry), c.dataset.value])"
    )
    return [json.loads(value) for _, value in sorted(cells)]


@each_page
def test_every_step_shows_the_traces_numbers(page, opened):
    """From the first screen to the last with the Next button: reads, result, code, check."""
    walked = walk_of(page.file)
    tab = opened(page.file)
    for step in walked.steps:
        tab.click("#next")
        assert tab.evaluate("location.hash") == f"#step-{step.number + 1}"
        np.testing.assert_array_equal(numbers(tab, ".result"), step.value.ravel())
        for k, read in enumerate(step.reads):
            shown = numbers(tab, f".reads figure:nth-of-type({k + 1})")
            assert shown == read.value.ravel().tolist()
        assert tab.text_content(".source pre") == step.code
        assert tab.text_content(".source .at") == f"{step.file}:{step.line}"
        assert tab.query_selector(".rule math") is not None
        verdict = tab.query_selector(".verdict")
        assert (verdict is None) == (step.check is None)
        assert verdict is None or "agrees" in verdict.text_content()
    tab.click("#next")
    assert tab.evaluate("location.hash") == "#end"
    assert tab.locator(".summary .verdict").count() == sum(
        s.check is not None for s in walked.steps
    )
    assert tab.is_disabled("#next")


@each_page
def test_a_phone_needs_no_sideways_scroll(page, opened):
    tab = opened(page.file, viewport=PHONE, has_touch=True, is_mobile=True)
    for _ in range(len(walk_of(page.file).steps) + 2):
        assert tab.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        if tab.is_enabled("#next"):
            tab.tap("#next")


def test_keys_and_links(opened):
    tab = opened(SE, "#step-7")
    assert tab.text_content("h2").startswith("dx_scale")
    for key, expected in (
        ("ArrowRight", "#step-8"),
        ("ArrowLeft", "#step-7"),
        ("Home", "#start"),
        ("ArrowLeft", "#start"),
        ("End", "#end"),
        ("ArrowRight", "#end"),
    ):
        tab.keyboard.press(key)
        assert tab.evaluate("location.hash") == expected
    tab.evaluate("location.hash = '#step-14-entry-4'")
    expect(tab.locator("h3")).to_have_text(re.compile(r"^dz\[1, 1, 0, 0\]"))
    assert tab.get_attribute("#list a[aria-current]", "href") == "#step-14"
    tab.click("#list a[href='#step-2']")
    expect(tab.locator("h2")).to_have_text(re.compile("^u"))
    tab.evaluate("location.hash = '#step-999'")
    expect(tab.locator("h2")).to_have_text("All gradients")


def test_arrows_in_a_table_go_from_number_to_number(opened):
    tab = opened(SE, "#step-18")
    tab.focus(".result td.cell[tabindex='0']")
    for key, entry in (("ArrowRight", "0, 0, 0, 1"), ("ArrowDown", "0, 0, 1, 1")):
        tab.keyboard.press(key)
        assert tab.text_content("h3").startswith(f"dx[{entry}]")
    assert tab.evaluate("location.hash") == "#step-18-entry-4"
    for key, entry in (("End", 5), ("Home", 3), ("ArrowRight", 4)):
        tab.keyboard.press(key)
        assert tab.evaluate("location.hash") == f"#step-18-entry-{entry}"
    tab.keyboard.press("Escape")
    tab.keyboard.press("ArrowLeft")
    assert tab.evaluate("location.hash") == "#step-17"


def test_pointing_lights_up_what_an_entry_depends_on(opened):
    """dz[1, 1, 0, 0] depends on du[1, :] and w1[:, 1]."""
    tab = opened(SE, "#step-14")
    lit = "cells => cells.map(c => Number(c.dataset.entry))"
    tab.hover(".result td.cell[data-entry='4']")
    assert tab.eval_on_selector_all(".reads figure:nth-of-type(1) td.on", lit) == [2, 3]
    assert tab.eval_on_selector_all(".reads figure:nth-of-type(2) td.on", lit) == [1, 4]
    tab.hover(".reads figure:nth-of-type(1) td.cell[data-entry='3']")  # du[1, 1]
    assert tab.eval_on_selector_all(".result td.on", lit) == [3, 4, 5]
    assert tab.text_content("h3").startswith("du[1, 1, 0, 0]")


def test_a_sum_is_written_out_and_unfolds_to_the_inputs(opened):
    """The terms of an entry of dx, unfolded down to the inputs; they sum to the entry."""
    walked = walk_of(SE)
    tab = opened(SE, "#step-18-entry-7")
    products = "rows => rows.map(row => Number(row.dataset.product))"
    terms = tab.eval_on_selector_all("#entry tr[data-product]", products)
    dx = walked.steps[-1].value.ravel()[7]
    assert abs(sum(terms) - dx) <= 4e-16 * (sum(map(abs, terms)) + abs(dx))
    for _ in range(20):
        folded = tab.query_selector_all("#entry .more[aria-expanded='false']")
        if not folded:
            break
        folded[0].click()
    names = set(tab.eval_on_selector_all("#entry .chip", "chips => chips.map(c => c.textContent)"))
    assert {"dx_scale[0, 1, 0, 1]", "dx_gate[0, 1, 0, 0]", "dz[0, 1, 0, 0]"} <= names
    assert {"dout[0, 1, 0, 1]", "ds[0, 0, 0, 0]", "dout[0, 2, 1, 2]"} <= names


def test_opened_sums_survive_a_look_elsewhere(opened):
    tab = opened(SE, "#step-18-entry-7")
    count = "#entry .more[aria-expanded='true']"
    tab.click("#entry .more >> nth=1")
    tab.hover(".reads figure:nth-of-type(1) td.cell[data-entry='3']")
    assert tab.locator(count).count() == 0
    tab.hover("h2")
    assert tab.locator(count).count() == 1
    tab.click("#entry .all")
    assert tab.locator(count).count() == 0
    tab.click("#entry .all")
    assert tab.locator(count).count() > 10
    assert tab.text_content("#entry .all") == "Fold all"


def test_factors_lead_to_their_step_and_back_returns(opened):
    tab = opened(SE, "#step-7")
    tab.click("#entry .chip >> text=s[0")
    assert tab.evaluate("location.hash").startswith("#step-5")
    tab.go_back()
    expect(tab.locator("h2")).to_have_text(re.compile("^dx_scale"))
    assert tab.evaluate("location.hash") == "#step-7"


def test_what_a_relu_cuts_off_is_named(opened):
    tab = opened(SE, "#step-13-entry-1")
    assert "cut off: h[0, 1, 0, 0] is 0" in tab.text_content("#entry")
    tab = opened(SE, "#step-3-entry-1")
    entry = tab.text_content("#entry")
    assert "du[" not in entry[entry.index("Used by") :]


def test_routes_are_switched_on_and_off(opened):
    walked = walk_of(SE)
    by_name = {step.name: step.value for step in walked.steps}
    tab = opened(SE, "#step-18")
    edges = "document.querySelectorAll('.graph .edge.backward').length"
    assert tab.evaluate(edges) == 2
    tab.uncheck("[data-term=dx_gate]")
    np.testing.assert_array_equal(numbers(tab, ".result"), by_name["dx_scale"].ravel())
    assert "a route is switched off" in tab.text_content(".verdict")
    assert tab.evaluate(edges) == 1
    tab.uncheck("[data-term=dx_scale]")
    assert not np.any(numbers(tab, ".result"))
    tab.check("[data-term=dx_gate]")
    expected = np.broadcast_to(by_name["dx_gate"], walked.steps[-1].shape)
    np.testing.assert_array_equal(numbers(tab, ".result"), expected.ravel())
    tab.check("[data-term=dx_scale]")
    assert "agrees" in tab.text_content(".verdict")


def test_the_graph_and_names_lead_to_steps(opened):
    tab = opened(SE, "#step-18")
    tab.click("#entry .chip >> nth=1")
    assert tab.text_content("h2").startswith("dx_gate")
    tab.click(".graph .node >> text=v")
    assert tab.text_content("h2").startswith("dv")
    tab.keyboard.press("Home")
    tab.click(".graph .node >> text=v")
    assert tab.text_content("h2").startswith("v")


def test_touch_chooses_an_entry(opened):
    tab = opened(SE, "#step-18", viewport=PHONE, has_touch=True, is_mobile=True)
    tab.tap(".result td.cell[data-entry='5']")
    assert tab.text_content("h3").startswith("dx[0, 0, 1, 2]")


def test_a_tapped_number_is_written_out_in_sight(opened):
    tab = opened(SE, "#step-18", viewport=PHONE, has_touch=True, is_mobile=True)
    tab.tap(".reads figure:nth-of-type(2) td.cell[data-entry='4']")
    assert tab.text_content("h3").startswith("dx_gate[1, 1, 0, 0]")
    top = tab.evaluate("document.querySelector('h3').getBoundingClientRect().top")
    assert 0 <= top <= PHONE["height"] - 100


def test_dark_and_light(opened):
    paper = "getComputedStyle(document.body).backgroundColor"
    tab = opened(SE, color_scheme="dark")
    dark = tab.evaluate(paper)
    tab.click("#theme")
    assert tab.evaluate(paper) != dark
    assert opened(SE, color_scheme="light").evaluate(paper) == tab.evaluate(paper)


def test_a_reader_hears_every_number_and_step(opened):
    tab = opened(SE)
    tab.click("#next")
    assert tab.text_content("[role=status]") == "Step 1 of 18, forward: z = mean[i,j] x"
    words = tab.get_attribute(".result td.cell", "aria-label")
    assert words.startswith("z[0, 0, 0, 0]: ")
    unnamed = "els => els.filter(e => !e.textContent.trim() && !e.ariaLabel).length"
    assert tab.eval_on_selector_all("button, a, summary", unnamed) == 0
    assert tab.get_attribute(".graph svg", "aria-label").startswith("Graph of the forward pass: x")


def test_a_wrong_line_is_marked(opened, tmp_path):
    path = tmp_path / "mine.py"
    ops = module(path, RIGHT.replace("dv = ds * s * (1 - s)", "dv = ds * s"))
    walked = trace("squeeze_excite", case("se").x, ops=ops, file=path)
    write_page(walked, tmp_path / "mine.html")
    number = next(step.number for step in walked.steps if step.name == "dv")
    tab = opened((tmp_path / "mine.html").as_uri(), f"#step-{number + 1}")
    assert "does not agree" in tab.text_content(".verdict")
    assert tab.locator(".result td.wrong").count() == walked.steps[number].value.size
    assert "dv" in tab.locator("#list .bad").all_text_contents()


def test_the_index_leads_to_its_pages(opened, tmp_path, monkeypatch):
    few = {"Activations": [page for page in PAGES if page.subject == "relu"]}
    monkeypatch.setattr("minise.walk.pages.GROUPS", few)
    write_pages(tmp_path)
    tab = opened((tmp_path / "index.html").as_uri(), viewport=PHONE)
    assert tab.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert tab.get_attribute(".index a", "href") == "relu.html"
    assert 'href="index.html"' in (tmp_path / "relu.html").read_text()


def test_no_page_needs_the_network(opened, monkeypatch):
    def refuse(*arguments):
        raise AssertionError("a connection")

    monkeypatch.setattr(socket, "create_connection", refuse)
    tab = opened(SE, "#end")
    assert tab.evaluate("performance.getEntriesByType('resource').length") == 0


def test_a_page_in_a_notebooks_frame_works_as_one_of_its_own(browser, tmp_path):
    """A frame in a closed <details> has no width, so the page cannot yet choose its layout."""
    (tmp_path / "notebook.html").write_text(walk_of(SE)._repr_html_(), encoding="utf-8")
    tab, errors = browser.new_page(viewport=DESKTOP), []
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.goto((tmp_path / "notebook.html").as_uri())
    tab.locator("summary").click()
    frame = tab.frame_locator("iframe")
    frame.locator("#list a").nth(9).click()
    assert "step 9 of" in frame.locator("#step").inner_text()
    frame.locator("#next").click()
    assert "step 10 of" in frame.locator("#step").inner_text()
    assert errors == []
    tab.close()
