"""Which line a wrong gradient comes from: itself, or one above that nothing vouches for."""

import ast
import linecache
from collections.abc import Iterator
from typing import Any

import numpy as np

from minise.grading.answer import RIGHT, UNSEEN, WRONG
from minise.grading.compare import close, floats
from minise.grading.found import Found
from minise.grading.lines import (
    first_line,
    only_a_name,
    reads_at,
    returned_at,
    tree_of,
    writes,
    written_in_part,
)
from minise.grading.truth import Truth
from minise.tracing.instrument import RETURN, Line


def first_wrong(found: Found) -> Line | None:
    """Return the first line, in the order in which they ran, whose verdict is WRONG."""
    wrong = (step.line for step in found.steps if found.verdicts.get(step.line) == WRONG)
    return next(wrong, None)


def blame_line(found: Found, truth: Truth, line: Line) -> None:
    """Name a line whose gradient is wrong, or one above it that it reads."""
    value = _value(found, truth, line)
    if line.name in truth.own:
        found.culprit, found.reason = line, truth.reason_of_own(line.name, value)
        return
    if not truth.fits(line.name, value):
        above = _misfits(found, truth, line)
        if truth.fills(line.name, value):  # so it is not to blame that others keep a shape
            above = [one for one in above if found.verdicts[one] != RIGHT]
        line, value = (above[0], _value(found, truth, above[0])) if above else (line, value)
    _blame(found, truth, line, line.name.removeprefix("d"), value, None)


def blame_failing(found: Found, truth: Truth, stop: Line, problem: str) -> bool:
    """Name a line above a failing one whose shape makes it fail; tell whether there is one.

    Where several lines keep another shape with the right numbers, that is how the reader writes,
    and the failing line is to blame.
    """
    above = _misfits(found, truth, stop)
    wrong = [one for one in above if found.verdicts[one] != RIGHT]
    if not wrong and len(above) != 1:
        return False
    line = (*wrong, *above)[0]
    _blame(found, truth, line, line.name.removeprefix("d"), _value(found, truth, line), None)
    number = stop.number - first_line(found.code) + 1
    found.reason += f"; line {number}, which reads it, fails: {problem}"
    return True


def _value(found: Found, truth: Truth, line: Line) -> Any:
    return found.given_by(line, truth.like(line.name))


def _misfits(found: Found, truth: Truth, line: Line) -> list[Line]:
    """Return the lines that one reads, through others, whose gradient has another shape."""
    tree, first = _tree(found), first_line(found.code)
    ran = dict.fromkeys(step.line for step in found.steps)
    above = {one.name: one for one in ran if one.number < line.number}
    names, seen = reads_at(tree, line, None, first), set[str]()
    while names:
        name = names.pop()
        if name in above and name not in seen:
            names |= reads_at(tree, above[name], None, first)
        seen.add(name)
    read = [one for name, one in above.items() if name in seen]
    read = [one for one in read if not found.is_part(one, truth.like(one.name))]
    unlike = [one for one in read if not truth.fits(one.name, _value(found, truth, one))]
    return sorted(unlike, key=lambda one: one.number)


def blame_returned(found: Found, truth: Truth, place: int, value: Any) -> None:
    """Name where a wrong gradient that is returned at a place comes from."""
    if (other := truth.is_gradient_of(value)) and only_a_name(found.code, place):
        order = ", ".join(f"d{name}" for name in truth.names)
        found.culprit = found.steps[-1].line
        found.verdicts[found.culprit] = WRONG
        found.reason = (
            f"the return hands over d{other} where d{truth.names[place]} is expected "
            f"(order: {order})"
        )
        return
    last = found.steps[-1].line
    if not floats(truth.inputs[place]):
        found.culprit, found.verdicts[last] = last, WRONG
        found.reason = truth.reason(truth.names[place], value)
        return
    _blame(found, truth, last, truth.names[place], value, place)


def _blame(found: Found, truth: Truth, line: Line, of: str, value: Any, place: int | None) -> None:
    suspects = [one for one in _doubtful(found, line, place) if one != line]
    unlike = [one for one in suspects if one.name != line.name and _differs(found, truth, one)]
    hands_on = line.name == RETURN and place is not None and only_a_name(found.code, place)
    if unlike:
        found.culprit = unlike[0]
    elif hands_on and suspects:
        found.culprit, found.others = suspects[-1], tuple(suspects[:-1])
    elif hands_on and (own := _assigns(found, place)):
        found.culprit = own
    else:
        found.culprit, found.others = line, tuple(suspects)
    if found.verdicts[found.culprit] != WRONG and not found.others:
        found.verdicts[found.culprit] = WRONG
    found.reason, found.of, found.value = truth.reason(of, value), of, value


def _differs(found: Found, truth: Truth, line: Line) -> bool:
    """Tell whether a line gives something else than the op's own line of that name."""
    twin = truth.twins.get(line.name)
    if not floats(twin) or all(step.line != line for step in found.steps):
        return False
    value = found.given_by(line, twin)
    if not floats(value) or found.is_part(line, twin):
        return False
    return np.size(twin) != np.size(value) or not close(value, twin)


def _doubtful(found: Found, line: Line, place: int | None) -> Iterator[Line]:
    """Yield the lines that a wrong one comes from and that nothing vouches for, in order."""
    tree = _tree(found)
    parts = written_in_part(found.code)
    held: dict[str, str] = {}  # by name, where the line finds it
    for one, verdict in sorted(found.verdicts.items(), key=lambda item: item[0].number):
        if parts.get(one.name, one) == one and (one.number <= line.number or one.name not in held):
            held[one.name] = verdict
    right = {name for name, verdict in held.items() if verdict == RIGHT}
    wanted, seen = {line.number}, set()
    names = reads_at(tree, line, place, first_line(found.code))
    ran = {one.number: one for one in found.verdicts}
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
    for number in sorted(wanted):
        text = linecache.getline(str(found.code.file), number).strip()
        one = ran.get(number) or Line(RETURN, number, text)
        if found.verdicts.setdefault(one, UNSEEN) != RIGHT:
            yield one


def _assigns(found: Found, place: int | None) -> Line | None:
    """Return the last line that made what is returned at a place under its name."""
    element = returned_at(_tree(found), place or 0)
    name = element.id if isinstance(element, ast.Name) else ""
    lines = [one for one in found.verdicts if one.name == name]
    return lines[-1] if lines else None


def _tree(found: Found) -> ast.stmt:
    return tree_of(found.code)
