"""Letters for the axes of an op's arrays, from the shapes that the op's source documents.

Shapes are read in this order: the op's line in SHAPES, the comments of its cache class, the
sections of both docstrings, and lines such as ``u = …   (N, R, 1, 1)`` in the module's docstring.
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
RANKS = {1: "c", 2: "nc", 3: "nci", 4: "ncij"}  # letters by rank, if no shape is documented
AXIS_MEANINGS = {
    "n": "images", "c": "channels", "i": "rows", "j": "columns", "k": "filters",
    "a": "rows of the kernel", "b": "columns of the kernel", "p": "rows of the output",
    "q": "columns of the output", "r": "hidden units", "o": "outputs",
}  # fmt: skip
SHAPE = r"\(([A-Z0-9][A-Z0-9/ ,]*?),?\)"


def axes_of(
    op: str, name: str, shape: tuple[int, ...], sizes: Mapping[str, int]
) -> tuple[str, ...]:
    """Return a letter for each axis of an array of an op.

    dx, and a part of it such as dx_gate, has the letters of x. An array without a documented shape
    has the letters of out, or of the first documented array with the same number of axes and the
    same sizes.
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


def axis_meanings(letters: Collection[str]) -> dict[str, str]:
    """Return the meaning of each axis letter, such as "n": "images"."""
    words = dict(AXIS_MEANINGS)
    if "o" in letters and "j" not in letters:
        words |= {"n": "rows", "i": "inputs"}
    if "k" in letters and "a" not in letters:
        words["k"] = "classes"
    return {letter: meaning for letter, meaning in words.items() if letter in letters}


def sizes_of(op: str, arrays: Mapping[str, Any]) -> dict[str, int]:
    """Return the size of each axis letter of the arrays with a documented shape."""
    sizes: dict[str, int] = {}
    for name, value in arrays.items():
        letters = documented(op).get(name, ())
        if len(letters) == value.ndim:
            sizes = {**dict(zip(letters, value.shape, strict=True)), **sizes}
    return sizes


@cache
def documented(op: str) -> dict[str, tuple[str, ...]]:
    """Return the axis letters of each array of an op with a documented shape."""
    axes_by_name: dict[str, tuple[str, ...]] = {}
    if op not in OPS:
        return axes_by_name
    for argument in parse(shapes_of(op)):
        if "..." not in (axes := [axis for axis, _ in argument.axes]):
            axes_by_name[argument.name] = _letters(axes)
    for name, text in _documented_shapes(op):
        axes = [axis.partition("/")[0].strip() for axis in text.split(",")]
        axes_by_name.setdefault(name, _letters(axes))
    return axes_by_name


def _documented_shapes(op: str) -> Iterator[tuple[str, str]]:
    """Yield the names and shapes in the cache class and the docstrings of an op, as text."""
    forward, backward = (getattr(reference, f"{op}_{way}") for way in ("forward", "backward"))
    module = sys.modules[forward.__module__]
    cache_name = f"{op}_cache".replace("_", "")
    for name, value in vars(module).items():
        if name.lower() == cache_name:
            yield from _fields(value)
    for function in (forward, backward):
        text = inspect.getdoc(function) or ""
        sections = re.findall(r"^([\w, ]+) : ndarray of shape (\(.*)", text, re.MULTILINE)
        for names, shapes in sections:
            yield from zip(names.split(", "), re.findall(SHAPE, shapes), strict=False)
    story = inspect.getdoc(module) or ""
    yield from re.findall(rf"^ +(\w+) += .*?  {SHAPE}", story, re.MULTILINE)


def _fields(cache: type) -> Iterator[tuple[str, str]]:
    """Yield the arrays of a NamedTuple, nested ones included, with their commented shapes."""
    lines = inspect.getsource(cache)
    yield from re.findall(rf"^ +(\w+): Array.*?# {SHAPE}", lines, re.MULTILINE)
    for kind in get_type_hints(cache).values():
        if hasattr(kind, "_fields"):
            yield from _fields(kind)


def _letters(axes: list[str]) -> tuple[str, ...]:
    """Return one letter per axis; an axis of size 1 has the usual letter of its position."""
    plain = RANKS.get(len(axes), "")
    return tuple(
        plain[k] if axis.isdigit() and plain else LETTERS.get(axis, axis.lower())
        for k, axis in enumerate(axes)
    )
