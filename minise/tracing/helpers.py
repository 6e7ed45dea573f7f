"""Find the lines of helper functions that one line executes: the code that computes its value."""

import ast
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from minise.ops.reference import sums
from minise.tracing.instrument import PACKAGE, RETURN, Instrumented, Line, Scope
from minise.tracing.source import line_at, statements_of

REFERENCE = PACKAGE / "ops" / "reference"
NOTATION = Path(sums.__file__).resolve()  # its functions are sums, not helpers


class Executed(NamedTuple):
    """A line of a helper that ran."""

    file: Path
    number: int  # line number in the file, from 1
    text: str  # the line; the comment of the head of a loop is part of it
    helper: str  # name of the function
    depth: int  # calls and loops around it
    evaluate: Callable[[str], Any]  # the value of an expression before the line ran


def executed(code: Instrumented, line: Line, scope: Scope) -> list[Executed]:
    """Return the lines of helpers that a line executes, each once, in the order of execution.

    A helper is a plain function of `minise.ops.reference` or of the file of `code`; its helpers
    are included. Lines that only choose between branches are left out.
    """
    run = _Run({code.file})
    right: Any = ast.parse(line.text).body[0]
    call = Line(RETURN, line.number, f"return {ast.unparse(right.value)}")
    before = sys.gettrace()
    sys.settrace(run.enter)
    try:
        code.run_line(call, scope)
    finally:
        sys.settrace(before)
    return list(run.lines.values())


class _Run:
    """The lines seen so far, by file and number."""

    def __init__(self, files: set[Path]) -> None:
        self.files = files
        self.lines: dict[tuple[Path, int], Executed] = {}
        self.calls: list[tuple[FrameType, int, int]] = []  # frame, depth, depth of its last line

    def enter(self, frame: FrameType, event: str, _: Any) -> Any:
        """Follow a call if it is a call of a helper."""
        file = _path(frame.f_code.co_filename)
        if not frame.f_code.co_qualname.isidentifier() or not self._has_helpers(file):
            return None  # a method, a comprehension or a module, or no helper
        depth = self.calls[-1][2] + 1 if self.calls else 0
        self.calls.append((frame, depth, depth))
        return self.step

    def step(self, frame: FrameType, event: str, _: Any) -> Any:
        """Store the line that a helper is about to run."""
        if event == "return":
            self.calls.pop()
        elif event == "line":
            self._add(frame, _path(frame.f_code.co_filename))
        return self.step

    def _add(self, frame: FrameType, file: Path) -> None:
        statement = statements_of(file).get(frame.f_lineno)
        if statement is None:  # a test
            return
        depth = self.calls[-1][1] + statement.loops
        self.calls[-1] = (*self.calls[-1][:2], depth)
        key = file, statement.number
        if key not in self.lines:
            text = line_at(file, statement.number, comment=statement.is_loop)
            name, evaluate = frame.f_code.co_name, _evaluator(frame, file)
            self.lines[key] = Executed(*key, text, name, depth, evaluate)

    def _has_helpers(self, file: Path) -> bool:
        return file in self.files or (file.parent == REFERENCE and file != NOTATION)


@cache
def _path(name: str) -> Path:
    return Path(name).resolve()


def _evaluator(frame: FrameType, file: Path) -> Callable[[str], Any]:
    """Return a function that evaluates an expression with the variables of a frame."""
    function: Any = frame.f_globals.get(frame.f_code.co_name)
    number, scope = frame.f_lineno, dict(frame.f_locals)

    def evaluate(text: str) -> Any:
        code = Instrumented(function, file=file)
        return code.run_line(Line(RETURN, number, f"return {text}"), scope)

    return evaluate
