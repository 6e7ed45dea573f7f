"""Check a backward pass against its forward pass: by a complex step, or by finite differences."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minise.ops.checks import Array, check_choice

EPS = float(np.finfo(np.float64).eps)
MODES = ("directional", "complex_step")
STEPS = 2.0 ** -np.arange(17, 30, 4)  # the first is about the cube root of EPS: best if no kink
TINY = 2.0**-100  # of a complex step: nothing is subtracted, so it cannot be too small


def assert_gradients(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    inputs: Sequence[Array | None],
    rng: np.random.Generator | None = None,
    *,
    mode: str = "directional",
    branches: Callable[[Any], Array] | None = None,
) -> None:
    """Assert that backward is the transpose of forward's derivative at the given inputs.

    Parameters
    ----------
    forward : callable
        Maps the inputs to ``(out, cache)``.
    backward : callable
        Maps ``(dout, cache)`` to one gradient per input.
    inputs : sequence of ndarray or None
        Where to check, in float64. An input that is None, integer or boolean must get None.
    rng : numpy.random.Generator, optional
        Draws the directions; None draws from seed 0.
    mode : {"directional", "complex_step"}
        How forward's slope is found: by central differences, or, where forward takes complex
        numbers, by a complex step; then it is exact but for rounding.
    branches : callable, optional
        The op's branches(cache): finite differences then never step across a kink.

    Raises
    ------
    AssertionError
        Naming the input whose gradient is wrong, and both numbers.
    ValueError
        If the inputs are too close to a kink for any step, or the mode is unknown.

    Notes
    -----
    Let J be the derivative of forward in one input, u a random direction of that input and dout a
    random gradient of the output. Then ``<dout, J u> == <J.T dout, u>``: a few runs of forward give
    the left side, one of backward the right. dout has to be random. All ones would ask for the
    gradient of ``out.sum()``, which is zero everywhere for batch norm and for softmax.

    The tolerance is what can be lost: every number may be rounded once for each number that the
    op has, because no sum is longer; and a difference adds its own truncation error.
    """
    check_choice("assert_gradients", "mode", mode, MODES)
    rng = np.random.default_rng(0) if rng is None else rng
    out, cache = forward(*inputs)
    dout = np.asarray(rng.standard_normal(out.shape))
    gradients = backward(dout, cache)
    if len(gradients) != len(inputs):
        raise AssertionError(f"{len(gradients)} gradients for {len(inputs)} inputs")
    count = out.size + sum(value.size for value in inputs if value is not None)
    for k, (value, gradient) in enumerate(zip(inputs, gradients, strict=True)):
        if value is None or value.dtype.kind != "f":
            if gradient is not None:
                raise AssertionError(f"input {k}: a gradient where None is expected")
            continue
        if gradient is None or gradient.shape != value.shape:
            got = None if gradient is None else gradient.shape
            raise AssertionError(f"input {k}: gradient of shape {got} is not {value.shape}")
        u = np.asarray(rng.standard_normal(value.shape))
        if mode == "complex_step":
            slope, truncation, magnified = _complex_slope(forward, inputs, k, u), 0.0, 1.0
        else:
            slope, truncation, magnified = _slope(forward, inputs, k, u, dout, branches)
        numeric = np.vdot(dout, slope)
        exact = np.vdot(gradient, u)
        size = np.linalg.norm(dout) * (np.linalg.norm(slope) + np.linalg.norm(out) * magnified)
        size += np.linalg.norm(gradient) * np.linalg.norm(u)
        tolerance = truncation + count * EPS * size
        if not abs(numeric - exact) <= tolerance:
            raise AssertionError(
                f"input {k}: forward's slope is {numeric:.12g}, backward gives {exact:.12g}, "
                f"apart by {abs(numeric - exact):.1e} where {tolerance:.1e} is allowed"
            )


def _moved(inputs: Sequence[Array | None], k: int, step: Array) -> list[Array | None]:
    return [step + a if i == k and a is not None else a for i, a in enumerate(inputs)]


def _complex_slope(
    forward: Callable[..., Any], inputs: Sequence[Array | None], k: int, u: Array
) -> Array:
    """Return J u = imag(forward(value + i t u)) / t for a tiny t."""
    promoted = [a.astype(complex) if a is not None and a.dtype.kind == "f" else a for a in inputs]
    out, _ = forward(*_moved(promoted, k, 1j * TINY * u))
    return out.imag / TINY


def _slope(
    forward: Callable[..., Any],
    inputs: Sequence[Array | None],
    k: int,
    u: Array,
    dout: Array,
    branches: Callable[[Any], Array] | None,
) -> tuple[Array, float, float]:
    """Return J u by a central difference, a bound on <dout, its truncation error>, and 1 / step.

    Twice the step makes four times the truncation error, so the change between the two is three
    times the error of the smaller.
    """
    for step in STEPS:
        runs = [forward(*_moved(inputs, k, m * step * u)) for m in (-2, -1, 1, 2)]
        if branches is None or all(
            np.array_equal(branches(runs[0][1]), branches(cache)) for _, cache in runs
        ):
            far2, far1, near1, near2 = (out for out, _ in runs)
            near = (near1 - far1) / (2 * step)
            wide = (near2 - far2) / (4 * step)
            return near, float(abs(np.vdot(dout, wide - near))), float(1 / step)
    raise ValueError(f"input {k}: a kink is nearer than {2 * STEPS[-1]:.0e} steps; move the inputs")
