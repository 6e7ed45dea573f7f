"""Tasks: a function that the reader writes without a skeleton, judged result by result."""

import ast
import inspect
import textwrap
from collections.abc import Callable, Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np

from minise.gradcheck import check
from minise.gradcheck.report import RIGHT, UNKNOWN, ArgumentReport
from minise.grading.compare import told
from minise.grading.worksheet import hints_html, source_of, worksheet

REL_TOL = 1e-8  # between two ways to compute a value; half of all digits in float64


class Finding(NamedTuple):
    """The verdict on one result of the reader's function."""

    name: str  # "dx"
    right: bool
    text: str = ""  # what is wrong, in one line


Judge = Callable[[Callable[..., Any]], list[Finding]]


class NotJudgeable(ValueError):
    """The reader's function as a whole cannot be judged; the message says why, in one line."""


class TaskAnswer:
    """The verdicts on the results of a function; print it, or let a notebook show it.

    Attributes
    ----------
    solved : bool
        Whether every result is right.
    blank : bool
        Whether the function has no body yet.
    findings : tuple of Finding
        One for each result.
    """

    def __init__(
        self,
        title: str,
        findings: Sequence[Finding] = (),
        hints: Sequence[str] = (),
        *,
        problem: str = "",
        blank: bool = False,
    ) -> None:
        self.title, self.findings, self.problem = title, tuple(findings), problem
        self.hints, self.blank = tuple(hints), blank
        self.solved = bool(findings) and all(finding.right for finding in findings)

    def headline(self) -> str:
        """Return the answer in one sentence."""
        if self.blank:
            return f"{self.title}: its body is to fill in"
        if self.problem:
            return f"{self.title}: {self.problem}"
        right = [finding.name for finding in self.findings if finding.right]
        if self.solved:
            return f"{self.title}: solved, {_counted(right)} right"
        wrong = [finding.name for finding in self.findings if not finding.right]
        text = f"{self.title}: {_counted(wrong)} wrong"
        return f"{text}, {_counted(right)} right" if right else text

    def __str__(self) -> str:
        """Return the answer as lines of text, with the first hint."""
        lines = [self.headline()]
        lines += [f"  {finding.name}: {finding.text}" for finding in self.findings if finding.text]
        if len(self.hints) > 1 and not self.solved:
            lines.append(f"  hint 1 of {len(self.hints)}: {self.hints[0]}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Return the answer with folded hints."""
        colour = "#2e7d32" if self.solved else "#b3541e"
        texts = "".join(
            f"<div><code>{escape(finding.name)}</code>: {escape(finding.text)}</div>"
            for finding in self.findings
            if finding.text
        )
        hints = "" if self.solved else hints_html(self.hints)
        return (
            f"<div style='border-left:4px solid {colour};padding:.2em 0 .2em .8em;"
            f"overflow-wrap:anywhere'><b>{escape(self.headline())}</b>{texts}{hints}</div>"
        )


class Task:
    r"""A function to write from nothing.

    Parameters
    ----------
    judge : callable
        `by_gradients(...)` or `by_values(...)`: maps the reader's function to findings.
    hints : sequence of str
        Hints in order, before the solution.
    solution : str
        Source of the function; it is the last hint.

    Raises
    ------
    ValueError
        If the solution is not one function, or there is no hint before it.

    Examples
    --------
    >>> task = Task(
    ...     by_gradients(lambda x: (x * x, x), [np.array([1.0, 2.0])], names=["x"]),
    ...     hints=["The derivative of a square is twice the number."],
    ...     solution="def square_backward(dout, x):\n    return 2 * x * dout",
    ... )
    >>> print(task.check(lambda dout, x: 2 * x * dout))
    <lambda>: solved, dx is right
    """

    def __init__(self, judge: Judge, *, hints: Sequence[str], solution: str) -> None:
        self.judge = judge
        self.solution = textwrap.dedent(solution).strip()
        kinds = [type(node) for node in ast.parse(self.solution).body]
        if kinds != [ast.FunctionDef]:
            raise ValueError("Task: solution is not one function: begin it with def")
        if not hints:
            raise ValueError("Task: hints is empty, expected one or more before the solution")
        self.hints = (*(inspect.cleandoc(hint) for hint in hints), self.solution)

    def check(self, function: Callable[..., Any]) -> TaskAnswer:
        """Judge a function: each of its results is right, or wrong with a reason."""
        title = getattr(function, "__name__", "function")
        if is_blank(function):
            return TaskAnswer(title, hints=self.hints, blank=True)
        try:
            return TaskAnswer(title, self.judge(function), self.hints)
        except NotJudgeable as error:
            return TaskAnswer(title, hints=self.hints, problem=str(error))
        except (Exception, SystemExit) as error:
            words = " ".join(str(error).split())
            problem = f"it fails: {type(error).__name__}: {words}"
            return TaskAnswer(title, hints=self.hints, problem=problem)

    def worksheet(self, function: Callable[..., Any]) -> str:
        """Return the function as it stands, and the folded hints, as HTML."""
        return worksheet(source_of(function), {}) + hints_html(self.hints)


def is_blank(function: Callable[..., Any]) -> bool:
    """Return True if the body of a function is only a docstring and `...`."""
    try:
        (definition,) = ast.parse(source_of(function)).body
    except (SyntaxError, ValueError):
        return False
    if not isinstance(definition, ast.FunctionDef):
        return False
    return all(
        isinstance(node, ast.Pass)
        or (isinstance(node, ast.Expr | ast.Return) and isinstance(node.value, ast.Constant))
        for node in definition.body
    )


def by_gradients(
    forward: Callable[..., Any],
    inputs: Sequence[Any],
    *,
    names: Sequence[str],
    branches: Callable[[Any], Any] | None = None,
) -> Judge:
    """Return a judge of a backward: every gradient against the derivative of forward.

    Parameters
    ----------
    forward : callable
        Maps the inputs to ``(out, cache)``.
    inputs : sequence of ndarray
        Random float64 arrays at which to check.
    names : sequence of str
        Names of the inputs; the gradient of x is called dx.
    branches : callable, optional
        As in `minise.gradcheck.check`.
    """

    def judge(backward: Callable[..., Any]) -> list[Finding]:
        report = check(forward, backward, list(inputs), branches=branches, names=names)
        if report.problem:
            raise NotJudgeable(report.problem)
        return [
            Finding(f"d{name}", argument.verdict == RIGHT, _reason(argument))
            for name, argument in zip(names, report.arguments, strict=True)
        ]

    return judge


def by_values(
    solution: Callable[..., Any],
    cases: Sequence[tuple[Any, ...]],
    *,
    names: Sequence[str],
    rel_tol: float = REL_TOL,
) -> Judge:
    """Return a judge of a function: each result against that of a correct function.

    Parameters
    ----------
    solution : callable
        The correct function.
    cases : sequence of tuple
        Positional arguments of each call, the smallest case first.
    names : sequence of str
        Names of the results.
    rel_tol : float
        Largest difference, relative to the largest entry of the correct result.
    """

    def judge(function: Callable[..., Any]) -> list[Finding]:
        texts = dict.fromkeys(names, "")
        for arguments in cases:
            expected = _results(solution(*_copied(arguments)), names)
            results = _results(function(*_copied(arguments)), names)
            for name, value, right in zip(names, results, expected, strict=True):
                texts[name] = texts[name] or _difference(value, right, rel_tol)
        return [Finding(name, not text, text) for name, text in texts.items()]

    return judge


def _counted(names: Sequence[str]) -> str:
    """Return names with their verb, such as "dx and dw are"."""
    if len(names) == 1:
        return f"{names[0]} is"
    return f"{', '.join(names[:-1])} and {names[-1]} are"


def _reason(argument: ArgumentReport) -> str:
    """Return what is wrong with a gradient, in one line, or "" if it is right."""
    if argument.verdict == RIGHT:
        return ""
    if argument.diagnosis and argument.diagnosis.kind != UNKNOWN:
        return argument.diagnosis.text
    if argument.problem or not argument.entries:
        return argument.sentence().partition(": ")[2]
    entry = argument.entries[0]
    index = ", ".join(map(str, entry.index))
    numbers = told(entry.exact, entry.numeric, "the derivative of forward is")
    return f"entry [{index}] is {numbers}"


def _copied(arguments: Sequence[Any]) -> list[Any]:
    """Return the arguments with a copy of each array, which a function may then change."""
    return [value.copy() if isinstance(value, np.ndarray) else value for value in arguments]


def _results(returned: Any, names: Sequence[str]) -> list[Any]:
    """Return the results of a function as arrays of float64, one for each name."""
    if returned is None or returned is ...:
        raise NotJudgeable("it returns nothing: is a return missing?")
    values = [returned] if len(names) == 1 and not isinstance(returned, tuple) else returned
    if not isinstance(values, tuple | list) or len(values) != len(names):
        count = len(values) if isinstance(values, tuple | list) else 1
        wanted = f"{len(names)} ({', '.join(names)})"
        raise NotJudgeable(f"it returns {count} value{'s' * (count != 1)}, expected {wanted}")
    try:
        return [np.asarray(value, dtype=np.float64) for value in values]
    except (TypeError, ValueError):
        raise NotJudgeable("it returns something else than numbers, expected arrays") from None


def _difference(value: Any, right: Any, rel_tol: float) -> str:
    """Return how a result differs from the correct one, in one line, or "" if it does not."""
    if value.shape != right.shape:
        return f"has shape {value.shape}, expected {right.shape}"
    differs = ~(abs(value - right) <= rel_tol * np.max(abs(right), initial=0.0))
    if not differs.any():
        return ""
    index = tuple(map(int, np.argwhere(differs)[0]))
    entry = f"entry [{', '.join(map(str, index))}] is" if index else "is"
    text = f"{entry} {told(float(value[index]), float(right[index]), 'expected')}"
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = (value / right)[right != 0]
    if ratios.size > 1 and np.ptp(ratios) <= rel_tol * abs(ratios[0]):
        text += f": every entry is {ratios[0]:.4g} times what is expected"
    return text
