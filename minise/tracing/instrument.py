"""Record and replace every intermediate of a function: ``v = expr`` -> ``v = tap(line, expr)``.

In the reference ops every intermediate has a name and a line of its own. This module parses a
function's source, rewrites each assignment to a plain name (or to several names, from a call) to
pass its value through a tap, and compiles the result in the function's own module. A tap that
stores the values records a trace; a tap that returns another value shows its effect on the rest of
the function (perturb.py). A tap also gets the local names in scope, so that the line can run again
on its own, with other values.

No other module of minise compiles source. Only two kinds of source are accepted: minise's own, and
a file that the caller names.
"""

import ast
import inspect
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple

PACKAGE = Path(__file__).resolve().parents[1]
TAP, SCOPE, RESULT = "__tap__", "__scope__", "__result__"
RETURN = "return"  # the name of a Line that is a return statement


class Line(NamedTuple):
    """A line that assigns a name, or returns."""

    name: str  # the assigned name, or RETURN
    number: int  # line number in the file, from 1
    text: str  # "z = squeeze_forward(x, argmax, squeeze)"


class Step(NamedTuple):
    """A value that a line assigned in one run."""

    line: Line
    occurrence: int  # number of earlier executions of the line in this run
    value: Any


Scope = dict[str, Any]  # local variables by name, before the line runs
Tap = Callable[[Line, Any, Scope], Any]
_Assignment = ast.Assign | ast.AugAssign


class Instrumented:
    """A function whose assigned values pass through a tap.

    Parameters
    ----------
    function : callable
        A plain Python function defined in minise or in `file`.
    file : path, optional
        A file of the caller whose functions may be compiled, or a notebook cell by Python's name
        for it (``function.__code__.co_filename``).
    in_place : bool
        If True, ``v += expr`` writes into v's array, as in Python, and every alias of v changes
        too; if False, it makes a new array, and values recorded earlier stay unchanged.

    Attributes
    ----------
    file : Path
        The source file.
    lines : list of Line
        The assignments, from top to bottom.

    Raises
    ------
    ValueError
        If the source is not available, or is in neither minise nor `file`.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        file: str | Path | None = None,
        in_place: bool = False,
    ) -> None:
        self.function = function
        self.file = _source_file(function, file)
        source, first_number = inspect.getsourcelines(function)
        tree = ast.parse(textwrap.dedent("".join(source)))
        rewriter = _Rewriter(first_number - 1, in_place)
        tree = ast.fix_missing_locations(rewriter.visit(tree))
        ast.increment_lineno(tree, first_number - 1)
        self._code = compile(tree, str(self.file), "exec")
        self._tapped_lines = rewriter.lines
        self._line_code: dict[Line, CodeType] = {}
        self.lines = [line for line in self._tapped_lines if line.name != RETURN]

    def run(
        self, tap: Tap, *arguments: Any, overrides: Mapping[str, Any] | None = None, **settings: Any
    ) -> Any:
        """Call the function, with each assigned or returned value replaced by the tap's result.

        The tap is called as ``tap(line, value, scope)``. `overrides` replaces global names of the
        function's module.
        """
        namespace = {**self._globals(), **(overrides or {})}
        namespace[TAP] = lambda index, value, scope: tap(self._tapped_lines[index], value, scope)
        exec(self._code, namespace)
        return namespace[self.function.__name__](*arguments, **settings)

    def _globals(self) -> dict[str, Any]:
        """Return the global names of the function's module and the variables of its closure."""
        cells = zip(
            self.function.__code__.co_freevars, self.function.__closure__ or (), strict=True
        )
        outer = {}
        for name, cell in cells:
            try:
                outer[name] = cell.cell_contents
            except ValueError:  # not assigned yet
                continue
        return {**self.function.__globals__, **outer}

    def trace(self, *arguments: Any, **settings: Any) -> tuple[Any, list[Step]]:
        """Return the function's result, and every value that it assigned, in order."""
        steps: list[Step] = []

        def record(line: Line, value: Any, scope: Scope) -> Any:
            if line.name != RETURN:
                occurrence = sum(step.line == line for step in steps)
                steps.append(Step(line, occurrence, value))
            return value

        return self.run(record, *arguments, **settings), steps

    def run_line(
        self, line: Line, scope: Mapping[str, Any], overrides: Mapping[str, Any] | None = None
    ) -> Any:
        """Run one line in a scope and return its value; `overrides` replaces locals or globals."""
        if line not in self._line_code:
            returned = line.text.replace("return", f"{RESULT} =", 1)
            text = returned if line.name == RETURN else line.text
            above = "\n" * (line.number - 1)  # so that an error names the line
            self._line_code[line] = compile(above + text, str(self.file), "exec")
        namespace = {**self._globals(), **scope, **(overrides or {})}
        exec(self._line_code[line], namespace)
        return namespace[RESULT if line.name == RETURN else line.name]


