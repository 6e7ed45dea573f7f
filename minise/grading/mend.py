"""Which line is wrong, found by mending the others.

Some lines have no slope to be judged by: an index, a part of a sum, an array that forward does not
have. The last hint of a line is right, so put it in the place of every line that has one. If what
comes back is right, every line without a hint is right. Then leave one line as the reader wrote it
and mend the others: if what comes back is wrong, that line is.
"""

import ast
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeGuard

import numpy as np

from minise.gradcheck.slopes.arrays import copied
from minise.grading.compare import close, floats, told
from minise.grading.inplace import changed
from minise.grading.lines import (
    Assignment,
    base_of,
    first_line,
    parts_of,
    rebuilt,
    targets_of,
    tree_of,
)
from minise.grading.truth import Truth
from minise.tracing.instrument import Instrumented, Line

NOTE = "__note__"


class Guilty(NamedTuple):
    """A line that is wrong, where all others are right or mended."""

    lines: tuple[Line, ...]  # several where the reader has more than the right one
    truth: int  # which of the cases shows it first
    reason: str  # what it gives and what is expected, or nothing
    arranged: bool  # whether it has the right numbers, arranged in another way


class Mended:
    """A reader's backward with lines put right.

    Parameters
    ----------
    code : Instrumented
        The reader's backward.
    solutions : iterable of str
        Right lines, each to stand where the reader assigns the same.
    truths : sequence of Truth
        The cases.

    Attributes
    ----------
    works : bool
        Whether all is right once every line is mended that can be.
    guilty : list of Guilty
        The lines that are wrong, from top to bottom; empty where mending does not help.
    """

    def __init__(self, code: Instrumented, solutions: Iterable[str], truths: Sequence[Truth]):
        self._code, self._truths = code, truths
        self._first = first_line(code)
        self._solutions = {_key(one): one for text in solutions for one in _statements(text)}
        self._places = self._found()
        self.works = bool(self._places) and self._fails_at(None) is None
        self.guilty = list(self._wrong()) if self.works else []

    def _found(self) -> dict[str, list[Assignment]]:
        """Return what can be mended, in order, by what the right line assigns.

        That is the reader's line that assigns the same, or, where one is left, a part of the same;
        and those below it that assign it again.
        """
        rest = [one for one in ast.walk(tree_of(self._code)) if _assigns(one)]
        rest.sort(key=lambda one: one.lineno)
        found: dict[str, list[Assignment]] = {}
        for alike in (_key, _base):
            for key, solution in self._solutions.items():
                same = [one for one in rest if alike(one) == alike(solution)]
                if key not in found and same and (alike is _key or len(same) == 1):
                    found[key] = same[:1]
                    rest.remove(same[0])
        for key, lines in found.items():
            names = {base_of(one) for one in _parts(self._solutions[key])}
            lines += [
                one for one in rest if one.lineno > lines[0].lineno and _base(one)[0] in names
            ]
        return dict(sorted(found.items(), key=lambda item: item[1][0].lineno))

    def _wrong(self) -> Iterator[Guilty]:
        for key, lines in self._places.items():
            if any(map(_is_blank, lines)) or (truth := self._fails_at(key)) is None:
                continue
            name = _base(self._solutions[key])[0]
            named = tuple(
                Line(name, one.lineno + self._first - 1, ast.unparse(one)) for one in lines
            )
            differs = self._differs(key, truth) if len(lines) == 1 else ("", False)
            yield Guilty(named, truth, *differs)

    def _fails_at(self, key: str | None) -> int | None:
        """Return the first case that goes wrong with one line left as it is, or nothing."""
        function = self._mended(key, None, lambda *values: None)
        fails = (k for k, one in enumerate(self._truths) if not _is_right(function, one))
        return next(fails, None)

    def _mended(
        self, left: str | None, noted: str | None, note: Callable[..., None]
    ) -> Callable[..., Any]:
        """Return the backward with all lines mended but one, which tells what it assigned."""
        keys = {one.lineno: key for key, lines in self._places.items() for one in lines}
        return rebuilt(self._code, _Mender(self._solutions, keys, left, noted), {NOTE: note})

    def _differs(self, key: str, truth: int) -> tuple[str, bool]:
        """Return in numbers where a line first differs from the right one, and if only in order."""
        given, wanted = self._values(key, key, truth), self._values(None, key, truth)
        parts = _parts(self._solutions[key])
        for ours, theirs in zip(given, wanted, strict=False):
            for part, a, b in zip(parts, ours, theirs, strict=True):
                if text := _unlike(ast.unparse(part), isinstance(part, ast.Name), a, b):
                    return text, _same_numbers(a, b)
        return "", False

    def _values(self, left: str | None, noted: str, truth: int) -> list[list[Any]]:
        """Return what a line assigned, each time that it ran."""
        values: list[list[Any]] = []
        function = self._mended(left, noted, lambda *some: values.append([copied(v) for v in some]))
        _is_right(function, self._truths[truth])
        return values


