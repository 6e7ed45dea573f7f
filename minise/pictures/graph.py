"""The graph of a net, forward and backward, drawn from its layers."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from minise.analysis.cost import cost_of
from minise.nn import SE, Build, Chain, Layer, Residual, SEBlock, basic_block
from minise.nn.layer import Module, dotted_name
from minise.pictures.svg import Canvas, Picture
from minise.pictures.units import ARROW_OFFSET, BOX, pair_of_arrows
from minise.walk.cases import small_net

LANE, HALF_WIDTH, SHORTCUT = 134, 118, 428  # x of the boxes, half their width, x of shortcuts
NODE, SMALL_NODE, GAP = 18, 12, 22  # radii of a node and of a fork, and length of the arrows
FORK, SUM = "fork", "+"


class Row(NamedTuple):
    """A layer of the graph, a fork before a residual branch, or the sum after it."""

    name: str  # dotted name of a layer, or FORK, or SUM
    layer: Module | None
    shortcut: tuple[str, ...] = ()  # names of the layers on the shortcut that ends in a sum


def small_residual_net() -> Chain:
    """Return walk's small net with a residual unit before its pooling."""
    rng = np.random.default_rng(0)
    *front, pool, fc = small_net(1, rng).children()
    build = Build(rng=rng, dtype=float, se=SE(reduction=1))
    return Chain(*front, ("block", basic_block(2, 2, 1, build)), pool, fc)


def rows(net: Module, path: str = "", inside: bool = False) -> Iterator[Row]:
    """Yield the rows of a net in the order of forward; a Residual in another is one box."""
    if isinstance(net, Chain):
        for name, layer in net.children():
            yield from rows(layer, dotted_name(path, name), inside)
    elif isinstance(net, Residual) and not inside:
        yield Row(FORK, None)
        yield from rows(net.branch, path, True)
        yield from rows(net.tail.before, path, True)
        yield Row(SUM, None, tuple(row.name for row in rows(net.shortcut, path, True)))
        if net.tail.relu:
            yield Row("", net.tail)
    else:
        yield Row(path, net)


def net_graph(net: Layer | None = None, size: int | Sequence[int] = 6) -> Picture:
    """Return the picture of the layers of a net with the shapes of their outputs.

    Parameters
    ----------
    net : Layer, optional
        By default, a small net with an SE block and a residual unit.
    size : int, (int, int) or (int, int, int)
        Size of the images, as in minise.analysis.cost_of.
    """
    net = small_residual_net() if net is None else net
    cost = cost_of(net, size)
    shapes = {row.layer: row.shape for row in cost.layers}
    drawn = list(rows(net))
    canvas = Canvas(_height(drawn))
    _node(canvas, 36, "x")
    y = 36.0 + NODE
    forks: list[float] = []
    for row in drawn:
        pair_of_arrows(canvas, LANE, y, y + GAP)
        y += GAP
        if row.layer is None:
            middle = y + _size(row) / 2
            _node(canvas, middle, SUM if row.name == SUM else "")
            if row.name == FORK:
                forks.append(middle)
            else:
                _shortcut(canvas, forks.pop(), middle, row.shortcut)
        else:
            _box(canvas, y, row)
            if row.name in shapes:
                text = ", ".join(map(str, ("N", *shapes[row.name])))
                canvas.text(LANE + HALF_WIDTH + 14, y + BOX / 2 + 5.5, f"({text})", "soft")
        y += _size(row)
    pair_of_arrows(canvas, LANE, y, y + GAP)
    _node(canvas, y + GAP + NODE, "out")
    canvas.text(LANE + 30, y + GAP + NODE + 6, "dout", "backward code")
    canvas.text(462, y + GAP + NODE + 6, f"{cost.parameters:,} parameters", "soft", anchor="end")
    named = [row.name for row in drawn if row.layer is not None and row.name]
    return canvas.picture(
        "The graph of a net",
        f"From x to out: {', '.join(named)}. Beside each layer stands the shape of its output. "
        "Every arrow down is a value of forward, every arrow up its gradient. A residual unit "
        "forks its input; the gradients of both ways are added at the fork.",
    )


def _height(drawn: list[Row]) -> float:
    sizes = list(map(_size, drawn))
    return 36 + NODE + sum(sizes) + GAP * (len(sizes) + 1) + 2 * NODE + 20


def _size(row: Row) -> float:
    return BOX if row.layer is not None else 2 * (NODE if row.name == SUM else SMALL_NODE)


def _node(canvas: Canvas, y: float, text: str) -> None:
    canvas.circle(LANE, y, NODE if text else SMALL_NODE)
    if text:
        canvas.text(LANE, y + 5.5, text, "ink code", anchor="middle")


def _box(canvas: Canvas, y: float, row: Row) -> None:
    gates = isinstance(row.layer, SEBlock)
    fill, stroke = ("forward-wash", "forward") if gates else ("panel", "soft")
    canvas.box(LANE - HALF_WIDTH, y, 2 * HALF_WIDTH, BOX, fill, stroke)
    kind = type(row.layer).__name__ if row.name else "ReLU"
    label = [(row.name + " ", "ink code"), (kind, "soft")] if row.name else [(kind, "ink")]
    canvas.text(LANE, y + BOX / 2 + 5.5, label, "ink", anchor="middle")


def _shortcut(canvas: Canvas, top: float, bottom: float, names: tuple[str, ...]) -> None:
    """Draw the way past a branch, forward outside and backward inside."""
    outer, inner = SHORTCUT + ARROW_OFFSET, SHORTCUT - ARROW_OFFSET
    upper, lower = LANE + SMALL_NODE, LANE + NODE
    canvas.arrow([(upper, top - 7), (outer, top - 7), (outer, bottom + 7), (lower, bottom + 7)])
    canvas.arrow(
        [(lower, bottom - 7), (inner, bottom - 7), (inner, top + 7), (upper, top + 7)], "backward"
    )
    middle = (top + bottom) / 2
    for k, name in enumerate(names):
        canvas.text(inner - 10, middle + 22 * k, name.rpartition(".")[2], "soft code", anchor="end")
