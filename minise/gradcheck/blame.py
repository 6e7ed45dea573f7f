"""Which line a wrong gradient comes from: itself, or one above that nothing vouches for."""

import ast
import linecache
import textwrap
from collections.abc import Iterator
from typing import Any

import numpy as np

from minise.gradcheck.answer import RIGHT, UNSEEN, WRONG
from minise.gradcheck.found import Found
from minise.gradcheck.instrument import RETURN, Line
from minise.gradcheck.lines import (
    first_line,
    only_a_name,
    reads_at,
    returned_at,
    source_of,
    writes,
    written_in_part,
)
from minise.gradcheck.truth import Truth, close, floats


def first_wrong(found: Found) -> Line | None:
    """Return the first line, in the order in which they ran, whose verdict is WRONG."""
    wrong = (step.line for step in found.steps if found.verdicts.get(step.line) == WRONG)
    return next(wrong, None)


def blame_line(found: Found, truth: Truth, line: Line) -> None:
    """Name a line whose gradient is wrong, or one above it that it reads."""
    value = next(step.value for step in reversed(found.steps) if step.line == line)
    _blame(found, truth, line, line.name.removeprefix("d"), value, None)


def blame_returned(found: Found, truth: Truth, place: int, value: Any) -> None:
    """Name where a wrong gradient that is returned at a place comes from."""
    _blame(found, truth, found.steps[-1].line, truth.names[place], value, place)


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
    values = [step.value for step in found.steps if step.line == line]
    if not values or not floats(twin) or not floats(values[-1]):
        return False
    return np.size(twin) != np.size(values[-1]) or not close(values[-1], twin)


def _doubtful(found: Found, line: Line, place: int | None) -> Iterator[Line]:
    """Yield the lines that a wrong one comes from and that nothing vouches for, in order."""
    tree = _tree(found)
    parts = written_in_part(found.code)
    held = {
        one: verdict for one, verdict in found.verdicts.items() if parts.get(one.name, one) == one
    }
    right = {one.name for one, verdict in held.items() if verdict == RIGHT}
    right -= {one.name for one, verdict in held.items() if verdict == WRONG}
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
    return ast.parse(textwrap.dedent(source_of(found.code))).body[0]
