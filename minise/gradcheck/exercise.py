"""Exercises: a backward with blanks is judged line by line, and the first wrong line is named.

A reader fills in the lines of a backward. What comes back is judged on small cases, the smallest
first, each by an exact derivative of the real forward:

    every gradient returned is right     solved, however the lines are written
    a line ``dv = …`` is wrong           where forward has a ``v``, its own slope in v says so
    another line is wrong                where the op's backward has that name too, its value says
    a line is ``...``                    it is still to do, and all lines above it are judged

The first wrong line is where the mistake is: those below inherit it. Its gradient is then compared
entry by entry, so that what is wrong with it can be named (diagnose.py), and hints follow in
steps; the last one is the line that trains.
"""

import ast
import linecache
import textwrap
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import EllipsisType
from typing import Any, NamedTuple, TypeGuard

import numpy as np

from minise.gradcheck.adapters import parameter_names
from minise.gradcheck.answer import BLANK, BROKEN, RIGHT, UNSEEN, WRONG, Answer, Verdict
from minise.gradcheck.arrays import copied, promoted, same
from minise.gradcheck.cases import Case, draw
from minise.gradcheck.diagnose import UNKNOWN, diagnose
from minise.gradcheck.diagnose import Case as Wrong
from minise.gradcheck.instrument import RETURN, Instrumented, Line, Scope
from minise.gradcheck.lines import (
    first_line,
    line_of,
    only_a_name,
    reads_at,
    returned_at,
    source_of,
    writes,
    written_in_part,
)
from minise.gradcheck.slopes import EPS, TINY
from minise.ops import reference
from minise.ops.checks import Array

FEW = 3  # entries say too little to tell one mistake from another
VAGUE = {UNKNOWN, "permuted"}
HALF = EPS**0.5  # of the digits: rounding never takes so many, a mistake always does


class Exercise:
    """A backward to fill in.

    Parameters
    ----------
    cases : sequence of Case
        Of one op, the smallest first; minise.gradcheck.cases has the class.
    hints : mapping of str to sequence of str, optional
        By the name that a line assigns. The op's own line is added behind them.
    given : collection of str
        Names that lines of the exercise assign which are not the reader's: they are right.
    integers : bool
        Whether small integers are drawn, so that numbers tie.
    seed : int
        Of the random numbers: inputs and dout.

    Examples
    --------
    >>> from minise.gradcheck.cases import Case
    >>> exercise = Exercise([Case("linear", dict(N=2, I=3, O=2))])
    >>> print(exercise.check(reference.linear_backward).headline())
    linear_backward: solved, every gradient is right
    """

    def __init__(
        self,
        cases: Sequence[Case],
        hints: Mapping[str, Sequence[str]] | None = None,
        *,
        given: Collection[str] = (),
        integers: bool = False,
        seed: int = 0,
    ) -> None:
        self.op = cases[0].op
        self.hints = dict(hints or {})
        rng = np.random.default_rng(seed)
        forward = getattr(reference, f"{self.op}_forward")
        self.solution = getattr(reference, f"{self.op}_backward")
        self._cases = [
            _Place(forward, self.solution, case, set(given), rng, integers) for case in cases
        ]

    def check(self, backward: Callable[..., Any]) -> Answer:
        """Judge a backward at every case, and answer at the first that shows something wrong."""
        title = getattr(backward, "__name__", "backward")
        try:
            code = Instrumented(backward, file=backward.__code__.co_filename)
        except (AttributeError, OSError, TypeError, ValueError):
            reason = "its source is not to be found: define it in a file, or in a notebook's cell"
            return Answer(title, solved=False, reason=reason)
        found = None
        for place in self._cases:
            found = place.judge(code)
            if not found.solved:
                found.reason += self._likely(code, found.of)
                return found._answer(title, self._hints_of)
        assert found is not None
        return found._answer(title, self._hints_of)

    def _likely(self, code: Instrumented, of: str) -> str:
        """Return the likely mistake, by the largest case: small ones look like many."""
        if not of:
            return ""
        largest = self._cases[-1]
        found = largest.judge(code)
        text = largest.likely(of, found.value) if found.of == of else ""
        return f"; at {largest.case} {text}" if text else ""

    def _hints_of(self, name: str) -> tuple[str, ...]:
        lines = [one for one in Instrumented(self.solution).lines if one.name == name]
        own = [lines[-1].text] if lines else []
        return (*self.hints.get(name, ()), *own)


class _Stop(Exception):
    """Ends a run at a line that is blank."""


