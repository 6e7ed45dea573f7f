"""A reader's backward, run at one case: a verdict on each line, and the first wrong one named."""

from collections.abc import Collection, Sequence
from types import EllipsisType
from typing import Any

import numpy as np

from minise.gradcheck.slopes.arrays import copied
from minise.grading.answer import BLANK, BROKEN, FOLLOWS, RIGHT, UNSEEN, WRONG
from minise.grading.blame import blame_failing, blame_line, blame_returned, first_wrong
from minise.grading.compare import close, floats, may_become
from minise.grading.failing import shapes_of
from minise.grading.found import Found, Ran
from minise.grading.inplace import changed, first_change, reason
from minise.grading.lines import (
    followers,
    line_of,
    lines_in_part,
    looped,
    readers,
    returned_names,
    summed_in_loops,
    written_in_part,
)
from minise.grading.truth import Truth
from minise.tracing.instrument import RETURN, Instrumented, Line, Scope


def judge(code: Instrumented, truth: Truth, given: Collection[str] = ()) -> Found:
    """Run a backward at a case and judge its lines.

    Parameters
    ----------
    code : Instrumented
        The reader's backward.
    truth : Truth
        The case.
    given : collection of str
        Names that lines assign which are not the reader's: they are right.
    """
    found = Found(code, truth.case)
    dout, cache = truth.dout.copy(), copied(truth.cache)
    stop: Line | None = None
    problem, blank, returned, shapes = "", False, None, False
    try:
        returned = _run(found, dout, cache)
    except _Stop:
        stop, blank = found.steps.pop().line, True
    except Exception as error:
        stop, problem = line_of(error, code), f"{type(error).__name__}: {error}"
        problem += shapes_of(error, code)
        blank = stop is not None and stop.text.rstrip().endswith("= ...")
        shapes = isinstance(error, ValueError | IndexError)
    found.verdicts = _verdicts(found, truth, stop, given)
    if stop is not None and blank:
        found.verdicts[stop] = BLANK
    if changed(dout, cache, truth) and _judge_in_place(found, truth):
        return found
    if stop is not None:
        found.verdicts[stop] = BLANK if blank else BROKEN
        if shapes and not blank:
            _judge_shapes(found, truth)
        if (line := first_wrong(found)) is not None:
            blame_line(found, truth, line)
        elif blank or not shapes or not blame_failing(found, truth, stop, problem):
            found.culprit, found.reason = stop, "" if blank else problem
    elif problem:
        found.reason = problem
    else:
        _judge_returned(found, truth, returned)
    return found


class _Stop(Exception):
    """Ends a run at a line that is blank."""


def _run(found: Found, dout: Any, cache: Any) -> Any:
    """Run the reader's lines into found.steps, up to one that is blank."""

    def note(line: Line, value: Any, scope: Scope) -> Any:
        if line.name == RETURN:
            parts = written_in_part(found.code).items()
            found.steps.extend(Ran(one, copied(scope.get(name))) for name, one in parts)
            found.steps.sort(key=lambda step: step.line.number)
        found.steps.append(Ran(line, copied(value)))  # as it is here: a later line may change it
        results = value if line.name == RETURN and isinstance(value, tuple) else (value,)
        if any(isinstance(one, EllipsisType) for one in results):
            raise _Stop
        return value

    return found.code.run(note, dout, cache)


def _verdicts(
    found: Found, truth: Truth, stop: Line | None, given: Collection[str]
) -> dict[Line, str]:
    """Return a verdict for each line; of several that assign one name only the last counts."""
    code, filled = found.code, written_in_part(found.code)
    last = {step.line.name: step for step in found.steps}
    more = set() if stop is None else _assigned_later(code, stop)
    verdicts = {step.line: UNSEEN for step in found.steps}
    if stop is not None:
        above = [line for line in lines_in_part(code) if line.number < stop.number]
        verdicts |= dict.fromkeys(above, UNSEEN)
    final = {f"d{name}" for name in truth.names} & returned_names(code)
    for name, (line, _) in last.items():
        if name == RETURN or name in more or found.is_part(line, truth.like(name)):
            continue
        value = found.given_by(line, truth.like(name))
        verdicts[line] = _verdict(truth, name, value)
        if verdicts[line] == WRONG:
            verdicts |= _reused(truth, Ran(line, value), found.steps)
        if name in final and not truth.fits(name, value):
            verdicts[line] = WRONG
    for line in verdicts:
        if line.name in given or (line.name in filled and line != filled[line.name]):
            verdicts[line] = RIGHT
    return verdicts


