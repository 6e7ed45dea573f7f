"""Small cases to walk through, by name: numbers of two digits, so that a reader can follow."""

from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from minise.gradcheck.cases import OPS, Case, draw
from minise.gradcheck.cases import line as shapes_of
from minise.models.net import Net
from minise.nn import SE, BatchNorm2d, Conv2d, GlobalAvgPool2d, Linear, ReLU, SEBlock
from minise.nn.residual import BasicBlock, Build
from minise.ops import reference
from minise.ops.checks import Array, parse
from minise.walk.limit import refuse_large
from minise.walk.subject import rounded

ALIASES = {
    "batch-norm": "batch_norm2d",
    "conv": "conv2d",
    "loss": "softmax_cross_entropy",
    "pool": "max_pool2d",
    "se": "squeeze_excite",
}
NETS = ("block", "net")

_IMAGE = dict(N=1, C=2, H=4, W=4)
_BATCH = dict(N=2, C=2, H=2, W=3)
SIZES: dict[str, dict[str, Any]] = {
    "": {"...": (2, 4)},
    "batch_norm2d": _BATCH,
    "batch_norm2d_add_relu": _BATCH,
    "batch_norm2d_relu": _BATCH,
    "channel_scale": dict(N=2, C=2, H=2, W=3),
    "channel_shuffle": dict(N=1, C=4, H=1, W=3),
    "concat": {"N": 1, "_": (1, 2), "H": 2, "W": 3},
    "conv2d": dict(_IMAGE, H=3, W=4, K=2, KH=2, KW=2),
    "flatten": dict(N=2, C=2, H=1, W=3),
    "global_avg_pool2d": dict(N=2, C=2, H=2, W=3),
    "global_max_pool2d": dict(N=2, C=2, H=2, W=3),
    "avg_pool2d": _IMAGE,
    "max_pool2d": _IMAGE,
    "linear": dict(N=2, I=3, O=2),
    "se_block_tail": dict(_BATCH, R=2),
    "softmax_cross_entropy": dict(N=2, K=4),
    "squeeze_excite": dict(N=2, C=3, H=2, W=3, R=2),
    "block": dict(_BATCH),
    "net": dict(N=2, C=1, H=3, W=3),
}
SETTINGS: dict[str, dict[str, Any]] = {
    "avg_pool2d": dict(kernel=(2, 2)),
    "batch_norm2d": dict(training=True),
    "batch_norm2d_add_relu": dict(training=True),
    "batch_norm2d_relu": dict(training=True),
    "channel_shuffle": dict(groups=2),
    "dropout": dict(p=0.5),
    "max_pool2d": dict(kernel=(2, 2)),
    "se_block_tail": dict(training=True),
    "squeeze_excite": dict(squeeze="avg", gate="sigmoid"),
}


@dataclass
class Walk:
    """What `minise.walk.trace` takes, ready to be walked through."""

    name: str  # of the op, or "block" or "net"
    subject: Any  # the same, or a layer
    x: Any
    target: Array | None = None
    settings: dict[str, Any] = field(default_factory=dict)


class SmallNet(Net):
    """The smallest net with all that an SE-ResNet is made of, but for the shortcut."""

    def __init__(self, channels: int, rng: np.random.Generator) -> None:
        super().__init__(reference)
        self.conv = Conv2d(channels, 2, 2, rng=rng, dtype=float)
        self.bn = BatchNorm2d(2, dtype=float)
        self.relu = ReLU()
        self.se = SEBlock(2, SE(reduction=1), rng=rng, dtype=float)
        self.pool = GlobalAvgPool2d()
        self.fc = Linear(2, 3, rng=rng, dtype=float)

    def forward(self, x: Array, training: bool) -> Array:
        """Return (N, 3)."""
        for layer in (self.conv, self.bn, self.relu, self.se, self.pool, self.fc):
            x = layer.forward(x, training)
        return x

    def backward(self, dout: Array) -> Array:
        """Return dx."""
        for layer in (self.fc, self.pool, self.se, self.relu, self.bn, self.conv):
            dout = layer.backward(dout)
        return dout


def names() -> list[str]:
    """Return everything that can be walked through, short names first."""
    return [*ALIASES, *NETS, *OPS]


def full_name(name: str) -> str:
    """Return the name of an op, or "block" or "net".

    Raises
    ------
    ValueError
        If it is unknown.
    """
    found = ALIASES.get(name, name.replace("-", "_"))
    if found not in (*NETS, *OPS):
        raise ValueError(f"walk: {name!r} is unknown, expected one of {', '.join(names())}")
    return found


def case(
    name: str,
    shape: tuple[int, ...] | None = None,
    seed: int = 0,
    settings: dict[str, Any] | None = None,
) -> Walk:
    """Return a small case, drawn.

    Parameters
    ----------
    name : str
        One of names().
    shape : tuple of int, optional
        Of x, or of what the op's first array is called.
    seed : int
        Of the numbers.
    settings : dict, optional
        Of the op, in the place of the usual ones.

    Raises
    ------
    ValueError
        If the name is unknown, or the shape too large, or with another number of axes than x.
    """
    op = full_name(name)
    refuse_large("x", shape or (1,), prod(shape or (1,)))
    rng = np.random.default_rng(seed)
    if op in NETS:
        if settings:
            raise ValueError(f"walk: {name} takes no settings, but {', '.join(settings)} came")
        return _net(op, shape, rng)
    sizes = _sizes(op, shape)
    chosen = {**SETTINGS.get(op, {}), **(settings or {})}
    arrays, keywords = draw(Case(op, sizes, chosen), rng)
    keywords = {key: rounded(value) for key, value in keywords.items()}
    if "running_var" in keywords:  # channels that differ in more than their mean
        arrays[0] = rng.standard_normal(arrays[0].shape) + rng.standard_normal((sizes["C"], 1, 1))
    return Walk(op, op, [rounded(array) for array in arrays], None, keywords)


def _sizes(op: str, shape: tuple[int, ...] | None) -> dict[str, Any]:
    sizes = dict(SIZES.get(op, SIZES[""]))
    if shape is None:
        return sizes
    first = parse(shapes_of(op))[0]
    if first.axes == (("...", ""),):
        return {**sizes, "...": shape}
    axes = [axis for axis, _ in first.axes]
    if len(axes) != len(shape):
        raise ValueError(
            f"walk: shape is {shape}, expected {len(axes)} numbers, for {first.name} of {op} is "
            f"{first.text}"
        )
    return {**sizes, **{axis: n for axis, n in zip(axes, shape, strict=True) if axis != "_"}}


def _net(name: str, shape: tuple[int, ...] | None, rng: np.random.Generator) -> Walk:
    sizes = tuple(SIZES[name].values()) if shape is None else shape
    if len(sizes) != 4:
        raise ValueError(f"walk: shape is {sizes}, expected 4 numbers, for x is (N, C, H, W)")
    x = rounded(rng.standard_normal(sizes))
    if name == "net":
        net: Any = SmallNet(sizes[1], rng)
        target = rng.integers(0, 3, sizes[0])
    else:
        build = Build(rng=rng, dtype=float, se=SE(reduction=1), se_rng=rng)
        net, target = BasicBlock(sizes[1], sizes[1], 1, "B", build), None
    for array in net.named_parameters().values():
        array[...] = rounded(rng.standard_normal(array.shape) / 2 + (array == 1))
    return Walk(name, net, x, target)
