"""Every link works on the site and in a running lesson; those on a forge: tests/test_readme.py."""

import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[2]
TUTORIALS = ROOT / "tutorials"
LESSONS = sorted(TUTORIALS.glob("[0-9]*.py"))
HOSTS = {
    *("arxiv.org", "github.com", "colab.research.google.com", "marimo.io", "pdoc.dev"),
    *("www.cs.toronto.edu", "hypothesis.readthedocs.io", "semver.org"),
}
MAX_BYTES = 15_000_000


class Page(HTMLParser):
    """The links, ids and names of elements of a page."""

    def __init__(self, text):
        super().__init__()
        self.links, self.ids, self.tags = [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.tags.add(tag)
        self.ids += filter(None, [values.get("id")])
        self.links += [values[name] for name in ("href", "src") if values.get(name)]


@pytest.fixture(scope="module")
def pages(site):
    """Return the parsed pages by path."""
    return {path: Page(path.read_text()) for path in sorted(site.rglob("*.html"))}


@pytest.mark.slow
def test_every_link_of_the_site_leads_to_a_file_and_a_place_in_it(site, pages):
    broken = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme in ("https", "data", "mailto"):
                continue
            target = path if not parts.path else (path.parent / unquote(parts.path)).resolve()
            inside = target.is_relative_to(site.resolve()) or target == path
            known = target.suffix != ".html" or not parts.fragment or _has(pages, target, parts)
            own = not parts.scheme and parts.query in ("", "embed") and inside
            if not (own and target.is_file() and known):
                broken.append(f"{path.relative_to(site)}: {link}")
    assert broken == []


def _has(pages, target, parts):
    """Return whether a page has the place of a fragment; a walk makes its places by a script."""
    page = next((page for path, page in pages.items() if path.resolve() == target), None)
    return page is not None and (parts.fragment in page.ids or target.parent.name == "walks")


@pytest.mark.slow
def test_pages_have_one_title_each_and_no_element_of_marimos(pages):
    for path, page in pages.items():
        assert {"title", "h1"} <= page.tags, path
        assert not [tag for tag in page.tags if tag.startswith("marimo")], path
        if path.parent.name != "walks":
            assert page.ids.count("main") == 1


@pytest.mark.slow
def test_links_to_the_web_are_few_and_none_is_to_this_machine(site, pages):
    links = {link for page in pages.values() for link in page.links if ":" in link}
    hosts = {urlsplit(link).netloc for link in links if not link.startswith("data:")}
    assert hosts <= HOSTS
    for path in filter(Path.is_file, site.rglob("*")):
        assert str(ROOT) not in path.read_text(), path
    assert not any(link.startswith(("http:", "file:", "/")) for link in links)


@pytest.mark.slow
def test_the_site_is_small(site):
    assert sum(path.stat().st_size for path in site.rglob("*") if path.is_file()) < MAX_BYTES


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_links_to_what_a_server_of_lessons_has(path):
    """Another lesson, the list of lessons, a heading, or the web; a source is named in code."""
    names = {lesson.name for lesson in LESSONS}
    text = path.read_text()
    for link in re.findall(r"\]\(([^)]+)\)", text):
        if link.startswith("?file="):
            assert link.removeprefix("?file=").partition("#")[0] in names, link
        else:
            assert link == "./" or link.startswith(("#", "https://")), link
    for name in re.findall(r"`((?:minise|tests|tutorials)/[\w./-]+)`", text):
        assert (ROOT / name).exists(), name


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["edit", "run"])
def test_every_link_between_lessons_is_served(verb):
    pytest.importorskip("marimo", reason="needs marimo: pip install -e '.[tutorials]'")
    links = {
        link.partition("#")[0]
        for path in LESSONS
        for link in re.findall(r"\]\(([^)]+)\)", path.read_text())
        if not link.startswith(("#", "https:"))
    }
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = ["-m", "marimo", "-q", verb, str(TUTORIALS), "--headless", "--port", str(port)]
    quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with subprocess.Popen([sys.executable, *command, "--no-token"], **quiet) as server:
        try:
            home = f"http://localhost:{port}/"
            _wait_for(home, server)
            for link in sorted(links):
                with urllib.request.urlopen(home + link.removeprefix("./"), timeout=60) as answer:
                    assert answer.status == 200
                    name = link.removeprefix("?file=") if link != "./" else ""
                    assert name in answer.read().decode()
            with pytest.raises(urllib.error.HTTPError):  # so a link that is not served is noticed
                urllib.request.urlopen(home + "?file=12_missing.py", timeout=60)
        finally:
            server.terminate()
            server.wait(30)


def _wait_for(address, server):
    end = time.monotonic() + 120
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(address, timeout=10):
                return
        except OSError:
            assert server.poll() is None, "the server has ended"
            time.sleep(0.2)
    raise TimeoutError(address)