class _Step(NamedTuple):
    line: Line
    value: Any


@dataclass
class _Found:
    """What a run at one case showed."""

    code: Instrumented
    steps: list[_Step]
    verdicts: dict[Line, str]
    case: str
    culprit: Line | None = None
    others: tuple[Line, ...] = ()
    reason: str = ""
    of: str = ""  # what the wrong gradient is for
    value: Any = None

    @property
    def solved(self) -> bool:
        return self.culprit is None and not self.reason

    def _answer(self, title: str, hints_of: Callable[[str], tuple[str, ...]]) -> Answer:
        order = sorted(self.verdicts, key=lambda line: (line.number, line.name == RETURN))
        if self.culprit is not None and self.verdicts.get(self.culprit) == UNSEEN:
            self.verdicts[self.culprit] = WRONG
        shown = {line: self._verdict(line) for line in order}
        hints: tuple[str, ...] = ()
        if self.culprit is not None:
            hints = hints_of(self.culprit.name)
        return Answer(
            title,
            self.solved,
            tuple(shown.values()),
            shown.get(self.culprit) if self.culprit else None,
            self.reason,
            ""
            if self.culprit is None or self.verdicts[self.culprit] == BLANK
            else f"at the smallest case that shows it: {self.case}",
            hints,
            tuple(shown[line] for line in self.others if line in shown),
        )

    def _verdict(self, line: Line) -> Verdict:
        number = line.number - first_line(self.code) + 1
        return Verdict(number, line.text, line.name, self.verdicts[line])


