"""Print a trace in the terminal: forward, then backward, each line with formula and numbers."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from minise.tracing.slopes import Check
from minise.walk.faults import sentence_of, summary_of
from minise.walk.steps import BACKWARD, FORWARD, Inner, Read, Step, Trace

if TYPE_CHECKING:
    from rich.text import Text

DIGITS = 4  # decimals
STYLES = {FORWARD: "bold blue", BACKWARD: "bold dark_orange3"}


def lines(trace: Trace) -> Iterator["Text"]:
    """Yield the lines of a trace, styled for rich."""
    from rich.text import Text

    yield Text(trace.title or trace.name, "bold")
    if trace.settings:
        yield Text(", ".join(f"{key} = {value!r}" for key, value in trace.settings.items()), "dim")
    yield Text("")
    for name, value in trace.inputs.items():
        yield Text.assemble((f"{name} ", "bold"), (_shape(value), "dim"))
        yield Text(_indented(numbers(value)))
    for direction in (FORWARD, BACKWARD):
        yield Text("")
        yield Text(f"{direction} pass", f"{STYLES[direction]} underline")
        for step in trace.passes(direction):
            yield from _step(trace, step)
        if direction == FORWARD:
            yield Text("")
            yield Text(f"loss = <dout, out> = {trace.loss:.{DIGITS + 2}g}", "bold")
    yield Text("")
    yield from _verdict(trace)


def numbers(value: Any) -> str:
    """Return an array as text; the channels of images (N, C, H, W) are side by side.

    Examples
    --------
    >>> print(numbers(np.arange(8.0).reshape(1, 2, 2, 2)))
    [[ 0.  1.]    [[ 4.  5.]
     [ 2.  3.]]    [ 6.  7.]]
    """
    array = np.asarray(value)
    if array.ndim == 4 and array.shape[2:] == (1, 1):
        array = array[:, :, 0, 0]
    if array.ndim != 4:
        return _plain(array)
    rows = []
    for image in array:
        blocks = [_plain(channel).splitlines() for channel in image]
        widths = [max(map(len, block)) for block in blocks]
        for parts in zip(*blocks, strict=True):
            cells = [part.ljust(width) for part, width in zip(parts, widths, strict=True)]
            rows.append("   ".join(cells).rstrip())
    return "\n".join(rows)


def _plain(array: Any) -> str:
    return np.array2string(
        array, precision=DIGITS, suppress_small=True, floatmode="maxprec", sign=" "
    )


def where(step: Step) -> str:
    """Return the layer and the op of a step, as text."""
    return f"{step.layer} {step.op}".strip()


def _step(trace: Trace, step: Step) -> Iterator["Text"]:
    from rich.text import Text

    yield Text("")
    yield Text.assemble(
        (f"{step.number + 1:>3} ", "dim"),
        (step.name, STYLES[step.direction]),
        (f" {_shape(step.value)}", "dim"),
        (f"  {where(step)}", "dim italic"),
    )
    if step.rule:
        yield Text(f"    passes the gradient back through {step.rule}", "italic")
    if step.reason:
        yield Text(f"    {step.reason}", "italic")
    yield Text.assemble(("    ", ""), (step.formula.text, "bold"))
    for code, file, line in [(step.code, step.file, step.line), *map(_inner, step.inner)]:
        yield Text.assemble(("    ", ""), (code, "cyan"), (f"  {file}:{line}", "dim"))
    if step.constants:
        constants = ", ".join(f"{name} = {value}" for name, value in step.constants.items())
        yield Text(f"    with {constants}", "dim")
    if step.upstream:
        gradients = ", ".join(_source_name(trace, read) for read in step.upstream)
        yield Text(f"    upstream gradient: {gradients}", "dim")
    yield Text(_indented(numbers(step.value)))
    if step.check is not None:
        yield _check_line(step.check)
    if step.is_wrong:
        yield Text(f"    {sentence_of(trace, step)}", "red")


def _inner(inner: Inner) -> tuple[str, str, int]:
    return f"{4 * (1 + inner.depth) * ' '}{inner.code}", inner.file, inner.line


def _source_name(trace: Trace, read: Read) -> str:
    if isinstance(read.source, int):
        return f"{read.name} (step {trace.steps[read.source].number + 1})"
    return read.name


def _check_line(check: Check) -> "Text":
    from rich.text import Text

    slope = check.difference if check.complex_step is None else check.complex_step
    method = "finite-difference" if check.complex_step is None else "complex-step"
    max_error = float(np.max(check.error))
    if check.ok:
        return Text(
            f"    correct: the {method} derivative with respect to {check.of} agrees "
            f"(largest relative error {max_error:.0e})",
            "green",
        )
    index = tuple(int(i) for i in np.argwhere(~check.agrees)[0])
    return Text(
        f"    WRONG: {int((~check.agrees).sum())} of {check.agrees.size} entries; at {list(index)} "
        f"the {method} derivative with respect to {check.of} is {float(slope[index]):.9g}",
        "bold red",
    )


def _verdict(trace: Trace) -> Iterator["Text"]:
    from rich.text import Text

    if not trace.ok:
        yield Text(summary_of(trace), "bold red")
        return
    count = sum(step.check.agrees.size for step in trace.steps if step.check is not None)
    yield Text(
        f"All {count} gradient entries agree with numerical derivatives of forward.", "bold green"
    )


def _shape(value: Any) -> str:
    return str(tuple(np.shape(value)))


def _indented(text: str) -> str:
    return "\n".join(f"      {line}" for line in text.splitlines())
