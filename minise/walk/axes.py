"""Letters of the axes of an op's arrays, as the op's own source gives their shapes.

Shapes are read in this order: the op's line in SHAPES, the comments of its cache, the sections
of both docstrings, and the lines ``u = …   (N, R, 1, 1)`` of the module's docstring.
"""

import inspect
import re
import sys
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from typing import Any, get_type_hints

from minise.contract.case import OPS
from minise.contract.case import line as shapes_of
from minise.ops import reference
from minise.ops.shapes import parse

LETTERS = {
    "H": "i",
    "W": "j",
    "OH": "p",
    "OW": "q",
    "KH": "a",
    "KW": "b",
    "P": "i",
    "Q": "j",
    "PH": "i",
    "PW": "j",
}
RANKS = {1: "c", 2: "nc", 3: "nci", 4: "ncij"}  # of arrays of which the source says nothing
COUNTED = {
    "n": "images", "c": "channels", "i": "rows", "j": "columns", "k": "filters",
    "a": "rows of the kernel", "b": "columns of the kernel", "p": "rows of what comes out",
    "q": "columns of what comes out", "r": "hidden units", "o": "outputs",
}  # fmt: skip
SHAPE = r"\(([A-Z0-9][A-Z0-9/ ,]*?),?\)"


def axes_of(
    op: str, name: str, shape: tuple[int, ...], sizes: Mapping[str, int]
) -> tuple[str, ...]:
    """Return a letter for each axis of what an op knows by a name.

    A gradient has the letters of what it is the gradient of, dx_gate those of x. What the source
    does not name has those of out, or of the first array that has as many axes, as long.
    """
    known = documented(op)
    bare = re.sub(r"\[\d+\]$", "", name)
    stems = [bare, bare.partition("_")[0]]
    stems += [stem[1:] for stem in stems if stem.startswith("d")]
    for stem in stems:
        if stem in known and len(known[stem]) == len(shape):
            return known[stem]
    like = [known[stem] for stem in ("out", *known) if stem in known]
    like = [axes for axes in like if len(axes) == len(shape)]
    for axes in like:
        if all(sizes.get(axis, n) == n for axis, n in zip(axes, shape, strict=True)):
            return axes
    return tuple(RANKS.get(len(shape), "abcdefgh"[: len(shape)]))


def counted(letters: Collection[str]) -> dict[str, str]:
    """Return in words what each of the letters of a walk counts."""
    words = dict(COUNTED)
    if "o" in letters and "j" not in letters:
        words |= {"n": "rows", "i": "inputs"}
    if "k" in letters and "a" not in letters:
        words["k"] = "classes"
    return {letter: said for letter, said in words.items() if letter in letters}


def sizes_of(op: str, arrays: Mapping[str, Any]) -> dict[str, int]:
    """Return how long each axis is, of the arrays that the source names."""
    found: dict[str, int] = {}
    for name, value in arrays.items():
        letters = documented(op).get(name, ())
        if len(letters) == value.ndim:
            found = {**dict(zip(letters, value.shape, strict=True)), **found}
    return found


@cache
def documented(op: str) -> dict[str, tuple[str, ...]]:
    """Return the letters of each array whose shape the source of an op gives."""
    found: dict[str, tuple[str, ...]] = {}
    if op not in OPS:
        return found
    for argument in parse(shapes_of(op)):
        if "..." not in (axes := [axis for axis, _ in argument.axes]):
            found[argument.name] = _letters(axes)
    for name, text in _shapes_in(op):
        axes = [axis.partition("/")[0].strip() for axis in text.split(",")]
        found.setdefault(name, _letters(axes))
    return found


def _shapes_in(op: str) -> Iterator[tuple[str, str]]:
    """Yield names and shapes, as text."""
    forward, backward = (getattr(reference, f"{op}_{way}") for way in ("forward", "backward"))
    module = sys.modules[forward.__module__]
    kept = f"{op}_cache".replace("_", "")
    for name, value in vars(module).items():
        if name.lower() == kept:
            yield from _fields(value)
    for function in (forward, backward):
        text = inspect.getdoc(function) or ""
        sections = re.findall(r"^([\w, ]+) : ndarray of shape (\(.*)", text, re.MULTILINE)
        for names, shapes in sections:
            yield from zip(names.split(", "), re.findall(SHAPE, shapes), strict=False)
    story = inspect.getdoc(module) or ""
    yield from re.findall(rf"^ +(\w+) += .*?  {SHAPE}", story, re.MULTILINE)


def _fields(cache: type) -> Iterator[tuple[str, str]]:
    """Yield the arrays of a NamedTuple, and those of its parts, with the shapes of the comments."""
    lines = inspect.getsource(cache)
    yield from re.findall(rf"^ +(\w+): Array.*?# {SHAPE}", lines, re.MULTILINE)
    for kind in get_type_hints(cache).values():
        if hasattr(kind, "_fields"):
            yield from _fields(kind)


def _letters(axes: list[str]) -> tuple[str, ...]:
    """Return lower case; an axis of one, which has no name, is that of its place."""
    plain = RANKS.get(len(axes), "")
    return tuple(
        plain[k] if axis.isdigit() and plain else LETTERS.get(axis, axis.lower())
        for k, axis in enumerate(axes)
    )
