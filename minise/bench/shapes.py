"""Shapes of convolutions: as a person writes them, and those of a net.

A shape is text, in any order but the kernel first:

    3x3/2 g32 128->256 @56

is a 3x3 kernel with stride 2, 32 groups, 128 channels, 256 filters and images of 56x56. The number
of filters is that of the channels if only one number stands; `dw` makes as many groups as channels
and stands for a 3x3 kernel unless one follows; `p0` is a padding other than (kernel - 1) // 2.

Source: of the shapes of BUILT_IN, the nets of `minise.models`, whose files name their papers.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from minise import models
from minise.analysis.inputs import recorded
from minise.bench.settings import ShapesSettings
from minise.bench.workloads import Workload
from minise.checks import Pair, check_divisor, check_integer
from minise.ops import cost

COMMAND = ShapesSettings.command
TURN_SECONDS = 0.05  # of one pass of one convolution; at least one call
BUILT_IN = (
    "3x3 64 @224; 3x3 128 @28; 3x3 256 @14; 3x3 512 @7; 7x7/2 3->64 @224; 3x3/2 3->64 @224; "
    "dw 32 @112; dw 512 @14; dw 60 @28; 1x7 128->160 @17; 1x3 192->224 @8; 1x1 64->256 @56; "
    "1x1 256->1024 @14; 1x1 2048->512 @7; 1x1/2 256->512 @56; 1x1/2 1024->2048 @14; "
    "3x3/2 128 @56; 3x3 g32 128 @56; 3x3 g32 512 @14; 3x3/2 g32 256 @56; 1x1 g3 240->60 @28; "
    "5x5 48->64 @35; dw/2 64 @112; dw 1024 @7; 7x1 128->160 @17; 3x1 224->256 @8; "
    "3x3/2 512 @14; 3x3 g32 1024 @7; 3x3/2 3->32 @224"
)
NUMBER = r"-?\d+"
PAIR = rf"{NUMBER}(?:x{NUMBER})?"
PATTERNS = {
    "kernel": re.compile(rf"(?P<kernel>{NUMBER}x{NUMBER})(?:/(?P<stride>{PAIR}))?"),
    "depthwise": re.compile(rf"dw(?:/(?P<stride>{PAIR}))?"),
    "groups": re.compile(rf"g(?P<groups>{NUMBER})"),
    "padding": re.compile(rf"p(?P<padding>{PAIR})"),
    "channels": re.compile(rf"(?P<C>{NUMBER})(?:->(?P<K>{NUMBER}))?"),
    "size": re.compile(rf"@(?P<size>{PAIR})"),
}
GRAMMAR = "KERNEL[/STRIDE] [gGROUPS] CHANNELS[->FILTERS] @SIZE, such as 3x3/2 g32 128->256 @56"


class Shape(NamedTuple):
    """A convolution without its batch size; pairs are (rows, columns)."""

    C: int
    K: int
    kernel: Pair
    stride: Pair
    padding: Pair
    groups: int
    size: Pair

    def __str__(self) -> str:
        """Return the text from which shape_of makes this shape."""
        depthwise = self.groups == self.C == self.K > 1
        stride = "" if self.stride == (1, 1) else f"/{_short(self.stride)}"
        kernel = "{}x{}".format(*self.kernel)
        words = [f"dw{stride}" if depthwise else f"{kernel}{stride}"]
        words += [kernel] if depthwise and self.kernel != (3, 3) else []
        words += [f"g{self.groups}"] if self.groups > 1 and not depthwise else []
        words += [f"p{_short(self.padding)}"] if self.padding != _same(self.kernel) else []
        words += [f"{self.C}" if self.C == self.K else f"{self.C}->{self.K}"]
        return " ".join([*words, f"@{_short(self.size)}"])

    def workload(self, batch: int, direction: str) -> Workload:
        """Return the workload of one pass, "forward" or "backward"; images need no gradient."""
        (H, W), pairs = self.size, ("kernel", "stride", "padding")
        return {
            "kind": "op", "op": "conv2d", "N": batch, "C": self.C, "H": H, "W": W, "K": self.K,
            **{name: list(getattr(self, name)) for name in pairs},
            "groups": self.groups, "pass": direction, "needs_dx": self.C != 3,
            "turn_seconds": TURN_SECONDS,
        }  # fmt: skip


def shapes_of(texts: Sequence[str]) -> list[Shape]:
    """Return the distinct shapes of texts, each with one or more shapes between semicolons.

    Raises
    ------
    ValueError
        If a shape is not valid, or there is none.
    """
    words = [text for part in texts for text in part.split(";") if text.strip()]
    if not words:
        raise ValueError(f"{COMMAND}: shapes is empty, expected {GRAMMAR}")
    return list(dict.fromkeys(map(shape_of, words)))


def shape_of(text: str) -> Shape:
    """Return the shape of a text.

    Raises
    ------
    ValueError
        If a part is missing, repeated, not understood or less than 1; if the groups divide
        neither; or if the kernel is larger than the padded image.

    Examples
    --------
    >>> shape_of("1x7 128->160 @17").padding
    (0, 3)
    >>> str(shape_of("dw/2 3x3 64 @112x56"))
    'dw/2 64 @112x56'
    """
    where = f"{COMMAND}: shape {' '.join(text.split())!r}"
    parts = _parts(text, where)
    depthwise = "depthwise" in parts
    C = parts["channels"]["C"]
    K = parts["channels"]["K"] or C
    if depthwise and "groups" in parts:
        raise ValueError(f"{where}: dw and g both set the groups, expected one of them: omit g")
    groups = C if depthwise else parts.get("groups", {}).get("groups", "1")
    kernel = _pair(parts.get("kernel", {}).get("kernel", "3x3"))
    strides = [part["stride"] for part in parts.values() if part.get("stride")]
    if len(strides) > 1:
        raise ValueError(f"{where}: stride is set twice, expected one /STRIDE: omit one")
    padding = _pair(parts["padding"]["padding"]) if "padding" in parts else _same(kernel)
    size, stride = _pair(parts["size"]["size"]), _pair(strides[0] if strides else "1")
    shape = Shape(int(C), int(K), kernel, stride, padding, int(groups), size)
    _check(shape, where)
    return shape


def _parts(text: str, where: str) -> dict[str, dict[str, str]]:
    """Return the fields of each word of a shape, by kind of word."""
    parts: dict[str, dict[str, str]] = {}
    for word in re.sub(r"\s*->\s*|(?<=@)\s+", lambda m: m[0].strip(), text.strip()).split():
        matches = {kind: m for kind, p in PATTERNS.items() if (m := p.fullmatch(word))}
        if not matches:
            raise ValueError(f"{where}: {word!r} is not understood, expected {GRAMMAR}")
        kind, match = next(iter(matches.items()))
        if kind in parts:
            raise ValueError(f"{where}: {kind} is set twice, the second time by {word!r}: omit one")
        parts[kind] = match.groupdict()
    needed = ("channels", "size", *([] if "depthwise" in parts else ["kernel"]))
    if absent := [kind for kind in needed if kind not in parts]:
        raise ValueError(f"{where}: {' and '.join(absent)} missing, expected {GRAMMAR}")
    return parts


def _check(shape: Shape, where: str) -> None:
    """Raise ValueError for a shape that no convolution has."""
    for name in ("kernel", "stride", "size"):
        for number in getattr(shape, name):
            check_integer(where, name, number, 1)
    for number in shape.padding:
        check_integer(where, "padding", number, 0)
    check_integer(where, "channels", shape.C, 1)
    check_integer(where, "filters", shape.K, 1)
    check_integer(where, "groups", shape.groups, 1)
    check_divisor(where, "groups", shape.groups, "channels", shape.C)
    check_divisor(where, "groups", shape.groups, "filters", shape.K)
    padded = tuple(s + 2 * p for s, p in zip(shape.size, shape.padding, strict=True))
    if shape.kernel[0] > padded[0] or shape.kernel[1] > padded[1]:
        raise ValueError(
            f"{where}: kernel is {'{}x{}'.format(*shape.kernel)}, expected at most the padded "
            f"image, {padded[0]}x{padded[1]}: enlarge the image, @SIZE"
        )


def shapes_of_net(name: str, size: int | None = None) -> Counter[Shape]:
    """Return the distinct convolutions of a net, with the number of times that each occurs.

    Parameters
    ----------
    name : str
        Name of the net, as `minise.models.build` takes it.
    size : int, optional
        Rows and columns of the images; by default those of the net.

    Raises
    ------
    ValueError
        If the net is unknown, or does not process images of this size.
    """
    ops: Any = cost.Shapes()  # draws no parameters
    net = models.build(name, ops=ops)
    return Counter(_of_call(call) for call in recorded(net, size) if call.op == "conv2d")


def _of_call(call: Any) -> Shape:
    """Return the shape of a recorded convolution."""
    (_, C, H, W), (K, _, KH, KW) = call.arrays[0].shape, call.arrays[1].shape
    stride, padding, groups = (call.settings[key] for key in ("stride", "padding", "groups"))
    return Shape(C, K, (KH, KW), tuple(stride), tuple(padding), groups, (H, W))


def _same(kernel: Pair) -> Pair:
    """Return the padding that keeps the size of an image at stride 1, for odd kernels."""
    return (kernel[0] - 1) // 2, (kernel[1] - 1) // 2


def _pair(text: str) -> Pair:
    rows, _, columns = text.partition("x")
    return int(rows), int(columns or rows)


def _short(pair: Pair) -> str:
    return f"{pair[0]}" if pair[0] == pair[1] else f"{pair[0]}x{pair[1]}"
