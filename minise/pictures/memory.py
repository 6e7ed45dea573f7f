"""The picture of memory passes: the end of an SE unit op by op, and as one fused op."""

import inspect
import re
from typing import NamedTuple

from minise.ops.reference import fused
from minise.pictures.svg import Canvas, Picture

LEFT, BAR_WIDTH, BAR_HEIGHT, BAR_GAP = 14, 94, 26, 3  # LEFT: x of the first bar
LINE, OP_GAP = 29, 9  # height of a line of bars, and distance between two ops


class Passes(NamedTuple):
    """The arrays of x's size that an op reads, then writes; one read twice is there twice."""

    reads: tuple[str, ...]
    writes: tuple[str, ...]


# batch_norm2d reads x for the statistics, then to normalise it; its backward likewise, for the two
# sums and for dx. squeeze_excite reads x for z and for the scale; its backward reads for ds and dx.
# add's backward returns its argument twice.
PASSES = {
    "batch_norm2d_forward": [Passes(("x",), ()), Passes(("x",), ("y",))],
    "squeeze_excite_forward": [Passes(("y",), ()), Passes(("y",), ("gated",))],
    "add_forward": [Passes(("gated", "shortcut"), ("total",))],
    "relu_forward": [Passes(("total",), ("out",))],
    "se_block_tail_forward": [Passes(("x",), ()), Passes(("x", "shortcut"), ("out",))],
    "relu_backward": [Passes(("dout", "out"), ("dtotal",))],
    "add_backward": [Passes((), ())],
    "squeeze_excite_backward": [Passes(("dgated", "y"), ()), Passes(("dgated",), ("dy",))],
    "batch_norm2d_backward": [Passes(("dy", "x"), ()), Passes(("dy", "x"), ("dx",))],
    "se_block_tail_backward": [
        Passes(("dout", "out", "x"), ("dshortcut",)),
        Passes(("dshortcut", "x"), ("dx",)),
    ],
}


def replaced(direction: str) -> list[str]:
    """Return the functions that se_block_tail calls in a direction, in order."""
    source = inspect.getsource(getattr(fused, _fused(direction)))
    calls = re.findall(rf"= (\w+_{direction})\(", source)
    return calls


def _fused(direction: str) -> str:
    return f"se_block_tail_{direction}"


def counts(functions: list[str]) -> tuple[int, int]:
    """Return how many arrays of x's size functions read and write."""
    passes = [item for name in functions for item in PASSES[name]]
    return sum(len(p.reads) for p in passes), sum(len(p.writes) for p in passes)


def fused_tail() -> Picture:
    """Return the picture of the passes over memory of the end of an SE unit."""
    canvas = Canvas(_draw(None))
    _draw(canvas)
    totals = {
        (direction, way): counts(names)
        for direction in ("forward", "backward")
        for way, names in (
            ("separate", replaced(direction)),
            ("fused", [_fused(direction)]),
        )
    }
    text = "; ".join(
        f"{direction}, {way}: {reads} read, {writes} written"
        for (direction, way), (reads, writes) in totals.items()
    )
    return canvas.picture(
        "Memory passes of a fused op",
        "The end of an SE unit as four separate ops and as one fused op. Each bar is an array of "
        f"the size of x that is read (framed) or written (solid). {text}.",
    )


def _draw(canvas: Canvas | None) -> float:
    """Draw everything, if there is a canvas, and return the height."""
    y = 34.0
    for role in ("forward", "backward"):
        for title, functions in (("op by op", replaced(role)), ("fused", [_fused(role)])):
            if canvas:
                reads, writes = counts(functions)
                canvas.text(LEFT, y, f"{role.capitalize()}, {title}", "ink strong")
                canvas.text(466, y, f"{reads} read, {writes} written", role, anchor="end")
            y += 14
            for name in functions:
                y = _op(canvas, y, name, role)
            y += 30
    if canvas:
        canvas.text(LEFT, y, "framed: an array of the size of x is read", "soft")
        canvas.text(LEFT, y + 24, "solid: one is written", "soft")
    return y + 44


def _op(canvas: Canvas | None, y: float, name: str, role: str) -> float:
    """Draw an op's bars with its name, if there is a canvas; return the y below."""
    lines = PASSES[name]
    bars = [[*((a, False) for a in p.reads), *((a, True) for a in p.writes)] for p in lines]
    if canvas:
        op = name.rpartition("_")[0]
        under = LINE if len(bars[0]) > len(bars[-1]) else 0  # beside the shorter line
        canvas.text(466, y + 18.5 + under, op, "soft code", anchor="end")
    for k, line in enumerate(bars):
        if canvas and not line:
            canvas.text(LEFT, y + 18.5, "none: it returns dout twice", "soft")
        for j, (array, written) in enumerate(line):
            if canvas:
                _bar(canvas, LEFT + (BAR_WIDTH + BAR_GAP) * j, y + LINE * k, array, role, written)
    return y + LINE * len(bars) + OP_GAP


def _bar(canvas: Canvas, x: float, y: float, array: str, role: str, written: bool) -> None:
    fill, ink = (role, "paper") if written else (f"{role}-wash", role)
    canvas.box(x, y, BAR_WIDTH, BAR_HEIGHT, fill, role, radius=3)
    canvas.text(x + BAR_WIDTH / 2, y + 18.5, array, f"{ink} code", anchor="middle")
