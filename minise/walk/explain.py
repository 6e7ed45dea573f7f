"""Find the formula of a traced line in the source, the code that computes it, and its reason.

The formula is the first of these that exists:

    v = …  # = formula             the comment after the line
    v = expression                 the expression itself
    v = helper(a, b)               the lines of the helper, in the names a and b of its caller
    # forward: v = formula         a comment in the op's backward
    docstring: v = formula         a formula in the docstring
    helper (a, b)                  the call as it is

The reason is the sentence in the comment "# why: …" above the line, else above a line of a helper
that computes it.
"""

import ast
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from minise.ops.reference.sums import einsum, matmul, mean_over, sum_over
from minise.tracing import source as sources
from minise.tracing.helpers import executed
from minise.tracing.instrument import RETURN, Instrumented, Line, Scope
from minise.tracing.leaves import target_index
from minise.walk.axes import RANKS, documented
from minise.walk.formula import Reader, Unknown, convert, einsum_letters, read
from minise.walk.steps import Inner
from minise.walk.terms import Term, called, formula, indexed, name_of, number, words

SUMS = (sum_over, mean_over, einsum, matmul)


class Explainer:
    """Find the formula of one line of one run.

    Parameters
    ----------
    op : str
        Name of the op.
    code : Instrumented
        The function that the line is part of.
    twin : callable or None
        The op's backward, for lines of its forward.

    Attributes
    ----------
    inner : list of Inner
        The lines of helpers that the line executes.
    reason : str
        The reason of the line, or "".
    """

    def __init__(self, op: str, code: Instrumented, twin: Callable[..., Any] | None) -> None:
        self.op, self.code, self.twin = op, code, twin
        self.inner: list[Inner] = []
        self.reason = ""

    def formula(
        self,
        name: str,
        line: Line,
        scope: Scope,
        index: int = 0,
        known: Mapping[str, Term] = MappingProxyType({}),
    ) -> Term:
        """Return the formula ``name = …`` of a line, and set `inner` and `reason`.

        If the line returns a tuple, index is the position of the named result. `known` maps names
        that the line reads to the terms that replace them.
        """
        self._read_helpers(line, scope)
        known = {**dict.fromkeys(_zeros(scope), number(0)), **known}
        reader = self._reader(self.code, line, scope, known)
        left = name_of(name)
        statement: Any = ast.parse(line.text).body[0]
        right = statement.value
        if beside := sources.formula_beside(self.code.file, line.number):
            return formula(left, _prose(beside, reader))
        if isinstance(statement, ast.AugAssign):
            right = ast.BinOp(statement.target, statement.op, statement.value)
        if isinstance(right, ast.Tuple):
            right = right.elts[index if line.name == RETURN else target_index(line.text, name)]
        helper = self._helper_of(right, reader)
        if helper is None or self._helper(right, reader) is not None:
            return formula(indexed(left, einsum_letters(right)), convert(right, reader))
        if written := self._written_formulas(name):
            left, right = (_prose(side, reader) for side in (written[0].left, written[0].right))
            return formula(left, right, written[0].sign)
        terms = [convert(node, reader) for node in right.args if _is_shown(node, reader)]
        return formula(left, called(right.func.id, terms))

    def _read_helpers(self, line: Line, scope: Scope) -> None:
        """Set `inner` and `reason`."""
        code, file = self.code, self.code.file
        lines = executed(code, line, scope) if _calls(line) else []
        self.inner = [
            Inner(entry.text, sources.shown_path(entry.file), entry.number, *entry[3:5])
            for entry in lines
        ]
        evaluate = self._reader(code, line, scope, {}).evaluate
        lines_run = [(file, line.number, evaluate)]
        lines_run += [(entry.file, entry.number, entry.evaluate) for entry in lines]
        reasons = (sources.reason_above(*arguments) for arguments in lines_run)
        self.reason = next(filter(None, reasons), "")

    def _written_formulas(self, name: str) -> list[sources.Formula]:
        """Return the formulas of a name in comments of backward and in the docstring."""
        formulas = []
        if self.twin is not None:
            file = Path(inspect.getsourcefile(self.twin) or "").resolve()
            formulas = sources.comment_formulas(self.twin, file)
        formulas += sources.formulas_of(self.code.function, self.code.file)
        return [entry for entry in formulas if entry.name == name]

    def _reader(self, code: Instrumented, line: Line, scope: Scope, names: Any) -> Reader:
        def evaluate(text: str) -> Any:
            return code.run_line(Line(RETURN, line.number, f"return {text}"), scope)

        return Reader(evaluate, self._axes, names, self._helper)

    def _axes(self, rank: int, *names: str) -> tuple[str, ...]:
        """Return axis letters for an expression, from its rank and the arrays in it.

        The letters are those of the first of these arrays with that rank, else of the op's first
        array with that rank.
        """
        known = documented(self.op)
        bare = [name.removeprefix("d") if name not in known else name for name in names]
        own = [known[name] for name in bare if len(known.get(name, ())) == rank]
        like = [axes for axes in known.values() if len(axes) == rank]
        return (*own, *like, tuple(RANKS.get(rank, "abcdefgh"[:rank])))[0]

    def _helper_of(self, node: Any, reader: Reader) -> Callable[..., Any] | None:
        """Return the helper function that an expression calls, or None for any other expression.

        A helper is a traceable function of the source. The sums of `minise.ops.reference.sums` are
        no helpers: they have a notation of their own.
        """
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            return None
        try:
            function = reader.evaluate(node.func.id)
            Instrumented(function, file=self.code.file)
        except (ValueError, NameError, OSError):
            return None
        return function if inspect.isfunction(function) and function not in SUMS else None

    def _helper(self, node: ast.Call, reader: Reader) -> Term | None:
        """Return the formula of a helper in its caller's names, or None if it has none."""
        function = self._helper_of(node, reader)
        if function is None:
            return None
        code = Instrumented(function, file=self.code.file)
        lines: list[tuple[Line, Scope]] = []

        def record(line: Line, value: Any, scope: Scope) -> Any:
            lines.append((line, dict(scope)))
            return value

        arguments = [reader.evaluate(ast.unparse(argument)) for argument in node.args]
        keywords = {str(k.arg): reader.evaluate(ast.unparse(k.value)) for k in node.keywords}
        code.run(record, *arguments, **keywords)
        bound = inspect.signature(function).bind(
            *node.args, **{str(k.arg): k.value for k in node.keywords}
        )
        names = {name: convert(argument, reader) for name, argument in bound.arguments.items()}
        try:
            return self._returned_formula(code, lines, names)
        except Unknown:
            return None

    def _returned_formula(
        self, code: Instrumented, lines: Sequence[tuple[Line, Scope]], names: dict[str, Term]
    ) -> Term | None:
        """Return the formula of a helper's return value, its local names replaced by formulas."""
        unknown: set[str] = set()
        seen: set[str] = set()
        for line, scope in lines[:-1]:
            right: Any = ast.parse(line.text).body[0]
            simple = isinstance(right, ast.Assign) and isinstance(right.targets[0], ast.Name)
            local = self._reader(code, line, scope, names)._replace(strict=True)
            if beside := sources.formula_beside(code.file, line.number):
                names[line.name] = _prose(beside, local)
            elif line.name in seen or not simple or _reads(right.value) & unknown:
                unknown.add(line.name)
            else:
                try:
                    names[line.name] = convert(right.value, local)
                except Unknown:
                    unknown.add(line.name)
            seen.add(line.name)
        if not lines or lines[-1][0].name != RETURN:
            return None
        line, scope = lines[-1]
        reader = self._reader(code, line, scope, names)._replace(strict=True)
        beside = sources.formula_beside(code.file, line.number)
        right = ast.parse(line.text.removeprefix("return "), mode="eval").body
        bound = unknown | (set(scope) - set(names))
        helper = self._helper_of(right, reader)
        if not beside and (_reads(right) & bound or helper is not None):
            return None if helper is None else self._helper(right, reader)
        return _prose(beside, reader) if beside else convert(right, reader)


def _prose(text: str, reader: Reader) -> Term:
    """Return a formula of a comment or docstring: as mathematics if readable, else as words."""
    try:
        term = read(text, reader._replace(call=lambda node, reader: None, strict=False))
    except (NameError, AttributeError, TypeError, IndexError):
        term = None
    return term or words(text)


def _calls(line: Line) -> bool:
    return any(isinstance(node, ast.Call) for node in ast.walk(ast.parse(line.text)))


def _zeros(scope: Scope) -> list[str]:
    """Return the names of settings that are 0: terms with them are left out."""
    return [name for name, value in scope.items() if type(value) is float and value == 0]


def _reads(node: ast.expr) -> set[str]:
    return {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}


def _is_shown(node: ast.expr, reader: Reader) -> bool:
    """Return True if an argument is part of the formula: an array or a number."""
    try:
        value = reader.evaluate(ast.unparse(node))
    except Exception:
        return True
    return hasattr(value, "dtype") or isinstance(value, int | float)
