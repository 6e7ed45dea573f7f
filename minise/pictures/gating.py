"""The picture of an SE block: its forward lane by lane, and the two routes of dx back."""

import ast
import inspect
import re
from typing import NamedTuple

import numpy as np

from minise.checks import Array
from minise.ops.reference import squeeze_excite
from minise.pictures.svg import Canvas, Picture

CHANNELS, HIDDEN = 5, 2  # drawn
SEED = 278  # of the drawn numbers, whose gates lie from 0.05 to 0.99
LEFT, LANE, RIGHT = 50, 194, 448  # x of the direct route, the gate's values and their gradients
TOP, ROW = 172, 68  # y of the first row of the gate, and height of a row


class Value(NamedTuple):
    """A line of the op's docstring: a value, its formula and its shape."""

    name: str
    formula: str
    shape: str


def values() -> dict[str, Value]:
    """Return the six values of forward by name, from the docstring of the op's module."""
    line = r"^ {4}(\w+) += (.+?)  +(?:\w+ +)?(\(N[^)]*\))"
    rows = re.findall(line, inspect.getdoc(squeeze_excite) or "", re.MULTILINE)
    return {name: Value(name, formula, shape) for name, formula, shape in rows}


def gradients() -> dict[str, str]:
    """Return the lines of the op's backward: the right side by the name assigned."""
    tree = ast.parse(inspect.getsource(squeeze_excite.squeeze_excite_backward))
    return {
        ast.unparse(node.targets[0]): ast.unparse(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
    }


def run() -> dict[str, Array]:
    """Return the values of a small forward, one image, by name."""
    rng = np.random.default_rng(SEED)
    x = rng.standard_normal((1, CHANNELS, 3, 3)) + rng.standard_normal((CHANNELS, 1, 1))
    w1, w2 = (rng.standard_normal(shape) for shape in ((HIDDEN, CHANNELS), (CHANNELS, HIDDEN)))
    out, cache = squeeze_excite.squeeze_excite_forward(x, w1, None, 2 * w2, None)
    gates = cache.gates
    u = np.einsum("rc,ncij->nrij", w1, gates.z)
    v = np.einsum("cr,nrij->ncij", 2 * w2, gates.h)
    return {"x": x, "z": gates.z, "u": u, "h": gates.h, "v": v, "s": gates.s, "out": out}


def se_block() -> Picture:
    """Return the picture of squeeze-and-excitation, forward and backward."""
    named, lines, numbers = values(), gradients(), run()
    gate = [named[name] for name in ("z", "u", "h", "v", "s")]
    bottom = TOP + ROW * len(gate)  # of the gate
    canvas = Canvas(bottom + 186)
    _routes(canvas, bottom)
    for k, value in enumerate(gate):
        _gate_row(canvas, TOP + ROW * k, value, numbers[value.name], last=k == len(gate) - 1)
    canvas.stack(22, 58, [0.45] * CHANNELS)
    canvas.text(150, 34, [("x", "forward strong code"), ("  " + named["out"].shape, "soft")])
    canvas.text(150, 60, "dx = " + lines["dx"], "backward code")
    canvas.text(150, 106, [("dx_gate", "backward code"), ("  through the gate", "soft")])
    canvas.text(74, TOP + 64, "dx_scale", "backward code")
    canvas.text(74, TOP + 86, "= " + lines["dx_scale"], "backward code")
    canvas.text(74, TOP + 112, "through", "soft")
    canvas.text(74, TOP + 132, "the scale", "soft")
    canvas.circle(LEFT, bottom + 24, 19, "paper", "ink")
    canvas.text(
        LEFT, bottom + 30, "\N{MULTIPLICATION SIGN}", "ink strong", anchor="middle", size=20
    )
    canvas.stack(22, bottom + 102, list(0.9 * numbers["s"].ravel()))
    out = named["out"]
    canvas.text(
        150,
        bottom + 112,
        [(f"{out.name} = {out.formula}", "forward strong code"), ("  " + out.shape, "soft")],
    )
    canvas.text(150, bottom + 138, "dout", "backward code")
    canvas.text(150, bottom + 164, "stronger: larger gate", "soft")
    canvas.text(462, bottom + 138, "forward ↓", "forward", anchor="end")
    canvas.text(462, bottom + 164, "backward ↑", "backward", anchor="end")
    return canvas.picture(
        "An SE block, forward and backward",
        "Forward, x goes two ways. One way squeezes each channel to its mean z; two dense layers "
        "and a sigmoid turn z into one gate s for each channel. The other way leads x directly to "
        "the product out = x * s. Backward, dout returns along both: dx_scale = dout * s through "
        "the scale, and through ds, dv, dh, du and dz to dx_gate through the gate; dx is the sum.",
    )


def _routes(canvas: Canvas, bottom: float) -> None:
    """Draw the arrows between x, the gate and out, forward and backward."""
    canvas.arrow([(148, 130), (LANE, 130), (LANE, TOP)])
    canvas.arrow([(LEFT - 8, 134), (LEFT - 8, bottom + 5)])
    canvas.arrow([(LANE, bottom - 42), (LANE, bottom + 16), (LEFT + 19, bottom + 16)])
    canvas.arrow([(LEFT - 8, bottom + 43), (LEFT - 8, bottom + 66)])
    up = "backward"
    canvas.arrow([(RIGHT, TOP + 2), (RIGHT, 116), (148, 116)], up)
    canvas.arrow([(LEFT + 8, bottom + 5), (LEFT + 8, 134)], up)
    canvas.arrow([(LEFT + 19, bottom + 32), (RIGHT, bottom + 32), (RIGHT, bottom - 40)], up)
    canvas.arrow([(LEFT + 8, bottom + 66), (LEFT + 8, bottom + 43)], up)


def _gate_row(canvas: Canvas, y: float, value: Value, numbers: Array, last: bool) -> None:
    """Draw one value of the gate as a strip, its formula above the next, and its gradient."""
    shades = np.abs(numbers.ravel()) / max(1, np.abs(numbers).max())
    canvas.text(LANE + 12, y - 10, f"{value.name} = {value.formula}", "forward strong code")
    canvas.cells(LANE - 11, y + 2, list(0.9 * shades))
    canvas.text(RIGHT - 22, y + 19, value.shape, "soft", anchor="end")
    canvas.text(RIGHT, y + 19, f"d{value.name}", "backward code", anchor="middle")
    if not last:
        canvas.arrow([(LANE, y + 26), (LANE, y + ROW)])
        canvas.arrow([(RIGHT, y + ROW + 2), (RIGHT, y + 28)], "backward")
