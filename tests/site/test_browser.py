"""Every page in headless Chromium without a network, at the widths of a desktop and a phone."""

import itertools

import pytest

pytestmark = pytest.mark.slow
WIDTHS = {"desktop": dict(width=1400, height=900), "phone": dict(width=390, height=800)}
ROOMS = ("", "lessons", "pages", "walks", "api", "source")
IN_LONG = {("api", "desktop"), ("source", "desktop")}  # many pages, of one kind


@pytest.fixture
def opened(browser, site):
    """Return a function that opens a page; teardown asserts that the console was silent."""
    console, requests, contexts = [], [], []

    def tab(width="desktop", **options):
        context = browser.new_context(viewport=WIDTHS[width], **options)
        context.set_offline(True)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: console.append(f"{page.url}: {message.text}"))
        page.on("pageerror", lambda error: console.append(f"{page.url}: {error}"))
        page.on("request", lambda request: requests.append(request.url))
        return page

    yield tab
    for context in contexts:
        context.close()
    assert console == []
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []


@pytest.mark.parametrize(
    ("room", "width"),
    [
        pytest.param(room, width, marks=pytest.mark.long if (room, width) in IN_LONG else ())
        for room in ROOMS
        for width in WIDTHS
    ],
)
def test_every_page_opens_without_a_network_and_without_sideways_scroll(room, width, opened, site):
    tab, wide = opened(width), []
    paths = sorted((site / room).glob("*.html") if not room else (site / room).rglob("*.html"))
    assert paths
    for path in paths:
        tab.goto(path.as_uri())
        if tab.evaluate("document.documentElement.scrollWidth") > WIDTHS[width]["width"]:
            wide.append(path.relative_to(site).as_posix())
        assert tab.locator("h1").count() == 1, path
    assert wide == []


def test_headings_are_in_order_and_targets_are_large(opened, site):
    for path in [site / "index.html", *(site / "lessons").glob("*.html"), *site.glob("article*")]:
        tab = opened("phone")
        tab.goto(path.as_uri())
        levels = tab.eval_on_selector_all("h1, h2, h3, h4", "all => all.map(h => +h.tagName[1])")
        assert levels[0] == 1
        assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
        small = tab.eval_on_selector_all(
            "nav a, button, input, summary",
            "all => all.filter(e => e.offsetParent && e.getBoundingClientRect().height < 24)"
            ".map(e => e.outerHTML)",
        )
        assert small == [], path


def test_search_finds_as_one_types_and_is_used_by_keyboard(opened, site):
    tab = opened()
    tab.goto((site / "index.html").as_uri())
    tab.keyboard.press("/")
    tab.keyboard.type("batch norm routes")
    assert "section" in tab.text_content("#count")
    assert tab.locator("#found mark").count() > 2
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("ArrowUp")
    assert tab.evaluate("document.activeElement === document.querySelector('#found a')")
    address = tab.get_attribute("#found a >> nth=0", "href")
    tab.keyboard.press("Enter")
    tab.wait_for_url(f"**/{address}")
    tab.go_back()
    tab.set_viewport_size(WIDTHS["phone"])
    tab.fill("#query", "batch norm")  # also finds long names of functions
    assert tab.evaluate("document.documentElement.scrollWidth") <= WIDTHS["phone"]["width"]
    tab.fill("#query", "xyzzy")
    assert tab.text_content("#count").startswith("Nothing found")
    tab.keyboard.press("Escape")
    assert tab.input_value("#query") == ""


def test_a_control_chooses_between_the_results_of_its_values(opened, site):
    tab = opened()
    tab.goto((site / "lessons" / "05_batch_norm.html").as_uri())
    group = tab.locator("[data-depends='control-far']")
    text = group.locator("> :not([hidden])").text_content
    before = text()
    tab.focus("#control-far")
    tab.keyboard.press("Home")
    assert tab.text_content("[data-says='control-far']") == "0"
    assert text() != before
    assert group.locator("> :not([hidden])").count() == 1


def test_dark_and_light_are_shared_with_the_walk(opened, site):
    paper = "getComputedStyle(document.body).backgroundColor"
    tab = opened(color_scheme="light")
    tab.goto((site / "index.html").as_uri())
    light = tab.evaluate(paper)
    tab.click("#theme")
    dark = tab.evaluate(paper)
    assert dark != light
    tab.goto((site / "walks" / "squeeze_excite.html").as_uri())
    assert tab.evaluate(paper) == dark


def test_text_has_contrast_in_both_themes(opened, site):
    """Of every text of a lesson against the nearest background that is not transparent."""
    for scheme in ("light", "dark"):
        tab = opened(color_scheme=scheme)
        for name in ("05_batch_norm", "06_squeeze_and_excitation"):
            tab.goto((site / "lessons" / f"{name}.html").as_uri())
            assert tab.evaluate(FAINT) == []


FAINT = """() => {
  const channels = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, k) => sum + v * [.2126, .7152, .0722][k], 0);
  const under = (element) => {
    const layers = [];
    for (let one = element; one; one = one.parentElement) {
      const [r, g, b, a = 1] = channels(getComputedStyle(one).backgroundColor);
      layers.push([r, g, b, a]);
      if (a === 1) break;
    }
    return layers.reverse().reduce((below, [r, g, b, a]) =>
      [r, g, b].map((v, k) => v * a + below[k] * (1 - a)), [255, 255, 255]);
  };
  const bad = new Set();
  for (const element of document.querySelectorAll("main *, header *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || element.closest("svg") || !element.offsetParent || element.disabled) continue;
    const [a, b] = [light(channels(getComputedStyle(element).color)), light(under(element))];
    const contrast = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (contrast < 4.5) bad.add(`${element.className || element.tagName}: ${contrast.toFixed(2)}`);
  }
  return [...bad];
}"""
