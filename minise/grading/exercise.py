"""Exercises: a backward with blanks is judged line by line, and the first wrong line is named.

A reader fills in the lines of a backward. What comes back is judged on small cases, the smallest
first, each by an exact derivative of the real forward (truth.py):

    every gradient returned is right     solved, however the lines are written
    a line ``dv = …`` is wrong           where forward has a ``v``, its own slope in v says so
    another line is wrong                where the op's backward has that name too, its value says
    a line changes dout or the cache     it is wrong, whatever comes back
    a line is ``...``                    it is still to do, and all lines above it are judged

The first wrong line is where the mistake is: those below inherit it (judge.py, blame.py). A line
that cannot be judged alone is, by mending the others (mend.py, settle.py). The wrong gradient is
then compared entry by entry, so that what is wrong with it can be named
(minise.gradcheck.diagnose), and hints follow in steps; the last one is the line that trains.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from minise.checks import Array
from minise.contract.case import OPS, Case
from minise.grading.answer import Answer
from minise.grading.found import Found, worst
from minise.grading.judge import judge
from minise.grading.lines import names_in, names_of
from minise.grading.mend import Mended
from minise.grading.settle import settle
from minise.grading.truth import Truth
from minise.grading.worksheet import blanks_in, source_of, worksheet
from minise.ops import reference
from minise.tracing.instrument import Instrumented


class Exercise:
    """A backward to fill in.

    Parameters
    ----------
    cases : sequence of Case
        Of one op, the smallest first; minise.contract.case has the class.
    hints : mapping of str to sequence of str, optional
        By the name that a line assigns. The op's own line is added behind them, unless the last
        one is such a line, or it reads names that the exercise does not have.
    given : collection of str
        Names that lines of the exercise assign which are not the reader's: they are right.
    own : mapping of str to callable, optional
        By the name that a line assigns and that is no gradient, such as a mask: what it holds,
        from the cache.
    integers : bool
        Whether small integers are drawn, so that numbers tie.
    seed : int
        Of the random numbers: inputs and dout.

    Attributes
    ----------
    op : str
        What the backward is of.
    truths : list of Truth
        The cases with their arrays, and what is right there.
    solution : callable
        The op's own backward, from the reference.
    checked : callable or None
        The backward that was judged last.

    Raises
    ------
    ValueError
        If there is no case, a case of another op, or an op that the reference does not have.

    Examples
    --------
    >>> from minise.contract.case import Case
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
        own: Mapping[str, Callable[[Any], Array]] | None = None,
        integers: bool = False,
        seed: int = 0,
    ) -> None:
        self.op = _op_of(cases)
        self.checked: Callable[..., Any] | None = None
        self.hints = dict(hints or {})
        self.solution = getattr(reference, f"{self.op}_backward")
        self._given = set(given)
        rng = np.random.default_rng(seed)
        forward = getattr(reference, f"{self.op}_forward")
        self.truths = [Truth(forward, self.solution, c, rng, integers=integers) for c in cases]
        for truth in self.truths:
            truth.own = {name: value(truth.cache) for name, value in (own or {}).items()}

    def check(self, backward: Callable[..., Any]) -> Answer:
        """Judge a backward at every case, and name its first wrong line, at the smallest case."""
        self.checked = backward
        title = getattr(backward, "__name__", "backward")
        try:
            code = Instrumented(backward, file=backward.__code__.co_filename, in_place=True)
        except (AttributeError, OSError, TypeError, ValueError):
            reason = "its source is not to be found: define it in a file, or in a notebook's cell"
            return Answer(title, solved=False, reason=reason)
        every = [judge(code, truth, self._given) for truth in self.truths]
        found, _ = min(zip(every, self.truths, strict=True), key=_first)
        if found.blank:
            found.verdicts = worst(every)
        if not found.solved and not found.sure:
            found = settle(found, every, Mended(code, self.right_lines(code), self.truths))
        if not found.solved and not found.blank:
            found.likely = self._likely(found)
        return found.answer(title, lambda name: self._hints_of(name, code))

    def worksheet(self, backward: Callable[..., Any] | None = None) -> str:
        """Return a backward with its blanks, and the hints of each blank in order, as HTML.

        Parameters
        ----------
        backward : callable, optional
            The function with blanks; by default the one that was judged last.

        Raises
        ------
        ValueError
            If no backward was passed or judged.
        """
        backward = backward or self.checked
        if backward is None:
            raise ValueError("Exercise.worksheet: no backward was judged yet: pass the function")
        try:
            code = Instrumented(backward, file=backward.__code__.co_filename, in_place=True)
        except (AttributeError, OSError, TypeError, ValueError):
            return worksheet(source_of(backward), self.hints)
        source = source_of(backward)
        names = dict.fromkeys(blanks_in(source).values())
        return worksheet(source, {name: self._hints_of(name, code) for name in names})

    def right_lines(self, code: Instrumented) -> list[str]:
        """Return the last hint of each name, which is the right line."""
        return [hints[-1] for name in self.hints if (hints := self._hints_of(name, code))]

    def _likely(self, found: Found) -> str:
        """Return the likely mistake, by the largest case: small ones look like many."""
        if not found.of:
            return ""
        largest = self.truths[-1]
        there = judge(found.code, largest, self._given)
        text = largest.likely(found.of, there.value) if there.of == found.of else ""
        return f"likely (at {largest.case}): {text}" if text else ""

    def _hints_of(self, name: str, code: Instrumented) -> tuple[str, ...]:
        """Return the hints; the op's own line is one where the reader has all that it reads."""
        lines = [one for one in Instrumented(self.solution).lines if one.name == name]
        own = [lines[-1].text] if lines and names_in(lines[-1].text) <= names_of(code) else []
        hints = tuple(self.hints.get(name, ()))
        solved = hints and hints[-1].startswith((f"{name} ", f"{name}[", f"{name},"))
        return hints if solved else (*hints, *own)


def _first(case: tuple[Found, Truth]) -> tuple[int, float, bool]:
    """Return what sorts mistakes before blanks, and both by their line; the smallest case leads.

    But for one that hides a missing sum: its shape has axes too many, of size 1.
    """
    found, truth = case
    line = float("inf") if found.culprit is None else found.culprit.number
    kind = 2 if found.solved else 1 if found.blank else 0
    return kind, line, bool(found.of) and truth.hides_a_sum(found.of, found.value)


def _op_of(cases: Sequence[Case]) -> str:
    """Return the one op of all cases."""
    names = list(dict.fromkeys(case.op for case in cases))
    if len(names) != 1:
        raise ValueError(
            f"Exercise: cases are of {', '.join(names) or 'no op'}, expected one or more of one op"
        )
    if names[0] not in OPS:
        raise ValueError(f"Exercise: {names[0]!r} is no op, expected one of {', '.join(OPS)}")
    return names[0]
