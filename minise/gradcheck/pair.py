"""A forward and a backward at one place: their gradients, their slopes, and what rounding costs.

Steps go along directions whose entries are as large as the inputs' (and at least about one), so
that a step is felt at inputs of 1e12 as at inputs of 1.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from minise.gradcheck.adapters import by_name
from minise.gradcheck.arrays import (
    copied,
    host,
    like,
    outputs_of,
    promoted,
    same,
    shaped_as,
    swayed,
)
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

JUMP = 2.0**-26  # of a result: half of all digits; rounding does not change more by itself
DRAWS = 3  # of a direction
HOPELESS = 2.0**-13  # of a slope: what is apart by more is so by no rounding


def counted(number: int, thing: str) -> str:
    """Return "1 thing" or "2 things"."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


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
        names: Sequence[str],
        mode: str,
        branches: Callable[[Any], Any] | None,
        linear: set[int],
        rng: np.random.Generator,
    ) -> None:
        self._forward, self._backward, self.branches = forward, backward, branches
        self.inputs, self.names, self.mode, self.linear = list(inputs), names, mode, linear
        self._copies = [copied(value) for value in inputs]
        self.out, self.cache = self.forward(*self.inputs)
        outs = outputs_of(self.out)
        for one in outs:
            if one.dtype != np.float64:
                raise TypeError(
                    f"check: forward's out has dtype {one.dtype}, expected float64 as its inputs: "
                    "single precision inside leaves differences no digits"
                )
        self.douts: Outputs = tuple(np.asarray(rng.standard_normal(one.shape)) for one in outs)
        self.dout = shaped_as(self.out, self.douts)
        self.size = 1 + norm(outs)
        sizes = [host(value).size for value in self.inputs if value is not None]
        self.count = sum(one.size for one in outs) + sum(sizes)

    def forward(self, *inputs: Any) -> tuple[Any, Any]:
        """Return out and cache.

        Raises
        ------
        TypeError
            If forward returns something else.
        """
        returned = self._forward(*inputs)
        if isinstance(returned, tuple) and len(returned) == 2:
            return returned[0], returned[1]
        kind = type(returned).__name__
        raise TypeError(
            f"check: forward returned a {kind}, expected (out, cache): for a forward without a "
            "cache pass *adapters.without_cache(forward, backward), for a layer see adapters.layer"
        )

    def backward(self, dout: Any, cache: Any) -> tuple[Any, ...]:
        """Return one gradient for each input.

        Raises
        ------
        ValueError
            If there are more or fewer.
        """
        gradients = self._backward(dout, cache)
        if gradients is None:
            raise ValueError("backward returned None: is there a return?")
        if isinstance(gradients, dict):
            return by_name(self.names, gradients)
        several = isinstance(gradients, tuple | list)
        found = tuple(gradients) if several else (gradients,)
        if len(found) != len(self.inputs):
            raise ValueError(f"{counted(len(found), 'gradient')} for {len(self.inputs)} inputs")
        return found

    def run_backward(self) -> None:
        """Ask backward for the gradients, twice, to see whether the pair can be checked at all.

        Raises
        ------
        ValueError
            If it changes its arguments, or does not give the same again.
        """
        self._refuse_changed_inputs("forward")
        dout = copied(self.dout)
        self.gradients = self.backward(dout, self.cache)
        if not same(dout, self.dout):
            raise ValueError(
                "backward changes dout in place: another branch may need it; work on a copy"
            )
        self._refuse_changed_inputs("backward")
        self.gradients = copied(self.gradients)
        out, cache = self.forward(*self.inputs)
        self._refuse_other("forward", outputs_of(self.out), outputs_of(out))
        again = self.backward(copied(self.dout), cache)
        self._refuse_other("backward", self.gradients, again)

    def _refuse_changed_inputs(self, who: str) -> None:
        for name, copy, value in zip(self.names, self._copies, self.inputs, strict=True):
            if not same(copy, value):
                raise ValueError(f"{who} changes its input {name} in place: work on a copy")

    def _refuse_other(self, who: str, first: Sequence[Any], again: Sequence[Any]) -> None:
        """Refuse results that differ by more than another order of sums would."""
        for one, other in zip(first, again, strict=True):
            if one is None or other is None or host(one).shape != host(other).shape:
                continue
            apart = float(np.max(abs(host(one) - host(other)), initial=0.0))
            rounding = rounding_of(self.count, norm(self.douts) * self.size)
            if apart > rounding + JUMP * float(np.max(abs(host(one)), initial=0.0)):
                raise ValueError(
                    f"{who} gives other results for the same inputs, apart by {apart:.1e}: it "
                    "draws random numbers or keeps a state; pass what it draws as an input"
                )

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
            outs = outputs_of(out)
            if self.mode == "complex_step" and not any(np.iscomplexobj(one) for one in outs):
                raise TypeError(
                    "check: forward's out is real for complex inputs, expected complex in mode "
                    "complex_step: abs, .real or astype drops the imaginary part; use another mode"
                )
            return outs, cache

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
            return float(np.vdot(host(gradients[k]), u))

        return value