class _Place:
    """One case with its arrays, and what is right there."""

    def __init__(
        self,
        forward: Callable[..., Any],
        backward: Callable[..., Any],
        case: Case,
        given: set[str],
        rng: np.random.Generator,
        integers: bool,
    ) -> None:
        self.given = given
        self.inputs, self.settings = draw(case, rng, integers=integers)
        self.there = Instrumented(forward)
        self.names = parameter_names(forward, len(self.inputs))[: len(self.inputs)]
        (self.out, self.cache), steps = self.there.trace(*self.inputs, **self.settings)
        self.dout = np.asarray(rng.standard_normal(np.shape(self.out)))
        _, twins = Instrumented(backward).trace(self.dout, self.cache)
        self.values = {step.line.name: step.value for step in steps}
        self.values |= dict(zip(self.names, self.inputs, strict=True))
        self.twins = {step.line.name: step.value for step in twins}
        self.case = ", ".join(f"{k} = {v}" for k, v in {**case.sizes, **case.settings}.items())
        sizes = {k: v for k, v in case.sizes.items() if isinstance(v, int)}
        if "H" in sizes:
            sizes["H*W"] = sizes["H"] * sizes["W"]
            sizes["N*H*W"] = sizes["N"] * sizes["H*W"]
        self.sizes = {k: v for k, v in sizes.items() if k not in ("H", "W")}
        self._right: dict[str, Array] = {}

    def right(self, of: str) -> Array:
        """Return the gradient with respect to an input or an intermediate, entry by entry."""
        if of not in self._right:
            value = np.asarray(self.values[of])
            found = np.zeros(value.shape)
            for entry in np.ndindex(*value.shape):
                u = np.zeros(value.shape)
                u[entry] = 1
                found[entry] = np.vdot(self.dout, self._moved(of, u).imag / TINY)
            self._right[of] = found
        return self._right[of]

    def _moved(self, of: str, u: Array) -> Any:
        """Return out where one of forward's arrays is moved by a complex step along u."""
        inputs = [promoted(value) for value in self.inputs]
        settings = {key: promoted(value) for key, value in self.settings.items()}
        if of in self.names:
            inputs[self.names.index(of)] = inputs[self.names.index(of)] + 1j * TINY * u
            return np.asarray(self.there.function(*inputs, **settings)[0])
        return np.asarray(self.there.moved(of, 1j * TINY * u, *inputs, **settings)[0])

    def judge(self, code: Instrumented) -> _Found:
        """Run a backward and judge its lines."""
        steps: list[_Step] = []
        found = _Found(code, steps, {}, self.case)

        def note(line: Line, value: Any, scope: Scope) -> Any:
            if line.name == RETURN:
                filled = [(one, scope.get(name)) for name, one in written_in_part(code).items()]
                steps.extend(_Step(one, array) for one, array in filled)
                steps.sort(key=lambda step: step.line.number)
            steps.append(_Step(line, value))
            parts = value if line.name == RETURN and isinstance(value, tuple) else (value,)
            if any(isinstance(one, EllipsisType) for one in parts):
                raise _Stop
            return value

        dout, cache = self.dout.copy(), copied(self.cache)
        stop: Line | None = None
        problem, blank, returned = "", False, None
        try:
            returned = code.run(note, dout, cache)
        except _Stop:
            stop, blank = steps.pop().line, True
        except Exception as error:
            stop, problem = line_of(error, code), f"{type(error).__name__}: {error}"
            blank = stop is not None and stop.text.rstrip().endswith("= ...")
        found.verdicts = self._judged(code, steps, stop)
        if stop is not None:
            found.verdicts[stop] = BLANK if blank else BROKEN
            self._name_first(found, stop, "" if blank else problem)
        elif problem:
            found.reason = problem
        elif not same(dout, self.dout):
            found.reason = "it changes dout in place: another branch may need it, so copy it first"
        else:
            self._judge_returned(found, returned)
        return found

    def _judged(
        self, code: Instrumented, steps: Sequence[_Step], stop: Line | None
    ) -> dict[Line, str]:
        """Return a verdict for each line; of several that assign one name only the last counts."""
        last = {step.line.name: step for step in steps}
        more = {line.name for line in code.lines if stop is not None and line.number > stop.number}
        if stop is not None:
            more |= set(written_in_part(code))
        verdicts = {step.line: UNSEEN for step in steps}
        for name, step in last.items():
            if name != RETURN and name not in more:
                verdicts[step.line] = self._of_line(name, step.value)
        filled = written_in_part(code)
        for line in verdicts:
            if line.name in self.given or (line.name in filled and line != filled[line.name]):
                verdicts[line] = RIGHT
        return verdicts

    def _of_line(self, name: str, value: Any) -> str:
        of = name.removeprefix("d")
        if of != name and name != "dout" and _floats(self.values.get(of)):
            right = self.right(of)
            if np.size(value) == right.size:
                return RIGHT if _close(value, right) else WRONG
        twin = self.twins.get(name)
        if _floats(twin) and _floats(value) and np.size(twin) == np.size(value):
            return RIGHT if _close(value, twin) else UNSEEN
        return UNSEEN

    def _name_first(self, found: _Found, otherwise: Line | None, reason: str) -> None:
        """Name the first line that is wrong; else another, for another reason."""
        for step in found.steps:
            if found.verdicts.get(step.line) == WRONG:
                self._blame(found, step.line)
                return
        found.culprit, found.reason = otherwise, reason

    def _judge_returned(self, found: _Found, returned: Any) -> None:
        if returned is None:
            found.reason = "it returns nothing: is there a return?"
            return
        gradients = tuple(returned) if isinstance(returned, tuple | list) else (returned,)
        last = found.steps[-1].line
        if len(gradients) != len(self.inputs):
            wanted = ", ".join(f"d{name}" for name in self.names)
            found.culprit = last
            found.reason = f"it returns {len(gradients)} gradients, expected {wanted}"
            found.verdicts[last] = WRONG
            return
        wrong = [k for k, gradient in enumerate(gradients) if self._wrong(k, gradient)]
        if not wrong:
            for line in found.verdicts:
                found.verdicts[line] = RIGHT
            return
        found.verdicts[last] = UNSEEN
        for step in found.steps[:-1]:
            if found.verdicts[step.line] == WRONG:
                self._blame(found, step.line)
                return
        name = self.names[wrong[0]]
        self._blame(found, last, name, gradients[wrong[0]], wrong[0])

    def _wrong(self, k: int, gradient: Any) -> bool:
        """Tell whether the gradient of input k is wrong."""
        value = self.inputs[k]
        if not _floats(value):
            return gradient is not None
        if not _floats(gradient) or np.shape(gradient) != np.shape(value):
            return True
        return not _close(gradient, self.right(self.names[k]))

    def _blame(
        self, found: _Found, line: Line, of: str = "", value: Any = None, place: int | None = None
    ) -> None:
        """Name a wrong line, or one above it that it reads and that nothing vouches for."""
        if not of:
            of = line.name.removeprefix("d")
            value = next(step.value for step in reversed(found.steps) if step.line == line)
        suspects = [one for one in _doubtful(found, line, place) if one != line]
        twins = [one for one in suspects if one.name != line.name and self._differs(found, one)]
        hands_on = line.name == RETURN and place is not None and only_a_name(found.code, place)
        if twins:
            found.culprit = twins[0]
        elif hands_on and suspects:
            found.culprit, found.others = suspects[-1], tuple(suspects[:-1])
        elif hands_on and (own := _assigns(found, line, place)):
            found.culprit = own
        else:
            found.culprit, found.others = line, tuple(suspects)
        if found.verdicts[found.culprit] != WRONG and not found.others:
            found.verdicts[found.culprit] = WRONG
        found.reason, found.of, found.value = self._reason(of, value), of, value

    def _differs(self, found: _Found, line: Line) -> bool:
        twin = self.twins.get(line.name)
        values = [step.value for step in found.steps if step.line == line]
        if not values or not _floats(twin) or not _floats(values[-1]):
            return False
        return np.size(twin) != np.size(values[-1]) or not _close(values[-1], twin)

    def _reason(self, of: str, value: Any) -> str:
        """Return in numbers what is wrong with a gradient, and the likely mistake."""
        right, name = self.right(of) if _floats(self.values[of]) else None, f"d{of}"
        if right is None:
            return f"{name} is a gradient, expected None: {of} holds integers, or is None"
        if not _floats(value):
            return f"{name} is {type(value).__name__}, expected an array of shape {right.shape}"
        if np.size(value) != right.size:
            return f"{name} has shape {np.shape(value)}, expected {right.shape}, that of {of}"
        if np.shape(value) != right.shape and _close(value, right):
            return f"{name} has shape {np.shape(value)}, expected {right.shape}: reshape it"
        wrong = np.reshape(value, right.shape)
        worst = np.unravel_index(int(np.argmax(abs(wrong - right))), right.shape)
        entry = f"{name}[{', '.join(map(str, worst))}]" if worst else name
        text = f"{entry} is {float(wrong[worst]):.6g}, forward's slope is {float(right[worst]):.6g}"
        return text

    def likely(self, of: str, value: Any) -> str:
        """Return the mistake that a wrong gradient looks like, or nothing."""
        if not _floats(self.values[of]) or not _floats(value):
            return ""
        right = self.right(of)
        if np.size(value) != right.size or right.size < FEW or _close(value, right):
            return ""
        wrong, array = np.reshape(value, right.shape), np.asarray(self.values[of])
        case = Wrong(wrong, right, array, self._others(of, right.shape), self.sizes)
        answer = diagnose(case)
        return "" if answer.kind in VAGUE else answer.text

    def _others(self, of: str, shape: tuple[int, ...]) -> Iterator[tuple[str, Array]]:
        for name, value in self.values.items():
            if name != of and _floats(value) and np.shape(value) == shape and len(shape):
                yield name, self.right(name)


