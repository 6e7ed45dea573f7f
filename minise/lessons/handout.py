"""The SE block on one sheet of paper, with blanks, and its answer key, computed by the op.

`python -m minise.lessons.handout FOLDER` writes handout.md and answers.md. Every number of the
answer key is recorded from a run of `minise.ops.reference`.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minise.checks import Array
from minise.ops import reference
from minise.tracing.recorder import LineRecorder

# One image of two channels with 1 x 2 pixels, one hidden unit. Both v are 0, so that both gates are
# 1/2 and no number needs a calculator.
X = np.array([[[[1.0, 3.0]], [[2.0, 6.0]]]])
W1, B1 = np.array([[2.0, -1.0]]), np.array([2.0])
W2, B2 = np.array([[1.0], [-2.0]]), np.array([-2.0, 4.0])
DOUT = np.array([[[[4.0, 0.0]], [[0.0, 2.0]]]])
OFF = np.array([-1.0])  # a b1 that switches the hidden unit off
BLANK = "\\_\\_\\_\\_"


class Row(NamedTuple):
    """A line of the block: what to compute, and the name of its result."""

    name: str
    formula: str


FORWARD = (
    Row("z", "mean of x over the pixels of a channel"),
    Row("u", "w1 z + b1"),
    Row("h", "max(u, 0)"),
    Row("v", "w2 h + b2"),
    Row("s", "sigmoid(v), and sigmoid(0) = 1/2"),
    Row("out", "x · s"),
)
BACKWARD = (
    Row("dx_scale", "dout · s"),
    Row("ds", "sum over the pixels of dout · x"),
    Row("dv", "ds · s (1 - s)"),
    Row("dw2", "dv h"),
    Row("db2", "dv"),
    Row("dh", "sum over the channels of w2 · dv"),
    Row("du", "dh where u is positive, else 0"),
    Row("dw1", "du z"),
    Row("db1", "du"),
    Row("dz", "w1 du"),
    Row("dx_gate", "dz / 2, the same for both pixels"),
    Row("dx", "dx_scale + dx_gate"),
)


def recorded(b1: Array = B1) -> dict[str, Array]:
    """Return every value that forward and backward assign, by name, from a run of the op."""
    recorder: Any = LineRecorder(reference)
    _, cache = recorder.squeeze_excite_forward(X, W1, b1, W2, B2)
    recorder.squeeze_excite_backward(DOUT, cache)
    values = {}
    for call in recorder.calls:
        if call.op == "squeeze_excite":
            arrays = (event for event in call.events if isinstance(event.value, np.ndarray))
            values.update({event.name: event.value for event in arrays})
    return values


def handout() -> str:
    """Return the sheet with blanks, as Markdown."""
    return _page("The SE block on paper", recorded(), blank=True) + _QUESTIONS + _LINKS


def answers() -> str:
    """Return the sheet with all numbers and the answers to its questions, as Markdown."""
    values, off = recorded(), recorded(OFF)
    numbers = {name: as_text(value) for name, value in values.items()}
    dead = [name for name in ("dw2", "du", "dw1", "db1", "dz", "dx_gate") if not off[name].any()]
    same = [name for name in ("dw1", "db1", "dw2", "db2") if values[name].any()]
    text = f"""
## Answers to the questions

1. No: dx is {numbers["dx"]}. The second pixel of the first channel has `dout` 0, and its
   gradient is {values["dx"][0, 0, 0, 1]:g}. It is part of z, so it changes both gates.
2. It would return dx_scale, {numbers["dx_scale"]}, instead of dx. The gradients of the parameters,
   {", ".join(same)}, would all be right: the missing route touches dx only.
3. With b1 = {OFF[0]:g}, u is {off["u"].item():g} and h is {off["h"].item():g}. These are zero:
   {", ".join(dead)}. Nothing reaches the squeeze, and a step of gradient descent changes neither w1
   nor w2. Only b2 has a gradient, {as_text(np.round(off["db2"], 3))}, and dx is dx_scale,
   {as_text(np.round(off["dx"], 3))}.
4. One gate multiplies both pixels of its channel, so its gradient is the sum of two uses. The mean
   takes half of each pixel, so each pixel gets half of dz.
"""
    return _page("The SE block on paper: answers", values, blank=False) + text


def as_text(value: Array) -> str:
    """Return the numbers of an array without axes of length 1, such as "(1, 3), (2, 6)".

    Examples
    --------
    >>> as_text(np.array([[[[1.0, 3.0]], [[2.5, 6.0]]]]))
    '(1, 3), (2.5, 6)'
    >>> as_text(np.array([[1.0], [-2.0]]))
    '(1, -2)'
    """
    return _text(np.squeeze(value), blank=False)


def _text(value: Array, *, blank: bool) -> str:
    """Return the numbers of an array, or a blank for each."""
    if value.ndim == 0:
        return BLANK if blank else f"{value.item() + 0.0:g}"
    parts = [_text(part, blank=blank) for part in value]
    return ", ".join(parts) if value.ndim > 1 else f"({', '.join(parts)})"


def _page(title: str, values: dict[str, Array], *, blank: bool) -> str:
    """Return the title, the given numbers, and the tables of both passes."""
    text = f"""# {title}

One image with two channels of two pixels, and one hidden unit. Write the numbers of a channel as a
pair. The names are those of `minise/ops/reference/squeeze_excite.py`.

| given | numbers |
|:---|:---|
| x | {as_text(X)} |
| w1, b1 | {as_text(W1)}, {as_text(B1)} |
| w2, b2 | {as_text(W2)}, {as_text(B2)} |
| dout | {as_text(DOUT)} |

## Forward

{_table(FORWARD, values, blank=blank)}

## Backward

{_table(BACKWARD, values, blank=blank)}
"""
    return text


def _table(rows: Sequence[Row], values: dict[str, Array], *, blank: bool) -> str:
    """Return a Markdown table of lines and their results."""
    lines = ["| name | compute | result |", "|:---|:---|:---|"]
    for row in rows:
        result = _text(np.squeeze(values[row.name]), blank=blank)
        lines.append(f"| {row.name} | {row.formula} | {result} |")
    return "\n".join(lines)


_QUESTIONS = """
## Questions

1. Where `dout` is 0, is dx 0? Why?
2. A backward forgets the route through the gate. Which of the five gradients are wrong?
3. Let b1 be -1. Which gradients become zero?
4. Why is ds a sum, and why is dz divided by 2?
"""

_LINKS = """
The [answers](answers.md) are on a page of their own. The block is derived in the
[article](../article.md) and in [lesson 6](../06_squeeze_and_excitation.py).
"""


def write(folder: Path) -> list[Path]:
    """Write both pages into a folder and return their paths."""
    pages = {"handout.md": handout(), "answers.md": answers()}
    for name, text in pages.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in pages]


if __name__ == "__main__":
    for path in write(Path(sys.argv[1] if len(sys.argv) > 1 else "tutorials/pages")):
        print(path)
