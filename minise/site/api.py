"""The API reference, made from the docstrings by pdoc, in the site's frame."""

import re
import warnings
from html import escape
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from types import ModuleType

import minise
from minise.site.checkout import BrokenSite

# Left out: minise.ops.cuda and cost, whose functions are those of the reference and resolve only
# where CuPy is installed or on first use; the command line, benchmarks, and old names of modules.
MODULES = (
    "minise",
    "!minise.moved",
    "!minise.cli",
    "!minise.bench",
    "!minise.site",
    "!minise.__main__",
    "!minise.ops.(cuda|cost)",
    "!minise.ops.jit.(ahead|compiler|convolution|normalisation|vector)",
)
COMPLETE = (
    "analysis data gradcheck grading lessons models nn ops.reference pictures tracing train walk"
)


def bodies() -> dict[str, tuple[str, str]]:
    """Return title and body of each page, by its address.

    Raises
    ------
    BrokenSite
        If pdoc warns, as of a docstring that cannot be read, or a public name is on no page.
    """
    import pdoc
    from pdoc import render
    from pdoc.extract import walk_specs

    templates = Path(str(files("minise.site").joinpath("assets", "api")))
    render.configure(
        docformat="numpy", search=False, show_source=False, template_directory=templates
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        names = walk_specs(list(MODULES))
        modules = {name: pdoc.doc.Module.from_name(name) for name in names}
        pages = {
            f"api/{name.replace('.', '/')}.html": (name, _tidy(render.html_module(module, modules)))
            for name, module in modules.items()
        }
    _check_complete("".join(body for _, body in pages.values()))
    items = "".join(
        f"<li><a href='{address.removeprefix('api/')}'><code>{name}</code></a> "
        f"{escape(_first(modules[name]))}</li>"
        for address, (name, _) in pages.items()
    )
    return {"api/index.html": ("API reference", f"<h1>API reference</h1><ul>{items}</ul>"), **pages}


def _first(module: object) -> str:
    """Return the first line of a docstring."""
    return str(getattr(module, "docstring", "")).partition("\n")[0]


def _tidy(html: str) -> str:
    """Return a page's body without blank lines and without checkboxes that need pdoc's style.

    Paths of files begin at the project's folder, so that no page depends on where that is.
    """
    html = re.sub(
        r"<input [^>]*type=\"checkbox\"[^>]*>|<label class=\"view-value.*?</label>", "", html
    )
    html = html.replace(f"{Path(minise.__file__).parents[1]}/", "")
    return re.sub(r"\n\s*\n+", "\n", html)


def _check_complete(html: str) -> None:
    for package in (import_module(f"minise.{name}") for name in COMPLETE.split()):
        for name in getattr(package, "__all__", dir(package)):
            hidden = name.startswith("_") or isinstance(getattr(package, name), ModuleType)
            if not hidden and f'id="{name}"' not in html:
                raise BrokenSite(f"site: {package.__name__}.{name} is on no page of the reference")
