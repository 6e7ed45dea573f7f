"""Read the formulas, comments and docstrings of an op from its source file.

    v = …  # = formula           the formula of the line, where the code does not show it
    # forward: v = …             the line of forward that the lines of backward below undo
    # why: A sentence.           the reason for the line below; "#      …" continues it
    # why if training: …         the same, if the expression holds where the line runs

Docstrings give an op's first paragraphs, its formulas and the Notes of its backward.
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
WHY = re.compile(r"# why(?: if (.+?))?: (.*)")
CONTINUED = "#      "
PARTS = ("body", "orelse", "handlers", "finalbody", "cases")  # of a compound statement


class Undone(NamedTuple):
    """A line of forward that lines of backward undo."""

    text: str  # "out = x * s"
    reason: str  # text beside it, in a user's file

    @property
    def name(self) -> str:
        """The intermediate that the line assigns."""
        return self.text.partition(" = ")[0].strip()


class Formula(NamedTuple):
    """A formula, as written in the source."""

    name: str  # the variable that the formula defines
    left: str  # "dweight[:, :, i, j]"
    right: str  # "dout @ window(padded, i, j).T"
    sign: str = "="  # "+=" where a loop adds to it


class Statement(NamedTuple):
    """A statement of a function that a reader wants to see: no test and no docstring."""

    number: int  # of its first line
    loops: int  # around it
    is_loop: bool  # its first line is the head of a loop


def shown_path(file: Path) -> str:
    """Return the path of a file to show to a reader: from minise/ on, or the file name."""
    if PACKAGE in file.parents:
        return file.relative_to(PACKAGE.parent).as_posix()
    return file.name


def line_at(file: Path, number: int, *, comment: bool = False) -> str:
    """Return a line of a file, stripped, without its comment unless `comment` is true."""
    text = _lines(file)[number - 1]
    beside = None if comment else _comments(file).get(number)
    return (text[: beside[0]] if beside else text).strip()


def statements_of(file: Path) -> dict[int, Statement]:
    """Return the statements of all functions of a file by the numbers of their lines."""
    return _statements_in(_text(file))


@cache
def _statements_in(text: str) -> dict[int, Statement]:
    statements: dict[int, Statement] = {}

    def visit(body: list[Any], loops: int) -> None:
        for node in body:
            is_loop = isinstance(node, ast.For | ast.While)
            if is_loop:
                statements[node.lineno] = Statement(node.lineno, loops, True)
            elif not any(hasattr(node, part) for part in PARTS):
                lines = range(node.lineno, node.end_lineno + 1)
                statements.update(dict.fromkeys(lines, Statement(node.lineno, loops, False)))
            for part in PARTS:
                visit(getattr(node, part, []), loops + is_loop)

    visit(ast.parse(text).body, 0)
    return statements


def reason_above(file: Path, number: int, evaluate: Callable[[str], Any]) -> str:
    """Return the reason in the comments above a line, or "": the first one that holds.

    `evaluate` returns the value of an expression where the line runs.
    """
    lines, comments = _lines(file), _comments(file)
    above = number - 1
    while above in comments and not lines[above - 1][: comments[above][0]].strip():
        above -= 1
    reasons = _reasons([comments[row][1] for row in range(above + 1, number)])
    return next((reason for test, reason in reasons if not test or evaluate(test)), "")


def reason_in(function: Callable[..., Any]) -> str:
    """Return the first reason in the comments of a function, or ""."""
    lines = [line.strip() for line in inspect.getsource(function).splitlines()]
    reasons = _reasons([line for line in lines if line.startswith("#")])
    return reasons[0][1] if reasons else ""


def _reasons(comments: list[str]) -> list[tuple[str, str]]:
    """Return the condition and the sentence of each reason in adjacent comments."""
    reasons: list[tuple[str, str]] = []
    for text in comments:
        if head := WHY.fullmatch(text):
            reasons.append((head[1] or "", head[2]))
        elif reasons and text.startswith(CONTINUED):
            reasons[-1] = (reasons[-1][0], f"{reasons[-1][1]} {text.removeprefix(CONTINUED)}")
    return reasons


def formula_beside(file: Path, number: int) -> str:
    """Return the formula in the comment "# = formula" of a line, or ""."""
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
    """Return the formulas in the docstrings of a function and, after them, of its module."""
    texts = [inspect.getdoc(function) or "", ast.get_docstring(_tree(file)) or ""]
    formulas = []
    for text in texts:
        for line in text.splitlines():
            formula = re.sub(r" {2,}", "\0", re.sub(r" +(\+?=) ", r" \1 ", line.strip()))
            sides = re.match(r"([^=]*?\w[\])\w]*) (\+?=) ([^=].*)", formula.partition("\0")[0])
            if sides and line.startswith(" "):
                names = re.findall(r"[a-z_]\w*", sides[1])
                formulas += [Formula(name, sides[1], sides[3], sides[2]) for name in names[:2]]
    return formulas


def comment_formulas(function: Callable[..., Any], file: Path) -> list[Formula]:
    """Return the lines of forward in the comments "# forward: v = …" of a backward, as formulas."""
    first = function.__code__.co_firstlineno
    last = first + len(inspect.getsourcelines(function)[0])
    formulas = []
    for number, (_, text) in _comments(file).items():
        if first <= number < last and text.startswith(FORWARD):
            for undone in undone_by(function, file, Line("", number, "")):
                formulas.append(Formula(undone.name, undone.name, undone.text.partition(" = ")[2]))
    return formulas


def summary_of(function: Any) -> str:
    """Return the first paragraph of a docstring as one line, or "" for None."""
    if function is None:
        return ""
    return " ".join((inspect.getdoc(function) or "").partition("\n\n")[0].split())


def code_of(function: Callable[..., Any]) -> str:
    """Return the source of a function without its docstring, indented as a code paragraph."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError):
        return ""
    body = tree.body[0]
    assert isinstance(body, ast.FunctionDef)
    docstring = body.body[0] if ast.get_docstring(body) else None
    lines = textwrap.dedent(inspect.getsource(function)).splitlines()
    if docstring is not None:
        del lines[docstring.lineno - 1 : docstring.end_lineno]
    return textwrap.indent("\n".join(lines), 4 * " ")


def title_of(file: Path) -> str:
    """Return the first line of a module's docstring."""
    return (ast.get_docstring(_tree(file)) or "").partition("\n")[0]


def story_of(file: Path) -> list[str]:
    """Return the paragraphs of a module's docstring below the first line, indentation included."""
    text = ast.get_docstring(_tree(file)) or ""
    return _paragraphs(text.partition("\n")[2])


def notes_of(function: Callable[..., Any]) -> list[str]:
    """Return the paragraphs of the Notes section of a docstring."""
    _, _, notes = (inspect.getdoc(function) or "").partition("\nNotes\n-----\n")
    return _paragraphs(notes)


def _paragraphs(text: str) -> list[str]:
    return [part.strip("\n").rstrip() for part in re.split(r"\n\s*\n", text) if part.strip()]


@cache
def _read(file: Path, modified: float) -> str:
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
    """Return the column and text of each comment, by line number."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return {t.start[0]: (t.start[1], t.string) for t in tokens if t.type == tokenize.COMMENT}