def _assigned_later(code: Instrumented, stop: Line) -> set[str]:
    """Return the names that lines make which would run behind the one where a run stopped."""
    below = {line.name for line in code.lines if line.number > stop.number}
    again = summed_in_loops(code) if stop.number in looped(code) else set()
    return below | set(written_in_part(code)) | again


def _reused(truth: Truth, last: Ran, steps: Sequence[Ran]) -> dict[Line, str]:
    """Return verdicts on the lines of a name that means something else in the last of them.

    It held its own gradient before, or holds that of another array.
    """
    before = [one for one in steps if one.line.name == last.line.name and one.line != last.line]
    right = [one.line for one in before if _verdict(truth, one.line.name, one.value) == RIGHT]
    if right or (before and truth.is_slope(last.value)):
        return {last.line: UNSEEN, **dict.fromkeys(right, RIGHT)}
    return {}


def _verdict(truth: Truth, name: str, value: Any) -> str:
    """Judge what a name holds: by forward's slope, or else by the op's own line of that name."""
    if name in truth.own:
        return RIGHT if np.array_equal(value, truth.own[name]) else WRONG
    of = name.removeprefix("d")
    if of != name and name != "dout" and floats(truth.values.get(of)):
        right = truth.right(of)
        if np.size(value) == right.size:
            return RIGHT if close(value, right) else WRONG
        return UNSEEN if may_become(value, right) else WRONG
    twin = truth.twins.get(name)
    if floats(twin) and floats(value) and np.size(twin) == np.size(value):
        return RIGHT if close(value, twin) else UNSEEN
    return UNSEEN


def _judge_shapes(found: Found, truth: Truth) -> None:
    """Mark lines WRONG whose gradient is of another size, where something below goes wrong.

    Who sums later does so in the lines that read it: where these are right, so is the line.
    """
    last = {step.line.name: step.line for step in found.steps}
    for name, line in last.items():
        of = name.removeprefix("d")
        if found.verdicts.get(line) != UNSEEN or of == name or not floats(truth.values.get(of)):
            continue
        value = found.given_by(line, truth.right(of))
        if found.is_part(line, truth.right(of)):
            continue
        below = [found.verdicts.get(one) for one in readers(found.code, line, found.verdicts)]
        if np.size(value) != truth.right(of).size and not (below and set(below) == {RIGHT}):
            found.verdicts[line] = WRONG


def _judge_in_place(found: Found, truth: Truth) -> bool:
    """Name the line that changes dout or the cache, unless one above it is wrong."""
    change = first_change(found.code, truth)
    if change is None:
        return False
    (line, name), wrong = change, first_wrong(found)
    if wrong is not None and wrong.number < line.number:
        return False
    found.culprit, found.reason, found.sure = line, reason(line, name), True
    found.verdicts[line] = WRONG
    for one in followers(found.code, line._replace(name=name), found.verdicts):
        if found.verdicts[one] == WRONG:
            found.verdicts[one] = FOLLOWS
    return True


def _judge_returned(found: Found, truth: Truth, returned: Any) -> None:
    """Judge what is returned: where it is right, all is, however the lines are written."""
    if returned is None:
        found.reason = "it returns nothing: is there a return?"
        return
    gradients: Sequence[Any] = returned if isinstance(returned, tuple | list) else (returned,)
    last = found.steps[-1].line
    if len(gradients) != len(truth.inputs):
        wanted = ", ".join(f"d{name}" for name in truth.names)
        found.culprit, found.verdicts[last] = last, WRONG
        found.reason = f"it returns {len(gradients)} gradients, expected {wanted}"
        return
    wrong = [k for k, one in enumerate(gradients) if not truth.returned_is_right(k, one)]
    if not wrong:
        found.verdicts = dict.fromkeys(found.verdicts, RIGHT)
        return
    found.verdicts[last] = UNSEEN
    _judge_shapes(found, truth)
    if (line := first_wrong(found)) is not None:
        blame_line(found, truth, line)
    else:
        blame_returned(found, truth, wrong[0], gradients[wrong[0]])
