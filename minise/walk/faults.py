"""Tell wrong lines from lines that inherit the error of another line, and describe both."""

from collections.abc import Sequence
from dataclasses import replace

from minise.checks import Array
from minise.ops.user.errors import OpsError
from minise.tracing.faults import WrongGradient, find_faults
from minise.tracing.subject import Subject
from minise.walk.steps import BACKWARD, Fault, Step, Trace

MAX_NAMES = 3  # of steps in one sentence


def judged(
    subject: Subject, dout: Array, steps: list[Step], events: Sequence[tuple[int, int | None]]
) -> list[Step]:
    """Return the steps with the fault of each wrong gradient.

    Parameters
    ----------
    subject : Subject
        The op or net that was run.
    dout : ndarray
        Gradient of the loss with respect to out.
    steps : list of Step
        The checked steps of a trace.
    events : sequence of tuple
        By step: the number of its event, and its position in the value of the event (None if it
        is that value).
    """
    checks = {step.number: step.check for step in steps if step.check and not step.check.ok}
    wrong = [WrongGradient(*events[number], check) for number, check in checks.items()]
    try:
        verdicts = find_faults(subject, dout, wrong) if wrong else []
    except (ArithmeticError, LookupError, TypeError, ValueError, OpsError):
        return steps  # backward does not run with other gradients: it branches on their values
    numbers, result = list(checks), list(steps)
    for number, verdict in zip(numbers, verdicts, strict=True):
        inherits = tuple(numbers[culprit] for culprit in verdict.inherits)
        unchecked = _unchecked(steps, number) if verdict.is_culprit else ()
        fault = Fault(verdict.is_culprit, inherits, unchecked, verdict.filled)
        result[number] = replace(steps[number], fault=fault)
    return result


def _unchecked(steps: list[Step], number: int) -> tuple[int, ...]:
    """Return the steps of backward without a check that a step reads, also through one another.

    Of the steps of one name, such as those of a loop, the last is returned.
    """
    seen: set[int] = set()
    todo = [number]
    while todo:
        sources = {read.source for read in steps[todo.pop()].reads}
        for source in sources - seen:
            if not isinstance(source, int) or steps[source].check is not None:
                continue
            if steps[source].direction == BACKWARD:
                seen.add(source)
                todo.append(source)
    last = {steps[k].name: k for k in sorted(seen)}
    return tuple(k for name, k in last.items() if name != steps[number].name)


def mark_of(trace: Trace, step: Step) -> str:
    """Return a few words on a wrong gradient, such as "inherits from dv"; "" for any other step."""
    if not step.is_wrong:
        return ""
    fault = step.fault
    if fault is None:
        return "wrong"
    inherits = f"inherits from {_names(trace, fault.inherits)}"
    if not fault.is_culprit:
        return inherits if fault.inherits else "wrong"
    return f"wrong line, {inherits} too" if fault.inherits else "wrong line"


def sentence_of(trace: Trace, step: Step) -> str:
    """Return the mark of a wrong gradient, and where the mistake is."""
    mark = mark_of(trace, step)
    return f"{mark[0].upper()}{mark[1:]}: {_place_of(trace, step)}"


def _place_of(trace: Trace, step: Step) -> str:
    fault = step.fault
    if fault is None or not (fault.is_culprit or fault.inherits):
        return "the mistake is in this line or in a line above it."
    if not fault.is_culprit:
        names = _names(trace, fault.inherits, numbered=True)
        return f"this line is right, and reads the error of {names}."
    places = [f"the line of {_name(trace, k)}, which has no check" for k in fault.unchecked]
    if fault.is_filled:
        places.insert(0, f"a later line that fills {step.name}")
    where = _either(["this line", *places])
    return (
        f"the mistake is in {where}: given the true values of all gradients that it reads, the "
        "result is still wrong."
    )


def summary_of(trace: Trace) -> str:
    """Return the number of wrong entries, the wrong lines and the gradients that inherit."""
    checks = [step.check for step in trace.steps if step.check is not None]
    count = sum(check.agrees.size for check in checks)
    wrong = sum(int((~check.agrees).sum()) for check in checks)
    culprits = trace.culprits
    lines = ", ".join(f"{_name(trace, step.number)}: {step.file}:{step.line}" for step in culprits)
    lines_wrong = {step.number for step in culprits}
    heirs = [s.number for s in trace.steps if s.is_wrong and s.number not in lines_wrong]
    names = _names(trace, tuple(heirs))
    verb = "inherits" if len(heirs) == 1 else "inherit"
    noun = "line is" if len(culprits) == 1 else "lines are"
    tail = f"; {names} {verb} the error" if heirs else ""
    return f"{wrong} of {count} gradient entries are wrong; the wrong {noun} {lines}{tail}"


def _names(trace: Trace, numbers: tuple[int, ...], numbered: bool = False) -> str:
    """Return the names of steps, at most MAX_NAMES of them."""
    if numbered:
        names = [_name(trace, k) for k in numbers]
    else:
        names = list(dict.fromkeys(trace.steps[k].name for k in numbers))
    more = len(names) - MAX_NAMES
    return ", ".join(names[:MAX_NAMES]) + (f" and {more} more" if more > 0 else "")


def _name(trace: Trace, number: int) -> str:
    """Return the name of a step with its number, as the reader counts: "dv (step 9)"."""
    return f"{trace.steps[number].name} (step {number + 1})"


def _either(places: list[str]) -> str:
    shown = places[: MAX_NAMES + 1]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} or {shown[-1]}"
