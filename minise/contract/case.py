"""A case of an op: its sizes and settings, how its arrays are drawn, and its functions."""

import sys
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import numpy as np

from minise.checks import Array
from minise.gradcheck.strategies.drawing import draw_arrays
from minise.ops import reference
from minise.ops.shapes import parse

OPS = sorted(n.removesuffix("_forward") for n in reference.FUNCTIONS if n.endswith("_forward"))

# sizes that several families share; H is never W
IMAGE = dict(N=2, C=4, H=4, W=8)  # powers of two: means of integers are exact
ODD = dict(N=2, C=3, H=6, W=7)


class Case(NamedTuple):
    """An op with the sizes of its axes and its settings."""

    op: str
    sizes: dict[str, Any]
    settings: dict[str, Any] = {}  # noqa: RUF012, a NamedTuple's default is never changed
    exact: bool = True  # whether small integers leave nothing that depends on the order of sums


def family(op: str) -> str:
    """Return the name of the file of minise.ops.reference that has the op, such as "pool"."""
    module: str = getattr(reference, f"{op}_forward").__module__
    return module.rpartition(".")[2]


def line(op: str) -> str:
    """Return the op's line in SHAPES."""
    shapes: dict[str, str] = sys.modules[getattr(reference, f"{op}_forward").__module__].SHAPES
    return shapes[op]


def optional(op: str) -> list[str]:
    """Return the names of the arrays that may be None."""
    return [argument.name for argument in parse(line(op)) if argument.optional]


def draw(
    case: Case,
    rng: np.random.Generator,
    dtype: Any = np.float64,
    *,
    integers: bool = False,
    without: Collection[str] = (),
) -> tuple[list[Any], dict[str, Any]]:
    """Return the arrays that go by position, and all that goes by keyword."""
    drawn, keywords = draw_arrays(
        line(case.op), case.sizes, rng, dtype, integers=integers, without=without, **case.settings
    )
    arrays: list[Any] = drawn
    if "running_var" in keywords:
        arrays[0] = spread(arrays[0].shape, rng, integers).astype(dtype)
        if integers:
            running_var = keywords["running_var"]
            running_var[...] = np.resize([3, 15], running_var.shape)
    return arrays, {**keywords, **case.settings}


def spread(shape: tuple[int, ...], rng: np.random.Generator, integers: bool) -> Array:
    """Return images whose channels have variances that are not small, and that differ.

    Were they equal, the statistics of one channel would do for another, and a backward that mixes
    them up would look right. Integers have variance 3 in N * H * W = 4, 8, 16, … pixels, and in
    every other channel of 8, 16, … variance 15, so that with eps = 1 rstd is 1/2 or 1/4, exactly.
    Other numbers lie 1 to 2 apart: pixels that are nearly equal would lose their digits when
    their mean is taken off.
    """
    N, C, H, W = shape
    count = N * H * W

    def channel(c: int) -> Array:
        if integers:
            wide = c % 2 and count % 8 == 0
            one = np.resize([5, 5, 3, 1, -5, -5, -3, -1] if wide else [-3, 1, 1, 1], count)
        else:
            one = (np.arange(count) + rng.random(count) / 2) * rng.uniform(1, 2)
        return np.asarray(rng.permutation(one) + rng.integers(-3, 4))

    rows = np.stack([channel(c) for c in range(C)])
    images: Array = rows.reshape(C, N, H, W).swapaxes(0, 1)
    return images


def forward_of(ops: Any, op: str, keywords: dict[str, Any]) -> Callable[..., Any]:
    """Return forward with its keywords filled in; their arrays follow the dtype of the inputs."""
    function = getattr(ops, f"{op}_forward")

    def forward(*inputs: Any) -> Any:
        dtype = inputs[0].dtype
        same = {k: v.astype(dtype) if isinstance(v, np.ndarray) else v for k, v in keywords.items()}
        return function(*inputs, **same)

    forward.__name__ = f"{op}_forward"
    forward.complex_step = ops is reference  # type: ignore[attr-defined]
    return forward


def functions(
    ops: Any, op: str, keywords: dict[str, Any]
) -> tuple[Callable[..., Any], Callable[..., Any], Callable[[Any], Array] | None]:
    """Return forward with its keywords filled in, backward, and branches or None."""
    backward = getattr(ops, f"{op}_backward")
    return forward_of(ops, op, keywords), backward, getattr(ops, f"{op}_branches", None)


def direction(
    out: Array, rng: np.random.Generator, *, integers: bool = False, scale: float = 1
) -> Array:
    """Return a random dout."""
    values = rng.integers(-3, 4, out.shape) if integers else rng.standard_normal(out.shape)
    return np.asarray(values * scale, out.dtype)
