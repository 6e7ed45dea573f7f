"""The texts that the site shows, in a checkout of the project, and the address of each page."""

import posixpath
from functools import cached_property
from pathlib import Path

import minise

MARKDOWN = ("README.md", "minise/bench/README.md", ".github/C*.md", "tutorials/*.md")
MARKDOWN_PAGES = "tutorials/pages/"  # a folder; its folders' pages are in folders, too
ARTICLE = "tutorials/article.md"
LANGUAGES = ("cff", "cpp", "css", "cu", "cuh", "h", "js", "json", "md", "py", "toml", "txt")
TEXT = {"", *(f".{language}" for language in LANGUAGES)}  # suffixes of files with a page


class BrokenSite(ValueError):
    """A text of the site is wrong, such as a link that leads nowhere; the message names it."""


class Checkout:
    """A folder with the project's package, tutorials and pages.

    Parameters
    ----------
    root : path, optional
        The folder; by default the one that contains the package.

    Raises
    ------
    ValueError
        If it has no lessons, as where the package is installed from a wheel.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or Path(minise.__file__).parents[1]
        if not self.lessons:
            raise ValueError(
                f"site: {self.root} has no tutorials, expected a checkout of the project: get its "
                "sources, and install them with pip install -e '.[site]'"
            )

    @cached_property
    def lessons(self) -> list[str]:
        """The lessons in order, such as "tutorials/01_chain_rule.py"."""
        return self._glob("tutorials/[0-9]*.py")

    @cached_property
    def pages(self) -> dict[str, str]:
        """The Markdown files, and the address of each one's page."""
        files = [name for pattern in MARKDOWN for name in self._glob(pattern)]
        pages = {name: f"pages/{_stem(name)}.html" for name in files}
        for name in self._glob(f"{MARKDOWN_PAGES}**/*.md"):
            pages[name] = f"pages/{name.removeprefix(MARKDOWN_PAGES).removesuffix('.md')}.html"
        if ARTICLE in pages:
            pages[ARTICLE] = "article.html"
        return pages

    @cached_property
    def addresses(self) -> dict[str, str]:
        """The address of the page of each lesson, Markdown file and folder that has one."""
        lessons = {name: f"lessons/{Path(name).stem}.html" for name in self.lessons}
        return {**lessons, **self.pages, "tutorials": "pages/tutorials.html"}

    def text(self, name: str) -> str:
        """Return the text of a file."""
        return (self.root / name).read_text(encoding="utf-8")

    def is_source(self, name: str) -> bool:
        """Return whether a file or folder may have a page with its source."""
        path = self.root / name
        if not name or name.startswith(("..", "/")) or "__pycache__" in name:
            return False
        return path.is_dir() or (path.is_file() and path.suffix in TEXT)

    def address(self, name: str) -> str:
        """Return the address of a file's page, or "" if it can have none."""
        if name in self.addresses:
            return self.addresses[name]
        return f"source/{name}.html" if self.is_source(name) else ""

    def _glob(self, pattern: str) -> list[str]:
        return sorted(path.relative_to(self.root).as_posix() for path in self.root.glob(pattern))


def _stem(name: str) -> str:
    """Return the name of a Markdown file's page: a README's is its folder's."""
    folder, file = posixpath.split(name)
    if file == "README.md":
        return posixpath.basename(folder) or "readme"
    return file.removesuffix(".md").lower()
