"""What mending the other lines shows (mend.py), taken into what a run showed (found.py)."""

from collections.abc import Sequence

from minise.grading.answer import BLANK, BROKEN, FOLLOWS, RIGHT, UNSEEN, WRONG
from minise.grading.found import Found
from minise.grading.lines import first_line, written_in_part
from minise.grading.mend import Guilty, Mended
from minise.tracing.instrument import RETURN, Line

NOT_YET = "not yet what the usual line gives: it may become right below"


def settle(found: Found, every: Sequence[Found], mended: Mended) -> Found:
    """Return what was found, with the wrong line named that mending the others shows.

    Parameters
    ----------
    found : Found
        At the case that was chosen.
    every : sequence of Found
        At each case.
    mended : Mended
        The same backward, mended.
    """
    if found.blank:
        doubtful = {line.number for one in mended.guilty for line in one.lines}
        alone = {one.lines[0].number for one in mended.guilty if len(one.lines) == 1}
        for line, verdict in found.verdicts.items():
            if mended.works and verdict == UNSEEN and line.number not in doubtful:
                found.verdicts[line] = RIGHT
            elif mended.works and verdict == UNSEEN and line.number in alone:
                found.notes[line] = NOT_YET
        return found
    guilty = _believed(found, mended)
    if not guilty:
        return found
    if not any(_holds(one, found.culprit) for one in guilty):
        found = every[guilty[0].truth]
        _name(found, guilty[0])
    found.others = _others(found, guilty)
    first = min(line.number for one in guilty for line in one.lines)
    for line, verdict in found.verdicts.items():
        if verdict != BLANK and not any(_holds(one, line) for one in guilty):
            fine = verdict in (RIGHT, UNSEEN) or line.number < first
            found.verdicts[line] = RIGHT if fine else FOLLOWS
    return found


def _holds(guilty: Guilty, line: Line | None) -> bool:
    return line is not None and line.number in {one.number for one in guilty.lines}


def _others(found: Found, guilty: Sequence[Guilty]) -> tuple[Line, ...]:
    """Return other lines that may be the wrong one: a name may mean what the reader likes."""
    held = {one for one in found.others if any(_holds(some, one) for some in guilty)}
    for line, verdict in found.verdicts.items():
        above = found.culprit is not None and line.number < found.culprit.number
        if above and verdict == UNSEEN:
            held |= {line for one in guilty if len(one.lines) == 1 and _holds(one, line)}
    return tuple(sorted(held, key=lambda line: line.number))


def _believed(found: Found, mended: Mended) -> list[Guilty]:
    """Return the lines that are wrong beyond doubt.

    A line whose gradient is right is not, and one that arranges the right numbers in a way of the
    reader's is not as long as there is another.
    """
    parts = written_in_part(found.code)
    right = {line.number for line, verdict in found.verdicts.items() if verdict == RIGHT}
    guilty = [
        one
        for one in mended.guilty
        if one.lines[-1].number not in right or one.lines[-1].name in parts
    ]
    return [one for one in guilty if not one.arranged] or guilty


def _name(found: Found, guilty: Guilty) -> None:
    """Name a line in place of the one that was found."""
    numbers = {line.number for line in guilty.lines}
    for line in [one for one in found.verdicts if one.number in numbers and one.name == RETURN]:
        del found.verdicts[line]  # it stood for a line whose name was not known
    known = {(line.name, line.number): line for line in found.verdicts}
    lines = [known.get((line.name, line.number), line) for line in guilty.lines]
    problem = ""
    if found.culprit is not None and found.verdicts.get(found.culprit) == BROKEN:
        number = found.culprit.number - first_line(found.code) + 1
        problem = f"line {number}, which reads it, fails: {found.reason}"
    found.culprit, found.others, found.of = lines[-1], tuple(lines[:-1]), ""
    found.verdicts[found.culprit] = WRONG
    texts = (guilty.reason, problem) if guilty.reason or problem else (found.reason,)
    found.reason = "; ".join(text for text in texts if text)
