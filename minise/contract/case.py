"""Define a test case of an op by sizes and settings, draw its arrays, and look up its functions."""

import sys
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import numpy as np

from minise.checks import Array
from minise.gradcheck.strategies.drawing import draw_arrays
from minise.ops import reference
from minise.ops.shapes import parse

OPS = sorted(n.removesuffix("_forward") for n in reference.FUNCTIONS if n.endswith("_forward"))

# sizes that several families share; H != W
IMAGE = dict(N=2, C=4, H=4, W=8)  # powers of two: means of integers are exact
ODD = dict(N=2, C=3, H=6, W=7)


class Case(NamedTuple):
    """An op with the sizes of its axes and its settings."""

    op: str
    sizes: dict[str, Any]
    settings: dict[str, Any] = {}  # noqa: RUF012, a NamedTuple's default is never changed
    exact: bool = True  # True if small-integer inputs give the same bits in any summation order


def family(op: str) -> str:
    """Return the name of the file in minise.ops.reference that defines the op, such as "pool"."""
    module: str = getattr(reference, f"{op}_forward").__module__
    return module.rpartition(".")[2]


def line(op: str) -> str:
    """Return the shape specification of an op, its line in SHAPES."""
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
    independent: bool = False,
) -> tuple[list[Any], dict[str, Any]]:
    """Draw the positional arrays and the keyword arguments of forward, settings included.

    With these keywords backward is forward's derivative (see `differentiable`), unless independent.
    """
    drawn, keywords = draw_arrays(
        line(case.op), case.sizes, rng, dtype, integers=integers, without=without, **case.settings
    )
    arrays: list[Any] = drawn
    if "running_var" in keywords:
        arrays[0] = _images_of_distinct_variances(arrays[0].shape, rng, integers).astype(dtype)
        if integers:
            running_var = keywords["running_var"]
            running_var[...] = np.resize([3, 15], running_var.shape)
    if case.op == "shake" and not integers:
        keywords = {
            name: rng.random(shares.shape).astype(dtype) for name, shares in keywords.items()
        }
    keywords |= case.settings
    return arrays, keywords if independent else differentiable(case.op, keywords)


def differentiable(op: str, keywords: dict[str, Any]) -> dict[str, Any]:
    """Return keywords with which backward is the derivative of forward: of shake, beta = alpha."""
    return {**keywords, "beta": keywords["alpha"]} if op == "shake" else keywords


def _images_of_distinct_variances(
    shape: tuple[int, ...], rng: np.random.Generator, integers: bool
) -> Array:
    """Draw images whose channels have different variances, none of them small.

    With equal variances, a backward that mixes up the statistics of two channels would pass.
    With M = N * H * W, integers have variance 3 if M is 4, 8, 16, …, and 15 in every second channel
    if M is 8, 16, …, so that with eps = 1 rstd is exactly 1/2 or 1/4. Floats differ by at least 1/2
    between any two pixels: nearly equal pixels would lose digits when the mean is subtracted.
    """
    N, C, H, W = shape
    count = N * H * W

    def channel(c: int) -> Array:
        if integers:
            wide = c % 2 and count % 8 == 0
            pixels = np.resize([5, 5, 3, 1, -5, -5, -3, -1] if wide else [-3, 1, 1, 1], count)
        else:
            pixels = (np.arange(count) + rng.random(count) / 2) * rng.uniform(1, 2)
        return np.asarray(rng.permutation(pixels) + rng.integers(-3, 4))

    rows = np.stack([channel(c) for c in range(C)])
    images: Array = rows.reshape(C, N, H, W).swapaxes(0, 1)
    return images


def forward_of(ops: Any, op: str, keywords: dict[str, Any]) -> Callable[..., Any]:
    """Return forward with its keywords bound; keyword arrays are cast to the inputs' dtype."""
    function = getattr(ops, f"{op}_forward")

    def forward(*inputs: Any) -> Any:
        dtype = inputs[0].dtype
        cast = {k: v.astype(dtype) if isinstance(v, np.ndarray) else v for k, v in keywords.items()}
        return function(*inputs, **cast)

    forward.__name__ = f"{op}_forward"
    forward.complex_step = ops is reference  # type: ignore[attr-defined]
    return forward


def functions(
    ops: Any, op: str, keywords: dict[str, Any]
) -> tuple[Callable[..., Any], Callable[..., Any], Callable[[Any], Array] | None]:
    """Return forward with its keywords bound, backward, and branches or None."""
    backward = getattr(ops, f"{op}_backward")
    return forward_of(ops, op, keywords), backward, getattr(ops, f"{op}_branches", None)


def direction(
    out: Array, rng: np.random.Generator, *, integers: bool = False, scale: float = 1
) -> Array:
    """Draw a random dout of the shape and dtype of out."""
    values = rng.integers(-3, 4, out.shape) if integers else rng.standard_normal(out.shape)
    return np.asarray(values * scale, out.dtype)
