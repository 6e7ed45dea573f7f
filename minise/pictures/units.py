"""The picture of a residual block with the five sites of an SE block."""

from minise.nn import SE, Build, Conv2d, basic_block
from minise.nn.layer import Module
from minise.nn.residual import Residual
from minise.nn.squeeze_excite import UNIT_SITES
from minise.pictures.svg import Canvas, Picture

CHANNELS = 4  # of the unit that is built to read its layers
LANE, SHORTCUT = 142, 380  # x of the branch and of the shortcut
NODE, TOP, ROW, BOX = 36, 88, 54, 30  # y of x and of the first box, heights of row and box
HALF_WIDTH, HALF_WIDTH_SHORTCUT = 104, 74  # of the boxes in the two lanes
ARROW_OFFSET = 9  # half the distance between the two arrows of a lane

Child = tuple[str, Module]


def lanes(site: str | None) -> dict[str, list[Child]]:
    """Return the layers of a basic block with an SE block at a site, by lane, in order.

    "branch" ends before the sum, "shortcut" leads past it, "after" follows the sum and its ReLU.
    """
    se = None if site is None else SE(reduction=2, site=site)  # type: ignore[arg-type]
    (_, residual), *after = basic_block(CHANNELS, CHANNELS, 1, Build(se=se, rng=0)).children()
    assert isinstance(residual, Residual)
    branch = [*residual.branch.children(), *residual.tail.before.children()]
    return {"branch": branch, "shortcut": residual.shortcut.children(), "after": after}


def sites() -> dict[str, tuple[str, int]]:
    """Return for each site its lane, and the number of other layers before it in the lane."""
    places = {}
    for site in UNIT_SITES:
        for lane, children in lanes(site).items():
            names = [name for name, _ in children]
            if "se" in names:
                places[site] = lane, names.index("se")
    return places


def rows(lane: str) -> list[tuple[str, str]]:
    """Return the boxes of a lane in order: ("site", its name), or a layer's name and class."""
    boxes = [(name, _kind(layer)) for name, layer in lanes(None)[lane]]
    for site, (own, index) in sorted(sites().items(), key=_index, reverse=True):
        if own == lane:
            boxes.insert(index, ("site", site))
    return boxes


def _index(item: tuple[str, tuple[str, int]]) -> int:
    return item[1][1]


def _kind(layer: Module) -> str:
    """Return a layer's class, for a convolution with its kernel."""
    if isinstance(layer, Conv2d):
        return f"Conv2d {layer.kernel[0]}x{layer.kernel[1]}"
    return type(layer).__name__


def residual_block() -> Picture:
    """Return the picture of a basic block, with the sites at which an SE block may stand."""
    branch, shortcut, after = (rows(lane) for lane in ("branch", "shortcut", "after"))
    plus = TOP + ROW * len(branch) + 14  # y of the centre of the sum
    after = [("", "ReLU"), *after]
    out = plus + 68 + ROW * len(after) + 12
    canvas = Canvas(out + 40)
    _shortcut(canvas, shortcut, plus)
    pair_of_arrows(canvas, LANE, NODE + 19, TOP)
    _lane(canvas, LANE, branch, TOP, HALF_WIDTH)
    pair_of_arrows(canvas, LANE, TOP + ROW * (len(branch) - 1) + BOX, plus - 18)
    pair_of_arrows(canvas, LANE, plus + 18, plus + 68)
    _lane(canvas, LANE, after, plus + 68, HALF_WIDTH)
    pair_of_arrows(canvas, LANE, plus + 68 + ROW * (len(after) - 1) + BOX, out - 19)
    for y, name, classes in ((NODE, "x", "code"), (plus, "+", "strong"), (out, "out", "code")):
        canvas.circle(LANE, y, 19)
        canvas.text(LANE, y + 5.5, name, f"ink {classes}", anchor="middle")
    canvas.text(LANE - 30, NODE + 6, "(N, C, H, W)", "soft", anchor="end")
    canvas.text(LANE + 34, NODE + 34, "dx: the sum of both", "backward")
    canvas.text(LANE + 34, plus + 34, "a sum passes its", "backward")
    canvas.text(LANE + 34, plus + 54, "gradient to both summands", "backward")
    canvas.text(LANE + 30, out + 6, "dout", "backward code")
    canvas.text(460, out + 6, "solid frame: the default", "soft", anchor="end")
    return canvas.picture(
        "A residual block and the five sites of an SE block",
        "The branch: "
        + ", ".join(name if name != "site" else f"the site {kind}" for name, kind in branch)
        + ". Its output and the shortcut, with the site identity, are added; after the sum and a "
        "ReLU comes the site post. Backward, the sum passes its gradient to both summands, and dx "
        "is the sum of what returns along both.",
    )


def _shortcut(canvas: Canvas, boxes: list[tuple[str, str]], plus: float) -> None:
    """Draw the shortcut from x to the sum: forward outside, backward inside."""
    middle = (TOP + plus - BOX) / 2  # y of its box
    outer, inner = SHORTCUT + ARROW_OFFSET, SHORTCUT - ARROW_OFFSET
    start, end = LANE + 19, middle + BOX
    canvas.arrow([(start, NODE - 8), (outer, NODE - 8), (outer, middle)])
    canvas.arrow([(inner, middle), (inner, NODE + 8), (start, NODE + 8)], "backward")
    canvas.arrow([(outer, end), (outer, plus + 8), (start, plus + 8)])
    canvas.arrow([(start, plus - 8), (inner, plus - 8), (inner, end)], "backward")
    _lane(canvas, SHORTCUT, boxes, middle, HALF_WIDTH_SHORTCUT)
    canvas.text(inner - 14, middle - 40, "shortcut", "soft", anchor="end")


def _lane(canvas: Canvas, x: float, boxes: list[tuple[str, str]], top: float, half: float) -> None:
    """Draw boxes one below the other, with arrows between them."""
    for k, (name, kind) in enumerate(boxes):
        y = top + ROW * k
        if k:
            pair_of_arrows(canvas, x, y - ROW + BOX, y)
        if name == "site":
            chosen = kind == SE().site
            canvas.box(x - half, y, 2 * half, BOX, "forward-wash", "forward", dashed=not chosen)
            label = [("SE ", "forward strong"), (kind, "forward code")]
        else:
            canvas.box(x - half, y, 2 * half, BOX, "panel", "soft")
            label = [(name + " ", "ink code"), (kind, "soft")] if name else [(kind, "ink")]
        canvas.text(x, y + BOX / 2 + 5.5, label, "ink", anchor="middle")


def pair_of_arrows(canvas: Canvas, x: float, top: float, bottom: float) -> None:
    """Draw an arrow down and one up."""
    canvas.arrow([(x - ARROW_OFFSET, top), (x - ARROW_OFFSET, bottom)])
    canvas.arrow([(x + ARROW_OFFSET, bottom), (x + ARROW_OFFSET, top)], "backward")
