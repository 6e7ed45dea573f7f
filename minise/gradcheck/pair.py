"""A forward and a backward at one place: their gradients, their slopes, and what rounding costs.

Steps go along directions whose entries are as large as the inputs' (and at least about one), so
that a step is felt at inputs of 1e12 as at inputs of 1.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from minise.gradcheck.adapters import by_name
from minise.gradcheck.arrays import host, like, outputs_of, promoted, shaped_as, swayed
from minise.gradcheck.slopes import (
    EPS,
    SURE,
    Outputs,
    Slope,
    central_slope,
    complex_slope,
    confirmed_slope,
    linear_slope,
    noise_of,
    norm,
    phi,
    rounding_of,
)
from minise.ops.checks import Array

DRAWS = 3  # of a direction
HOPELESS = 2.0**-13  # of a slope: what is apart by more is so by no rounding


class Pair:
    """Forward and backward at the given inputs, with a random dout.

    Attributes
    ----------
    gradients : tuple
        What backward gave, one for each input.
    douts : tuple of ndarray
        One for each output.
    """

    def __init__(
        self,
        forward: Callable[..., Any],
        backward: Callable[..., Any],
        inputs: Sequence[Any],
        mode: str,
        branches: Callable[[Any], Any] | None,
        linear: set[int],
        rng: np.random.Generator,
    ) -> None:
        self.forward, self.backward, self.branches = forward, backward, branches
        self.inputs, self.mode, self.linear = list(inputs), mode, linear

        self._run_forward(rng)

    def _run_forward(self, rng: np.random.Generator) -> None:
        out, self.cache = self.forward(*self.inputs)
        outs = outputs_of(out)
        self.douts: Outputs = tuple(np.asarray(rng.standard_normal(one.shape)) for one in outs)
        self.dout = shaped_as(out, self.douts)
        self.size = 1 + norm(outs)
        sizes = [host(value).size for value in self.inputs if value is not None]
        self.count = sum(one.size for one in outs) + sum(sizes)

    def run_backward(self) -> None:
        """Ask backward for the gradients.

        Raises
        ------
        ValueError
            If there is not one for each input.
        """
        self.gradients = self._as_tuple(self.backward(self.dout, self.cache))
        if len(self.gradients) != len(self.inputs):
            raise ValueError(f"{len(self.gradients)} gradients for {len(self.inputs)} inputs")

    def _as_tuple(self, gradients: Any) -> tuple[Any, ...]:
        if isinstance(gradients, dict):
            return by_name(self.forward, gradients)
        return tuple(gradients) if isinstance(gradients, tuple | list) else (gradients,)

    def direction(self, k: int, rng: np.random.Generator) -> Array:
        """Return a random direction for input k: of a few, the one that its gradient sees best.

        Along one that is nearly across it, a factor that is nearly right would not show.
        """
        value, gradient = host(self.inputs[k]), host(self.gradients[k])
        scale = np.maximum(abs(value), 1)
        few = [np.asarray(rng.standard_normal(value.shape) * scale) for _ in range(DRAWS)]
        return max(few, key=lambda u: abs(float(np.vdot(gradient, u))) / norm((u,)))

    def entries(self, k: int) -> Iterator[tuple[tuple[int, ...], Array, float]]:
        """Yield every place of input k, the direction along it, and that direction's length."""
        value = host(self.inputs[k])
        for place in np.ndindex(*value.shape):
            u = np.zeros(value.shape)
            u[place] = size = max(abs(float(value[place])), 1.0)
            yield place, u, size

    def gradient(self, k: int) -> Array:
        """Return forward's slope along every entry of input k."""
        right = np.zeros(host(self.inputs[k]).shape)
        for place, u, size in self.entries(k):
            slope = self.slope(k, u)
            right[place] = slope.value / size if np.isfinite(slope.value) else 0.0
        return right

    def slope(self, k: int, u: Array, noise: float = 0.0, *, confirmed: bool = False) -> Slope:
        """Return the slope of <dout, out> when input k moves along u."""
        line = self._line(k, u)
        if self.mode == "complex_step":
            return complex_slope(line, self.douts, self.count, noise)
        if k in self.linear:
            return linear_slope(line, self.douts, self.count, noise)
        find = confirmed_slope if confirmed else central_slope
        return find(line, self.douts, self.count, self.branches, noise)

    def _line(
        self, k: int, u: Array, *, all_move: bool = False
    ) -> Callable[[Any], tuple[Outputs, Any]]:
        """Return forward as a function of the way of input k along u; or of all inputs, a bit."""

        def line(t: Any) -> tuple[Outputs, Any]:
            moved = self._swayed(float(np.real(t))) if all_move else list(self.inputs)
            if self.mode == "complex_step":
                moved = [promoted(value) for value in moved]
            moved[k] = moved[k] + like(t * u, moved[k])
            out, cache = self.forward(*moved)
            return outputs_of(out), cache

        return line

    def _swayed(self, share: float) -> list[Any]:
        return [
            swayed(value, share, np.random.default_rng(k)) for k, value in enumerate(self.inputs)
        ]

    def compared(self, k: int, u: Array, *, cheaply: bool = False) -> tuple[float, Slope, float]:
        """Return <gradient, u>, forward's slope along u, and by how much they may differ.

        Most arithmetic stays within a bound that costs nothing (rounding_of). Where that is not
        enough, the rounding of forward and of backward is measured; but not cheaply, nor if it
        cannot be that much.
        """
        gradient, slope = host(self.gradients[k]), self.slope(k, u)
        exact = float(np.vdot(gradient, u))
        rounding = rounding_of(self.count, norm((gradient,)) * norm((u,)))
        allowed = slope.error + rounding
        apart = abs(exact - slope.value)
        if cheaply or (slope.smooth and apart <= allowed) or self._hopeless(exact, slope, u):
            return exact, slope, allowed
        noise, complex_step = 0.0, self.mode == "complex_step"
        if slope.smooth and not complex_step:  # so there is no kink for some way along u
            noise = noise_of(phi(self._line(k, u), self.douts), far=slope.step)
        forwards = phi(self._line(k, u, all_move=True), self.douts, complex_step=complex_step)
        slope = self.slope(k, u, max(noise, noise_of(forwards)), confirmed=True)
        return exact, slope, slope.error + rounding + noise_of(self._backwards(k, u))

    def _hopeless(self, exact: float, slope: Slope, u: Array) -> bool:
        """Tell whether two numbers are apart by far more than rounding can do.

        A difference may itself be nothing but rounding before that is measured.
        """
        apart, size = abs(exact - slope.value), max(abs(exact), abs(slope.value))
        noise = self.count * EPS * norm(self.douts) * self.size * norm((u,))
        return self.mode == "complex_step" and apart > HOPELESS * size + SURE * noise

    def _backwards(self, k: int, u: Array) -> Callable[[float], float]:
        """Return <gradient, u> as a function of the share by which all that is read is swayed.

        Which of the numbers grow and which shrink is random, and the same for every share.
        """

        def value(share: float) -> float:
            rng = np.random.default_rng(0)
            _, cache = self.forward(*self._swayed(share))
            gradients = self.backward(swayed(self.dout, share, rng), swayed(cache, share, rng))
            return float(np.vdot(host(self._as_tuple(gradients)[k]), u))

        return value
