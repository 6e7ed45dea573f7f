"""Small cases to trace, by name. Their random numbers have two decimals, to be readable."""

import ast
import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from minise.checks import Array, Pair, check_integer, did_you_mean
from minise.contract.case import OPS, Case, draw
from minise.contract.case import line as shapes_of
from minise.contract.spec import SPECS
from minise.nn import (
    SE,
    BatchNorm2d,
    Build,
    Chain,
    Conv2d,
    GlobalAvgPool2d,
    Linear,
    ReLU,
    SEBlock,
    basic_block,
)
from minise.ops import reference
from minise.ops.shapes import parse
from minise.walk.steps import Trace
from minise.walk.trace import refuse_large, rounded, trace

ALIASES = {
    "batch-norm": "batch_norm2d",
    "conv": "conv2d",
    "loss": "softmax_cross_entropy",
    "pool": "max_pool2d",
    "se": "squeeze_excite",
}
NETS = {  # title of the page of each
    "block": "A residual unit with an SE block: the gradients of the branch and of the shortcut.",
    "net": "A small net, from images to loss and back.",
}

SIZES = {"block": (2, 2, 2, 3), "net": (2, 1, 3, 3)}  # N, C, H, W of the nets
SETTINGS = {op: spec.walk.settings for op, spec in SPECS.items()}


@dataclass
class Walk:
    """A case to trace: an op or a net with its arrays and settings."""

    name: str  # name of the op, or "block" or "net"
    subject: Any  # name of the op, or a layer
    x: Any
    target: Array | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    def trace(self, **options: Any) -> Trace:
        """Return the trace of the case; options are passed to `minise.walk.trace`."""
        walked = trace(self.subject, self.x, self.target, **options, **self.settings)
        if self.name in NETS:
            walked.name, walked.title = self.name, NETS[self.name]
        return walked


def small_net(channels: int, rng: np.random.Generator) -> Chain:
    """Return a minimal net with every kind of layer of an SE-ResNet, without a shortcut."""
    return Chain(
        ("conv", Conv2d(channels, 2, 2, rng=rng, dtype=float)),
        ("bn", BatchNorm2d(2, dtype=float)),
        ("relu", ReLU()),
        ("se", SEBlock(2, SE(reduction=1), rng=rng, dtype=float)),
        ("pool", GlobalAvgPool2d()),
        ("fc", Linear(2, 3, rng=rng, dtype=float)),
    )


def names() -> list[str]:
    """Return the names of all cases, aliases first."""
    return [*ALIASES, *NETS, *OPS]


def full_name(name: str) -> str:
    """Return the full name of an op, or "block" or "net", for a name or an alias.

    Raises
    ------
    ValueError
        If the name is unknown.
    """
    full = ALIASES.get(name, name.replace("-", "_"))
    if full not in (*NETS, *OPS):
        hint = did_you_mean(name, names())
        raise ValueError(f"walk: {name!r} is unknown, expected one of {', '.join(names())}{hint}")
    return full


def case(
    name: str,
    shape: tuple[int, ...] | None = None,
    seed: int = 0,
    settings: dict[str, Any] | None = None,
) -> Walk:
    """Return a small case with random numbers.

    Parameters
    ----------
    name : str
        One of names().
    shape : tuple of int, optional
        Shape of x, or of the op's first array.
    seed : int
        Seed of the random numbers.
    settings : dict, optional
        Settings of the op that replace the default ones of its case.

    Raises
    ------
    ValueError
        If the name is unknown, or the shape is too large or has another number of axes than x.
    """
    op = full_name(name)
    check_integer("walk", "seed", seed, 0)
    refuse_large("x", shape or (1,), prod(shape or (1,)))
    rng = np.random.default_rng(seed)
    if op in NETS:
        if settings:
            raise ValueError(
                f"walk: settings has {', '.join(settings)}, expected none: {name} has no settings"
            )
        return _net(op, shape, rng)
    sizes = _sizes(op, shape)
    chosen = {**SETTINGS[op], **(settings or {})}
    arrays, keywords = draw(Case(op, sizes, chosen), rng)
    keywords = {key: rounded(value) for key, value in keywords.items()}
    if "running_var" in keywords:  # so that the means of the channels differ
        arrays[0] = rng.standard_normal(arrays[0].shape) + rng.standard_normal((sizes["C"], 1, 1))
    return Walk(op, op, [rounded(array) for array in arrays], None, keywords)


def read_settings(name: str, words: Sequence[str]) -> dict[str, Any]:
    """Parse an op's settings from strings such as stride=2,2 or gate=tanh.

    A value that is not a Python literal stays a string. A single number for a setting of type
    (rows, columns) is used for both.

    Parameters
    ----------
    name : str
        One of names().
    words : sequence of str
        Strings of the form name=value.

    Raises
    ------
    ValueError
        If a string does not have this form.
    """
    op = full_name(name)
    forward = None if op in NETS else getattr(reference, f"{op}_forward")
    parameters = inspect.signature(forward).parameters if forward else {}
    settings: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key.isidentifier():
            raise ValueError(f"walk: settings has {word!r}, expected name=value, such as gate=tanh")
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            value = text
        is_pair = key in parameters and parameters[key].annotation in (Pair, Pair | None)
        settings[key] = (value, value) if is_pair and type(value) is int else value
    return settings


def _sizes(op: str, shape: tuple[int, ...] | None) -> dict[str, Any]:
    sizes = dict(SPECS[op].walk.sizes)
    if shape is None:
        return sizes
    first = parse(shapes_of(op))[0]
    if first.axes == (("...", ""),):
        return {**sizes, "...": shape}
    axes = [axis for axis, _ in first.axes]
    if len(axes) != len(shape):
        raise ValueError(
            f"walk: shape is {shape}, expected {len(axes)} numbers: {first.name} of {op} has shape "
            f"{first.text}"
        )
    return {**sizes, **{axis: n for axis, n in zip(axes, shape, strict=True) if axis != "_"}}


def _net(name: str, shape: tuple[int, ...] | None, rng: np.random.Generator) -> Walk:
    sizes = SIZES[name] if shape is None else shape
    if len(sizes) != 4:
        raise ValueError(f"walk: shape is {sizes}, expected 4 numbers: x has shape (N, C, H, W)")
    x = rounded(rng.standard_normal(sizes))
    target = None
    if name == "net":
        net, target = small_net(sizes[1], rng), rng.integers(0, 3, sizes[0])
    else:
        build = Build(rng=rng, dtype=float, se=SE(reduction=1), se_rng=rng)
        net = basic_block(sizes[1], sizes[1], 1, build)
    for array in net.named_parameters().values():
        array[...] = rounded(rng.standard_normal(array.shape) / 2 + (array == 1))
    return Walk(name, net, x, target)
