"""See and replace every intermediate of a function: ``v = expr`` becomes ``v = tap(line, expr)``.

In the reference ops every intermediate has a name and a line of its own, so that the code is its
own trace. Here that trace is taken: the function's source is parsed, each assignment to a plain
name (or to several, from a call) is rewritten to pass its value through a tap, and the result is
compiled in the function's own module. A tap that keeps what it sees gives the values; a tap that
returns another value shows what the rest of the function makes of it (perturb.py). A tap also sees
the names that its line could read, so that the line can be run again alone, on other values.

This is the only place where minise compiles source, and it takes only two kinds: minise's own, and
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
RETURN = "return"  # stands for a name in the line that returns


class Line(NamedTuple):
    """A line that assigns a name, or returns."""

    name: str  # RETURN of a line that returns
    number: int  # in the file, from 1
    text: str  # "z = squeeze_forward(x, argmax, squeeze)"


class Step(NamedTuple):
    """A value that a line gave in one run."""

    line: Line
    occurrence: int  # 0 of the first time that the line ran, 1 of the second, …
    value: Any


Scope = dict[str, Any]  # local names by value, as a line finds them
Tap = Callable[[Line, Any, Scope], Any]
_Assignment = ast.Assign | ast.AugAssign


class Instrumented:
    """A function whose assignments pass through a tap.

    Parameters
    ----------
    function : callable
        A plain Python function of minise, or of the file that is named.
    file : path, optional
        A file of the caller's whose functions may be compiled, or a notebook's cell by the name
        that Python has for it (``function.__code__.co_filename``).
    in_place : bool
        Whether ``v += expr`` writes into v's array, as in Python, so that all its other names show
        it too; otherwise it makes a new array, and what was seen before stays as it was.

    Attributes
    ----------
    file : Path
        Where the source stands.
    lines : list of Line
        The assignments, from top to bottom.

    Raises
    ------
    ValueError
        If the source is neither minise's nor the named file's, or cannot be found.
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
        source, first = inspect.getsourcelines(function)
        tree = ast.parse(textwrap.dedent("".join(source)))
        rewriter = _Rewriter(first - 1, in_place)
        tree = ast.fix_missing_locations(rewriter.visit(tree))
        ast.increment_lineno(tree, first - 1)
        self._code = compile(tree, str(self.file), "exec")
        self._tapped = rewriter.lines
        self._alone: dict[Line, CodeType] = {}
        self.lines = [line for line in self._tapped if line.name != RETURN]

    def run(
        self, tap: Tap, *arguments: Any, instead: Mapping[str, Any] | None = None, **settings: Any
    ) -> Any:
        """Call the function; what a line assigns or returns is what tap(line, value, scope) gives.

        Where `instead` has a global name, the function finds that instead of its module's.
        """
        space = {**self._globals(), **(instead or {})}
        space[TAP] = lambda index, value, scope: tap(self._tapped[index], value, scope)
        exec(self._code, space)
        return space[self.function.__name__](*arguments, **settings)

    def _globals(self) -> dict[str, Any]:
        """Return the names that the function finds outside: its module's and its closure's."""
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
        """Return what the function returns, and every value on the way, in order."""
        steps: list[Step] = []

        def note(line: Line, value: Any, scope: Scope) -> Any:
            if line.name != RETURN:
                occurrence = sum(step.line == line for step in steps)
                steps.append(Step(line, occurrence, value))
            return value

        return self.run(note, *arguments, **settings), steps

    def again(
        self, line: Line, scope: Mapping[str, Any], instead: Mapping[str, Any] | None = None
    ) -> Any:
        """Return what one line gives in a scope, where `instead` may change names, also globals."""
        if line not in self._alone:
            returned = line.text.replace("return", f"{RESULT} =", 1)
            text = returned if line.name == RETURN else line.text
            above = "\n" * (line.number - 1)  # so that an error names the line
            self._alone[line] = compile(above + text, str(self.file), "exec")
        space = {**self._globals(), **scope, **(instead or {})}
        exec(self._alone[line], space)
        return space[RESULT if line.name == RETURN else line.name]


class _Rewriter(ast.NodeTransformer):
    """Wraps the right side of each assignment to one plain name; goes into no inner function.

    What is returned is wrapped too.
    """

    def __init__(self, offset: int, in_place: bool) -> None:
        self.offset, self.in_place = offset, in_place
        self.lines: list[Line] = []
        self.depth = 0

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        """Drop the decorators of the outermost function and rewrite its body."""
        if self.depth:
            return node
        self.depth += 1
        node.decorator_list = []
        self.generic_visit(node)
        self.depth -= 1
        return node

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        """Leave inner functions as they are."""
        return node

    def visit_Assign(self, node: ast.Assign) -> ast.AST | list[ast.stmt]:
        """Turn v = expr into v = tap(index, expr); what a call returns is tapped name by name."""
        target = node.targets[0]
        if len(node.targets) == 1 and isinstance(target, ast.Name):
            node.value = self._tapped(node, target.id, node.value)
        if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Call):
            names = [part.id for part in target.elts if isinstance(part, ast.Name)]
            return self._tapped_behind(node, [name for name in names if name != "_"])
        return node

    def _tapped_behind(self, node: _Assignment, names: Sequence[str]) -> list[ast.stmt]:
        """Return the line itself, with a tap behind it for each name that it assigned."""
        before = ast.Assign([ast.Name(SCOPE, ast.Store())], _locals())
        assigned = [self._again(node, name) for name in names]
        return [ast.copy_location(before, node), node, *assigned]

    def _again(self, node: _Assignment, name: str) -> ast.stmt:
        """Return v = tap(index, v, scope before), for behind the line that assigned v."""
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
        """Turn v += expr into v = tap(index, v + expr), or keep it and tap v behind it."""
        if not isinstance(node.target, ast.Name):
            return node
        name = node.target.id
        if self.in_place:
            return self._tapped_behind(node, [name])
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
    """Return a call of locals, as a copy: a later line does not change it."""
    local = ast.Call(ast.Name("locals", ast.Load()), [], [])
    return ast.Call(ast.Name("dict", ast.Load()), [local], [])


def _source_file(function: Callable[..., Any], file: str | Path | None) -> Path:
    name = getattr(function, "__name__", type(function).__name__)
    try:
        written = inspect.getsourcefile(function) or ""
    except TypeError:
        written = ""
    found = Path(written).resolve()
    if name == "<lambda>":
        raise ValueError("instrument: a lambda has no lines, expected a function written with def")
    if inspect.isfunction(function) and file is not None and str(file) == written:
        return Path(written)  # also a notebook's cell, which is no file but has lines
    if not inspect.isfunction(function) or not found.is_file():
        raise ValueError(f"instrument: {name} has no Python source, expected a plain function")
    if PACKAGE not in found.parents and (file is None or Path(file).resolve() != found):
        raise ValueError(
            f"instrument: {name} stands in {found}, expected a function of minise or of the file "
            f"that is named: pass file={str(found)!r} if you trust it"
        )
    return found
