"""Which line of a backward writes into an array that is not its own: dout, or one of the cache."""

import ast
from contextlib import suppress
from typing import Any

from minise.gradcheck.slopes.arrays import arrays_in, copied, same
from minise.grading.lines import first_line, line_at, rebuilt, tree_of
from minise.grading.truth import Truth
from minise.tracing.instrument import Instrumented, Line

SEEN = "__seen__"


def changed(dout: Any, cache: Any, truth: Truth) -> str:
    """Return the name of an array that no longer holds what the case has there, or nothing."""
    if not same(dout, truth.dout):
        return "dout"
    pairs = zip(arrays_in(cache), arrays_in(truth.cache), strict=True)
    for (path, now), (_, before) in pairs:
        if not same(now, before):
            return path.rpartition(".")[2]
    return ""


def first_change(code: Instrumented, truth: Truth) -> tuple[Line, str] | None:
    """Return the first line that changes such an array, and the array's name, or nothing."""
    dout, cache = truth.dout.copy(), copied(truth.cache)
    found: list[tuple[int, str]] = []

    def seen(number: int) -> None:
        if name := changed(dout, cache, truth):
            found.append((number, name))
            raise _Changed

    watched = rebuilt(code, _Watched(), {SEEN: seen})
    with suppress(Exception):  # the reader's code may fail before it comes to such a line
        watched(dout, cache)
        seen(_last_return(tree_of(code)))
    return (line_at(code, found[0][0] + first_line(code) - 1), found[0][1]) if found else None


def reason(line: Line, name: str) -> str:
    """Return what is said of a line that changes an array in place."""
    whose = "dout" if name == "dout" else f"{name} of the cache"
    alias = "" if line.name in (name, "return") else f" ({line.name} is the same array)"
    return (
        f"it changes {whose} in place{alias}: another line, or another branch, may still need it, "
        "so let it make a new array"
    )


def _last_return(tree: ast.AST) -> int:
    """Return the number of the line that returns, behind which no call can be put."""
    return max(one.lineno for one in ast.walk(tree) if isinstance(one, ast.Return))


class _Changed(Exception):
    """Ends a run where an array has changed."""


class _Watched(ast.NodeTransformer):
    """Puts a call behind each statement that may write into an array."""

    def visit_Assign(self, node: ast.Assign) -> list[ast.stmt]:
        """Watch a line v = …, or v[…] = …."""
        return self._watched(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> list[ast.stmt]:
        """Watch a line v += …."""
        return self._watched(node)

    def visit_Expr(self, node: ast.Expr) -> list[ast.stmt]:
        """Watch a call, such as np.add.at(v, …)."""
        return self._watched(node)

    def _watched(self, node: ast.stmt) -> list[ast.stmt]:
        return [node, *ast.parse(f"{SEEN}({node.lineno})").body]