class _Mender(ast.NodeTransformer):
    """Puts right lines in the places of the reader's."""

    def __init__(
        self,
        solutions: dict[str, Assignment],
        keys: dict[int, str],  # by the line on which what is to mend stands
        left: str | None,
        noted: str | None,
    ) -> None:
        self.done: set[str] = set()
        self.solutions, self.keys, self.left, self.noted = solutions, keys, left, noted

    def visit_Assign(self, node: ast.Assign) -> ast.AST | list[ast.stmt]:
        """Mend a line v = …, if it is one to mend."""
        return self._mended(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST | list[ast.stmt]:
        """Mend a line v += …, if it is one to mend."""
        return self._mended(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | list[ast.stmt]:
        """Mend a line v: type = …, if it is one to mend."""
        return self._mended(node)

    def _mended(self, node: Assignment) -> ast.AST | list[ast.stmt]:
        key = self.keys.get(node.lineno, "")
        if not key:
            return node
        again, self.done = key in self.done, {*self.done, key}
        if key != self.left and again:
            return ast.Pass()
        line = node if key == self.left else self.solutions[key]
        if key != self.noted:
            return line
        texts = ", ".join(map(ast.unparse, _parts(self.solutions[key])))
        return [line, *ast.parse(f"{NOTE}({texts})").body]


def _statements(text: str) -> list[Assignment]:
    """Return the assignments of a hint, or nothing if it is no code."""
    try:
        body = ast.parse(text).body
    except SyntaxError:
        return []
    return [one for one in body if _assigns(one)]


def _assigns(node: ast.AST) -> TypeGuard[Assignment]:
    """Tell whether a statement assigns one target."""
    if isinstance(node, ast.Assign):
        return len(node.targets) == 1
    return isinstance(node, ast.AugAssign | ast.AnnAssign) and node.value is not None


def _key(node: Assignment) -> str:
    """Return what a statement assigns, as text, several names in alphabetical order."""
    return ", ".join(sorted(map(ast.unparse, _parts(node))))


def _base(node: Assignment) -> tuple[str, bool]:
    """Return the name that a statement assigns, and whether only a part of it."""
    target = _parts(node)[0]
    return base_of(target), not isinstance(target, ast.Name)


def _parts(node: Assignment) -> list[ast.expr]:
    """Return what a statement with one target assigns."""
    return parts_of(targets_of(node)[0])


def _is_blank(node: Assignment) -> bool:
    return isinstance(node.value, ast.Constant) and node.value.value is ...


def _is_right(function: Callable[..., Any], truth: Truth) -> bool:
    """Tell whether a backward returns what is right at a case, and writes into nothing it got."""
    dout, cache = truth.dout.copy(), copied(truth.cache)
    try:
        returned = function(dout, cache)
    except Exception:
        return False
    gradients = returned if isinstance(returned, tuple | list) else (returned,)
    if len(gradients) != len(truth.inputs) or changed(dout, cache, truth):
        return False
    return all(truth.returned_is_right(k, one) for k, one in enumerate(gradients))


def _unlike(name: str, whole: bool, given: Any, wanted: Any) -> str:
    """Return in numbers how a value differs from the right one, or nothing."""
    if given is None:
        return f"{name} is None, expected an array of shape {np.shape(wanted)}"
    if np.shape(given) != np.shape(wanted):
        return f"{name} has shape {np.shape(given)}, expected {np.shape(wanted)}"
    try:
        apart = abs(np.asarray(given, float) - np.asarray(wanted, float))
    except (TypeError, ValueError):
        return f"{name} is {type(given).__name__}, expected {type(wanted).__name__}"
    if close(np.asarray(given, float), np.asarray(wanted, float)):
        return ""
    worst = tuple(map(int, np.unravel_index(int(np.argmax(apart)), apart.shape)))
    entry = ", ".join(map(str, worst))
    if entry:
        name = f"{name}[{entry}]" if whole else f"entry ({entry}) of {name}"
    there, right = np.asarray(given)[worst], np.asarray(wanted)[worst]
    return f"{name} is {told(float(there), float(right), 'expected')}"


def _same_numbers(given: Any, wanted: Any) -> bool:
    """Tell whether two arrays hold the same numbers, in whatever order."""
    if not floats(given) or not floats(wanted) or np.size(given) != np.size(wanted):
        return False
    return close(np.sort(np.ravel(given)), np.sort(np.ravel(wanted)))
