"""The formula of a line, found in the source: beside the line, in it, in a helper, in a docstring.

In this order:

    v = …  # = formula             what stands there
    v = expression                 the expression itself
    v = helper(a, b)               the helper's own lines, in the names a and b of its caller
    # forward: v = formula         where that cannot be, a comment of the op's backward,
    docstring: v = formula         or a formula of its docstring,
    helper (a, b)                  or the call as it is
"""

import ast
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from minise.ops.reference.sums import einsum, matmul, mean_over, sum_over
from minise.tracing import source as sources
from minise.tracing.instrument import RETURN, Instrumented, Line, Scope
from minise.tracing.leaves import target_index
from minise.walk.axes import RANKS, documented
from minise.walk.formula import Reader, Unknown, convert, einsum_letters, read
from minise.walk.steps import Inner
from minise.walk.terms import Term, called, formula, indexed, name_of, words

SUMS = (sum_over, mean_over, einsum, matmul)


class Explainer:
    """Reads the formula of one line in one run.

    Parameters
    ----------
    op : str
        Whose line it is.
    code : Instrumented
        The function.
    twin : callable or None
        The op's backward, for lines of its forward.
    """

    def __init__(self, op: str, code: Instrumented, twin: Callable[..., Any] | None) -> None:
        self.op, self.code, self.twin = op, code, twin
        self.inner: list[Inner] = []
        self.helper_says = ""

    def formula(
        self,
        name: str,
        line: Line,
        scope: Scope,
        place: int = 0,
        known: Mapping[str, Term] = MappingProxyType({}),
    ) -> Term:
        """Return ``name = …``; `inner` then holds the helpers' lines that were followed.

        Of a line that returns several things the name is that of the one at a place;
        `known` has other terms for names that the line reads.
        """
        reader = self._reader(self.code, line, scope, known)
        left = name_of(name)
        statement: Any = ast.parse(line.text).body[0]
        right = statement.value
        if beside := sources.formula_beside(self.code.file, line.number):
            self.helper_says = sources.summary_of(self._helper_of(right, reader))
            return formula(left, _prose(beside, reader))
        if isinstance(statement, ast.AugAssign):
            right = ast.BinOp(statement.target, statement.op, statement.value)
        if isinstance(right, ast.Tuple):
            right = right.elts[place if line.name == RETURN else target_index(line.text, name)]
        helper = self._helper_of(right, reader)
        if helper is None or self._helper(right, reader) is not None:
            return formula(indexed(left, einsum_letters(right)), convert(right, reader))
        self.helper_says = sources.summary_of(helper)
        for one in self._written(name):
            return formula(_prose(one.left, reader), _prose(one.right, reader))
        terms = [convert(one, reader) for one in right.args if _shows(one, reader)]
        return formula(left, called(right.func.id, terms))

    def _written(self, name: str) -> list[sources.Formula]:
        found = []
        if self.twin is not None:
            file = Path(inspect.getsourcefile(self.twin) or "").resolve()
            found = sources.comment_formulas(self.twin, file)
        found += sources.formulas_of(self.code.function, self.code.file)
        return [one for one in found if one.name == name]

    def _reader(self, code: Instrumented, line: Line, scope: Scope, names: Any) -> Reader:
        def evaluate(text: str) -> Any:
            return code.run_line(Line(RETURN, line.number, f"return {text}"), scope)

        return Reader(evaluate, self._axes, names, self._helper)

    def _axes(self, rank: int, *names: str) -> tuple[str, ...]:
        """Return letters of what is made of some arrays, or of the op's first one of a rank."""
        known = documented(self.op)
        bare = [name.removeprefix("d") if name not in known else name for name in names]
        own = [known[name] for name in bare if len(known.get(name, ())) == rank]
        like = [axes for axes in known.values() if len(axes) == rank]
        return (*own, *like, tuple(RANKS.get(rank, "abcdefgh"[:rank])))[0]

    def _helper_of(self, node: Any, reader: Reader) -> Callable[..., Any] | None:
        """Return the plain function of ours, no op, that an expression only calls.

        The sums of `minise.ops.reference.sums` have signs of their own and need no helper's lines.
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
        """Return a helper's formula in its caller's names, or None where it has none."""
        function = self._helper_of(node, reader)
        if function is None:
            return None
        code = Instrumented(function, file=self.code.file)
        lines: list[tuple[Line, Scope]] = []
        inner = list(self.inner)

        def note(line: Line, value: Any, scope: Scope) -> Any:
            lines.append((line, dict(scope)))
            return value

        arguments = [reader.evaluate(ast.unparse(one)) for one in node.args]
        keywords = {str(k.arg): reader.evaluate(ast.unparse(k.value)) for k in node.keywords}
        code.run(note, *arguments, **keywords)
        bound = inspect.signature(function).bind(
            *node.args, **{str(k.arg): k.value for k in node.keywords}
        )
        names = {name: convert(one, reader) for name, one in bound.arguments.items()}
        try:
            found = self._returned(code, lines, names)
        except Unknown:
            found = None
        if found is None:
            self.inner = inner
        return found

    def _returned(
        self, code: Instrumented, lines: Sequence[tuple[Line, Scope]], names: dict[str, Term]
    ) -> Term | None:
        unknown: set[str] = set()
        seen: set[str] = set()
        for line, scope in lines[:-1]:
            right: Any = ast.parse(line.text).body[0]
            simple = isinstance(right, ast.Assign) and isinstance(right.targets[0], ast.Name)
            if line.name in seen or not simple or _reads(right.value) & unknown:
                unknown.add(line.name)
            else:
                there = self._reader(code, line, scope, names)._replace(strict=True)
                try:
                    names[line.name] = convert(right.value, there)
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
        text = sources.line_at(code.file, line.number)
        self.inner.append(Inner(text, sources.shown_path(code.file), line.number))
        return _prose(beside, reader) if beside else convert(right, reader)


def _prose(text: str, reader: Reader) -> Term:
    """Return a formula that no line computes: as mathematics where it can be read so, or words."""
    try:
        term = read(text, reader._replace(call=lambda node, reader: None, strict=False))
    except (NameError, AttributeError, TypeError, IndexError):
        term = None
    return term or words(text)


def _reads(node: ast.expr) -> set[str]:
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}


def _shows(node: ast.expr, reader: Reader) -> bool:
    """Tell whether an argument belongs into a formula: an array or a number does."""
    try:
        value = reader.evaluate(ast.unparse(node))
    except Exception:
        return True
    return hasattr(value, "dtype") or isinstance(value, int | float)