class _Rewriter(ast.NodeTransformer):
    """Wrap the right side of each assignment to a plain name, and each returned value, in a tap.

    Nested functions stay unchanged.
    """

    def __init__(self, offset: int, in_place: bool) -> None:
        self.offset, self.in_place = offset, in_place
        self.lines: list[Line] = []
        self.depth = 0

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        """Remove the decorators of the outermost function and rewrite its body."""
        if self.depth:
            return node
        self.depth += 1
        node.decorator_list = []
        self.generic_visit(node)
        self.depth -= 1
        return node

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        """Leave a lambda unchanged."""
        return node

    def visit_Assign(self, node: ast.Assign) -> ast.AST | list[ast.stmt]:
        """Turn v = expr into v = tap(index, expr); add a tap per name after a, b = call(…)."""
        target = node.targets[0]
        if len(node.targets) == 1 and isinstance(target, ast.Name):
            node.value = self._tapped(node, target.id, node.value)
        if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Call):
            names = [part.id for part in target.elts if isinstance(part, ast.Name)]
            return self._tapped_after(node, [name for name in names if name != "_"])
        return node

    def _tapped_after(self, node: _Assignment, names: Sequence[str]) -> list[ast.stmt]:
        """Return the line, preceded by a copy of its scope and followed by a tap for each name."""
        before = ast.Assign([ast.Name(SCOPE, ast.Store())], _locals())
        taps = [self._tap_assigned(node, name) for name in names]
        return [ast.copy_location(before, node), node, *taps]

    def _tap_assigned(self, node: _Assignment, name: str) -> ast.stmt:
        """Return v = tap(index, v, saved scope), to insert after the line that assigns v."""
        read = ast.Name(name, ast.Load())
        value = self._tapped(node, name, read, ast.Name(SCOPE, ast.Load()))
        return ast.copy_location(ast.Assign([ast.Name(name, ast.Store())], value), node)

    def visit_Return(self, node: ast.Return) -> ast.AST:
        """Turn return expr into return tap(index, expr)."""
        if node.value is not None:
            node.value = self._tapped(node, RETURN, node.value)
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        """Turn v: type = expr into v: type = tap(index, expr)."""
        if isinstance(node.target, ast.Name) and node.value is not None:
            node.value = self._tapped(node, node.target.id, node.value)
        return node

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST | list[ast.stmt]:
        """Turn v += expr into v = tap(index, v + expr); in place, keep it and tap v after it."""
        if not isinstance(node.target, ast.Name):
            return node
        name = node.target.id
        if self.in_place:
            return self._tapped_after(node, [name])
        left = ast.Name(name, ast.Load())
        value = self._tapped(node, name, ast.BinOp(left, node.op, node.value))
        return ast.copy_location(ast.Assign([ast.Name(name, ast.Store())], value), node)

    def _tapped(
        self, node: ast.stmt, name: str, value: ast.expr, scope: ast.expr | None = None
    ) -> ast.expr:
        self.lines.append(Line(name, node.lineno + self.offset, ast.unparse(node)))
        tap = ast.Name(TAP, ast.Load())
        index = ast.Constant(len(self.lines) - 1)
        return ast.copy_location(ast.Call(tap, [index, value, scope or _locals()], []), value)


def _locals() -> ast.expr:
    """Return the expression dict(locals()), a copy that later lines do not change."""
    local = ast.Call(ast.Name("locals", ast.Load()), [], [])
    return ast.Call(ast.Name("dict", ast.Load()), [local], [])


def _source_file(function: Callable[..., Any], file: str | Path | None) -> Path:
    name = getattr(function, "__name__", type(function).__name__)
    try:
        filename = inspect.getsourcefile(function) or ""
    except TypeError:
        filename = ""
    path = Path(filename).resolve()
    if name == "<lambda>":
        raise ValueError("instrument: a lambda has no lines, expected a function written with def")
    if inspect.isfunction(function) and file is not None and str(file) == filename:
        return Path(filename)  # also a notebook cell, which has lines but no file
    if not inspect.isfunction(function) or not path.is_file():
        raise ValueError(f"instrument: {name} has no Python source, expected a plain function")
    if PACKAGE not in path.parents and (file is None or Path(file).resolve() != path):
        raise ValueError(
            f"instrument: {name} is defined in {path}, expected a function of minise or of the "
            f"`file` argument: pass file={str(path)!r} if you trust it"
        )
    return path