def _doubtful(found: _Found, line: Line, place: int | None) -> Iterator[Line]:
    """Yield the lines that a wrong one comes from and that nothing vouches for, in order."""
    tree = ast.parse(textwrap.dedent(source_of(found.code))).body[0]
    right = {one.name for one, verdict in found.verdicts.items() if verdict == RIGHT}
    right -= {one.name for one, verdict in found.verdicts.items() if verdict == WRONG}
    wanted, seen = {line.number}, set()
    names = reads_at(tree, line, place, first_line(found.code))
    ran = {one.number: one for one in found.verdicts}
    parts = written_in_part(found.code)
    if line.name in parts:
        names, right = {line.name}, right - {line.name}
    while names:
        name = names.pop()
        if name in right or name in seen:
            continue
        seen.add(name)
        for number, reads in writes(tree, name, first_line(found.code)):
            if number <= line.number or name in parts:
                wanted.add(number)
                names |= reads
    lines = {
        number: ran.get(number)
        or Line(RETURN, number, linecache.getline(str(found.code.file), number).strip())
        for number in sorted(wanted)
    }
    for one in lines.values():
        if one not in found.verdicts:
            found.verdicts[one] = UNSEEN
        yield one


def _assigns(found: _Found, line: Line, place: int | None) -> Line | None:
    """Return the last line that made what is returned at a place under its name."""
    tree = ast.parse(textwrap.dedent(source_of(found.code))).body[0]
    element = returned_at(tree, place or 0)
    name = element.id if isinstance(element, ast.Name) else ""
    lines = [one for one in found.verdicts if one.name == name]
    return lines[-1] if lines else None


def _floats(value: Any) -> TypeGuard[Array]:
    return isinstance(value, np.ndarray | np.generic) and value.dtype.kind == "f"


def _close(value: Any, right: Array) -> bool:
    """Tell whether two gradients agree to half of all digits of the largest entry."""
    apart = np.reshape(value, np.shape(right)) - right
    return bool(np.max(abs(apart)) <= HALF * max(float(np.max(abs(right))), HALF))
