"""What stands in a source file beside the code: formulas, reasons, derivations.

v = …  # = formula           the formula of that line, where the code does not show it
# forward: v = …    reason   above the lines of a backward that undo that line
docstrings                   an op's first paragraphs, its formulas, the Notes of its backward
"""

import ast
import inspect
import io
import re
import textwrap
import tokenize
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from minise.tracing.instrument import PACKAGE, Line

FORWARD = "# forward: "
FORMULA = "# = "


class Undone(NamedTuple):
    """A line of forward that some lines of backward undo."""

    text: str  # "out = x * s"
    reason: str  # "one gate scales P * Q pixels, so their gradients add up"

    @property
    def name(self) -> str:
        """The intermediate that it assigns."""
        return self.text.partition(" = ")[0].strip()


class Formula(NamedTuple):
    """A formula as the source has it."""

    name: str  # whose it is
    left: str  # "dweight[:, :, i, j]"
    right: str  # "dout @ window(padded, i, j).T"


def shown_path(file: Path) -> str:
    """Return a file as a reader finds it: from minise/ on, or its bare name."""
    if PACKAGE in file.parents:
        return file.relative_to(PACKAGE.parent).as_posix()
    return file.name


def line_at(file: Path, number: int) -> str:
    """Return a line as it stands there, without its comment."""
    text = _lines(file)[number - 1]
    comment = _comments(file).get(number)
    return (text[: comment[0]] if comment else text).strip()


def formula_beside(file: Path, number: int) -> str:
    """Return what stands behind "# = " on a line, or ""."""
    _, text = _comments(file).get(number, (0, ""))
    return text.removeprefix(FORMULA) if text.startswith(FORMULA) else ""


def undone_by(function: Callable[..., Any], file: Path, line: Line) -> tuple[Undone, ...]:
    """Return the lines of forward that a line of backward undoes, from the comment above it."""
    first = function.__code__.co_firstlineno
    comments = _comments(file)
    for number in range(line.number, first, -1):
        text = comments.get(number, (0, ""))[1]
        if text.startswith(FORWARD):
            code, _, reason = re.sub(r" {2,}", "\0", text.removeprefix(FORWARD)).partition("\0")
            parts = re.split(r", (?=\w+ = )", code)
            return tuple(Undone(part, reason) for part in parts)
    return ()


def formulas_of(function: Callable[..., Any], file: Path) -> list[Formula]:
    """Return the formulas of a function's docstring, and after them those of its module's."""
    texts = [inspect.getdoc(function) or "", ast.get_docstring(_tree(file)) or ""]
    found = []
    for text in texts:
        for line in text.splitlines():
            formula = re.sub(r" {2,}", "\0", re.sub(r" +(\+?=) ", r" \1 ", line.strip()))
            sides = re.match(r"([^=]*?\w[\])\w]*) \+?= ([^=].*)", formula.partition("\0")[0])
            if sides and line.startswith(" "):
                names = re.findall(r"[a-z_]\w*", sides[1])
                found += [Formula(name, sides[1], sides[2]) for name in names[:2]]
    return found


def comment_formulas(function: Callable[..., Any], file: Path) -> list[Formula]:
    """Return what the comments "# forward: v = …" of a backward say of forward's lines."""
    first = function.__code__.co_firstlineno
    last = first + len(inspect.getsourcelines(function)[0])
    found = []
    for number, (_, text) in _comments(file).items():
        if first <= number < last and text.startswith(FORWARD):
            for one in undone_by(function, file, Line("", number, "")):
                found.append(Formula(one.name, one.name, one.text.partition(" = ")[2]))
    return found


def summary_of(function: Any) -> str:
    """Return the first paragraph of a docstring as one line; of None ""."""
    if function is None:
        return ""
    return " ".join((inspect.getdoc(function) or "").partition("\n\n")[0].split())


def code_of(function: Callable[..., Any]) -> str:
    """Return a function's code as a paragraph of code, without its docstring."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError):
        return ""
    body = tree.body[0]
    assert isinstance(body, ast.FunctionDef)
    skipped = body.body[0] if ast.get_docstring(body) else None
    lines = textwrap.dedent(inspect.getsource(function)).splitlines()
    if skipped is not None:
        del lines[skipped.lineno - 1 : skipped.end_lineno]
    return textwrap.indent("\n".join(lines), 4 * " ")


def title_of(file: Path) -> str:
    """Return the first line of a module's docstring."""
    return (ast.get_docstring(_tree(file)) or "").partition("\n")[0]


def story_of(file: Path) -> list[str]:
    """Return the paragraphs of a module's docstring; those of code keep their lines, indented."""
    text = ast.get_docstring(_tree(file)) or ""
    return _paragraphs(text.partition("\n")[2])


def notes_of(function: Callable[..., Any]) -> list[str]:
    """Return the paragraphs of a docstring's section Notes."""
    _, _, notes = (inspect.getdoc(function) or "").partition("\nNotes\n-----\n")
    return _paragraphs(notes)


def _paragraphs(text: str) -> list[str]:
    return [part.strip("\n").rstrip() for part in re.split(r"\n\s*\n", text) if part.strip()]


@cache
def _read(file: Path, changed: float) -> str:
    return file.read_text(encoding="utf-8")


def _text(file: Path) -> str:
    return _read(file, file.stat().st_mtime)


def _lines(file: Path) -> list[str]:
    return _text(file).splitlines()


def _tree(file: Path) -> ast.Module:
    return ast.parse(_text(file))


def _comments(file: Path) -> dict[int, tuple[int, str]]:
    return _comments_in(_text(file))


@cache
def _comments_in(text: str) -> dict[int, tuple[int, str]]:
    """Return each comment's column and text by the number of its line."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return {t.start[0]: (t.start[1], t.string) for t in tokens if t.type == tokenize.COMMENT}
