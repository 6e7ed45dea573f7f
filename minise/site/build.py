"""Build the site: make all parts in two processes, write them to a new folder, and rename it."""

import importlib.util
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from minise.atomic import TEMPORARY, writing
from minise.site import parts
from minise.site.checkout import ARTICLE, BrokenSite, Checkout
from minise.site.frame import Link, asset, page, shared_files
from minise.site.notebook import notebook
from minise.site.parts import Part
from minise.site.search import index_of

MARKER = ".minise-site"  # the list of the files of a build, in its folder
MODULES = {"marimo", "matplotlib", "latex2mathml", "nbformat", "pdoc"}
MAX_BYTES = 15_000_000
PROCESSES = 2
REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
SOURCES = ("minise/ops/reference",)  # folders whose files all have pages


class Written(NamedTuple):
    """The size of a site."""

    pages: int
    size: int  # bytes of all files


def check(folder: Path, repository: str = "", *, api: bool = True) -> None:
    """Check that the site can be built into a folder.

    Raises
    ------
    ValueError
        If the folder is a file, cannot be made, or holds something else than the files of a build,
        if the repository is not OWNER/NAME, if a package is missing, or if there is no checkout.
    """
    if repository and not REPOSITORY.fullmatch(repository):
        raise ValueError(
            f"site: repository is {repository!r}, expected OWNER/NAME, such as octocat/minise"
        )
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"site: {folder} is a file, expected a folder: pass another path")
    parents = Path(os.path.realpath(folder)).parents
    above = next(parent for parent in parents if parent.exists())
    if not (above.is_dir() and os.access(above, os.W_OK | os.X_OK)):
        raise ValueError(
            f"site: {folder} cannot be made in {above}, expected a folder that can be written: "
            "pass another path"
        )
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARKER).is_file():
        raise ValueError(
            f"site: {folder} is not empty and holds no earlier site, expected a new or an empty "
            "folder: pass another path"
        )
    if folder.is_dir() and (own := _not_of_a_build(folder)):
        raise ValueError(
            f"site: {folder} has {own}, which no build has written, expected the files of an "
            "earlier site: move it elsewhere, or pass another path"
        )
    wanted = MODULES if api else MODULES - {"pdoc"}
    if missing := sorted(name for name in wanted if importlib.util.find_spec(name) is None):
        raise ValueError(
            f"site: {', '.join(missing)} cannot be imported, expected the packages of the extra "
            "site: pip install -e '.[site]'"
        )
    Checkout()


def _not_of_a_build(folder: Path) -> str:
    """Return the first file in a folder that its MARKER does not list, or ""."""
    if not any(folder.iterdir()):
        return ""
    text = (folder / MARKER).read_text(encoding="utf-8", errors="replace")
    listed = set(text.splitlines())
    files = (path for path in sorted(folder.rglob("*")) if path.is_symlink() or not path.is_dir())
    names = (path.relative_to(folder).as_posix() for path in files)
    return next((name for name in names if name not in listed), "")


def build(
    folder: Path,
    repository: str = "",
    *,
    api: bool = True,
    say: Callable[[str], None] = lambda text: None,
) -> Written:
    """Build the site.

    Parameters
    ----------
    folder : path
        The output folder: a new or empty folder, or one with an earlier site, which is replaced.
    repository : str, optional
        "OWNER/NAME" on GitHub, for the badges and the install cells of the notebooks.
    api : bool
        Whether the API reference is built.
    say : callable
        Called with a line about each part.

    Raises
    ------
    ValueError
        As `check`.
    BrokenSite
        If a link leads nowhere, a formula cannot be read, or the site is larger than MAX_BYTES.
    OSError
        If the folder cannot be written; then an earlier site is unchanged.
    """
    check(folder, repository, api=api)
    site = _site(Checkout(), repository, api, say)
    size = sum(len(text.encode()) for text in site.files.values())
    if size > MAX_BYTES:
        raise BrokenSite(f"site: it has {size:,} bytes, expected at most {MAX_BYTES:,}")
    site.files[MARKER] = "".join(f"{address}\n" for address in sorted({*site.files, MARKER}))
    with _replacing(folder) as new:
        for address, text in site.files.items():
            path = new / address
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return Written(len(site.titles), size)


def _site(checkout: Checkout, repository: str, api: bool, say: Callable[[str], None]) -> Part:
    """Make all files."""
    site = Part()

    def add(name: str, made: list[Part]) -> None:
        part = Part()
        for piece in made:
            part.add_all(piece)
        if not part.files:
            return
        site.add_all(part)
        size = sum(len(text.encode()) for text in part.files.values())
        say(f"{name}: {len(part.files)} files, {size / 1e6:.1f} MB")

    with _processes() as pool:
        try:
            for name, futures in _begin(pool, checkout, repository, api).items():
                made = [future.result() for future in futures]
                add(name, [*made, _index_of_walks(made)] if name == "walks" else made)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    site.files |= shared_files()
    names = site.sources | {
        path.relative_to(checkout.root).as_posix()
        for folder in SOURCES
        for path in (checkout.root / folder).glob("*.py")
    }
    add("sources", [parts.sources(names)])
    add("search", [_start(checkout, site)])
    site.files[".nojekyll"] = ""
    return site


def _begin(
    pool: ProcessPoolExecutor, checkout: Checkout, repository: str, api: bool
) -> "dict[str, list[Future[Part]]]":
    """Start to make all pages in other processes: first the quick ones, which fail most often."""
    from minise.walk.pages import entries

    start, lessons = pool.submit, checkout.lessons
    return {
        "pages": [start(parts.markdown, name) for name in checkout.pages if name != ARTICLE],
        "article": [start(parts.computed_article)] if ARTICLE in checkout.pages else [],
        "lessons": [start(parts.lesson, name, around) for name, around in _in_order(checkout)],
        "notebooks": [start(notebook_of, name, repository) for name in lessons],
        "API reference": [start(parts.api)] if api else [],
        "walks": [start(parts.walk, number) for number in range(len(entries()))],
    }


@contextmanager
def _processes() -> Iterator[ProcessPoolExecutor]:
    """Yield processes in which sets have one order, so that two builds print the same."""
    before = os.environ.get("PYTHONHASHSEED")
    os.environ["PYTHONHASHSEED"] = "0"
    try:
        with ProcessPoolExecutor(PROCESSES, get_context("spawn"), _one_thread) as pool:
            yield pool
    finally:
        del os.environ["PYTHONHASHSEED"]
        if before is not None:
            os.environ["PYTHONHASHSEED"] = before


def _index_of_walks(walks: list[Part]) -> Part:
    """Make the page that lists the walks."""
    from minise.walk.pages import index_page

    address, back = "walks/index.html", "<a class='home' href='../index.html'>minise</a> "
    html = index_page([walk.item for walk in walks], back)
    return Part(files={address: html}, titles={address: "Every number of a backward pass"})


def _in_order(checkout: Checkout) -> Iterator[tuple[str, tuple[Link | None, Link | None]]]:
    """Yield each lesson with links to the one before and the one after."""
    links: list[Link | None] = [None]
    for name in checkout.lessons:
        title = re.search(r"^ +# (\d+\. .+)$", checkout.text(name), re.MULTILINE)
        links.append(Link(checkout.addresses[name], title[1] if title else Path(name).stem))
    links.append(None)
    for k, name in enumerate(checkout.lessons):
        yield name, (links[k], links[k + 2])


def notebook_of(name: str, repository: str) -> Part:
    """Make the notebook of a lesson."""
    path = Checkout().root / name
    return Part(files={f"notebooks/{path.stem}.ipynb": notebook(path, repository)})


def _start(checkout: Checkout, site: Part) -> Part:
    """Make the start page and the search index."""
    says = {section.address: section.text for section in reversed(site.sections)}
    title, body = parts.start(checkout, site.titles, lambda page: _sentence(says.get(page, "")))
    made = Part(titles={"index.html": title})
    made.files["index.html"] = page(
        "index.html", title, body, script=asset("search.js"), wide=True, scripts=["search-index.js"]
    )
    made.files["search-index.js"] = index_of(site.sections)
    return made


def _sentence(text: str, max_length: int = 160) -> str:
    """Return the first sentence of a text, or its first words."""
    first = re.split(r"(?<=[.:?]) ", text, maxsplit=1)[0]
    return first if len(first) <= max_length else first[:max_length].rsplit(" ", 1)[0] + " …"


def _one_thread() -> None:
    """Let a process compute with one thread, so that sums have one order."""
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)


@contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """Yield a new folder that takes the place of another at the end, if nothing fails."""
    target = Path(os.path.realpath(folder))
    new, old = (_temporary(target) for _ in range(2))
    with writing(folder):
        target.parent.mkdir(parents=True, exist_ok=True)
        new.mkdir()
        try:
            yield new
            if target.exists():
                target.rename(old)
            try:
                new.rename(target)
            except BaseException:
                with suppress(OSError):
                    old.rename(target)
                raise
        finally:
            shutil.rmtree(new, ignore_errors=True)
            if target.exists():
                shutil.rmtree(old, ignore_errors=True)


def _temporary(target: Path) -> Path:
    return target.parent / TEMPORARY.replace("*", uuid.uuid4().hex)
