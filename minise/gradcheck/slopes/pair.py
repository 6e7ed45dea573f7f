"""Run a forward and a backward at some inputs, and refuse pairs that cannot be checked."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from minise.checks import Array
from minise.gradcheck.slopes.arrays import (
    arrays_in,
    copied,
    host,
    like,
    outputs_of,
    perturbed,
    promoted,
    same,
    shaped_as,
    with_own_containers,
)
from minise.gradcheck.slopes.differences import Line
from minise.gradcheck.slopes.rounding import Outputs, norm, rounding_of

REPEAT_REL_TOL = 2.0**-26  # between two runs: half of all digits, more than reordered sums need
DIRECTIONS_DRAWN = 3  # candidates, of which one is used


class NotCheckable(ValueError):
    """A pair cannot be checked: backward's result is malformed, or an array changes in place."""


class Pair:
    """A forward and a backward at some inputs, with a random dout.

    Attributes
    ----------
    gradients : tuple
        Backward's results, one for each input.
    plain_forward : callable
        Forward as the caller passed it.
    out, cache : object
        Forward's results.
    outs, douts : tuple of ndarray
        The outputs, and a gradient for each, as NumPy arrays.
    count : int
        Number of entries of all inputs and outputs, the assumed maximal length of a sum in forward.
    """

    gradients: tuple[Any, ...]

    def __init__(
        self,
        forward: Callable[..., Any],
        backward: Callable[..., Any],
        inputs: Sequence[Any],
        names: Sequence[str],
        rng: np.random.Generator,
    ) -> None:
        self.plain_forward, self._backward = forward, backward
        self.inputs, self.names = list(inputs), names
        self._original_inputs = [copied(value) for value in inputs]
        self.out, self.cache = self.forward(*self.inputs)
        for output in self.out if isinstance(self.out, tuple | list) else [self.out]:
            _check_output(output)
        self.outs = outputs_of(self.out)
        self.douts: Outputs = tuple(
            np.asarray(rng.standard_normal(output.shape)) for output in self.outs
        )
        self.dout = shaped_as(self.out, self.douts)
        sizes = [host(value).size for value in self.inputs if value is not None]
        self.count = sum(output.size for output in self.outs) + sum(sizes)

    def forward(self, *inputs: Any) -> tuple[Any, Any]:
        """Return out and cache.

        Raises
        ------
        TypeError
            If forward returns anything else.
        """
        returned = self.plain_forward(*inputs)
        kind = type(returned).__name__
        if not isinstance(returned, tuple) or len(returned) != 2:
            raise TypeError(
                f"check: forward returned a {kind}, expected (out, cache): for a forward without "
                "a cache pass *adapters.without_cache(forward, backward), for a layer call "
                "check_layer(layer, x)"
            )
        if isinstance(returned[0], dict | set | str) or returned[0] is None:
            raise TypeError(
                f"check: forward's out is a {type(returned[0]).__name__}, expected an array or a "
                "tuple of arrays: return several outputs as a tuple or NamedTuple"
            )
        return returned[0], returned[1]

    def backward(self, dout: Any, cache: Any) -> tuple[Any, ...]:
        """Return one gradient for each input.

        Raises
        ------
        NotCheckable
            If their number or type is wrong.
        """
        gradients = self._backward(dout, cache)
        if gradients is None:
            raise NotCheckable(
                "backward returned None, expected a gradient for each input: is the return missing?"
            )
        if isinstance(gradients, dict):
            try:
                return by_name(self.names, gradients)
            except ValueError as error:
                raise NotCheckable(str(error)) from None
        is_sequence = isinstance(gradients, tuple | list)
        as_tuple = tuple(gradients) if is_sequence else (gradients,)
        if len(as_tuple) != len(self.inputs):
            raise NotCheckable(
                f"backward returns {_counted(len(as_tuple), 'gradient')} for "
                f"{_counted(len(self.inputs), 'input')}, expected one gradient for each input"
            )
        for name, gradient in zip(self.names, as_tuple, strict=True):
            if (
                gradient is not None
                and not isinstance(gradient, int | float)
                and not hasattr(gradient, "dtype")
            ):
                kind = type(gradient).__name__
                raise NotCheckable(f"backward returns a {kind} for {name}, expected an array")
        return as_tuple

    def run_backward(self) -> None:
        """Run backward three times, keep the gradients, and check that the pair can be checked.

        The first two calls get the same cache, each time in new containers, which backward may
        empty. The third call gets the cache of a second forward.

        Raises
        ------
        NotCheckable
            If out is not finite, a function changes its arguments, or a function returns different
            results for the same arguments.
        """
        self._require_finite_out()
        self._require_unchanged_inputs("forward")
        cached = [(path, array, copied(array)) for path, array in arrays_in(self.cache)]
        dout = copied(self.dout)
        self.gradients = self.backward(dout, with_own_containers(self.cache))
        if not same(dout, self.dout):
            raise NotCheckable(
                "backward changes dout in place, but another branch may need it: work on a copy"
            )
        self._require_unchanged_inputs("backward")
        for path, array, original in cached:
            if not same(original, array):
                raise NotCheckable(
                    f"backward changes {path} in place, so that a second call with the same cache "
                    "would return a different gradient: work on a copy"
                )
        self.gradients = copied(self.gradients)
        try:
            again = self.backward(copied(self.dout), with_own_containers(self.cache))
        except Exception as error:
            kind = type(error).__name__
            raise NotCheckable(
                f"backward fails in a second call with the same cache ({kind}: {error}): it "
                "empties or changes an object in the cache; use tuples, lists or dicts of arrays"
            ) from error
        self._require_equal_results(
            "backward",
            self.gradients,
            again,
            "the same cache",
            "it changes the cache or a state of its own",
        )
        out, cache = self.forward(*self.inputs)
        draws = "it draws random numbers or has a state; pass random numbers as an input"
        self._require_equal_results("forward", self.outs, outputs_of(out), "the same inputs", draws)
        again = self.backward(copied(self.dout), cache)
        self._require_equal_results("backward", self.gradients, again, "the same inputs", draws)

    def _require_finite_out(self) -> None:
        bad = sum(int((~np.isfinite(output)).sum()) for output in self.outs)
        if bad:
            size = sum(output.size for output in self.outs)
            raise NotCheckable(
                f"forward's out has NaN or infinity in {bad} of {_counted(size, 'number')}, "
                "expected finite numbers: pass inputs where forward is finite (avoid the log of a "
                "negative number, division by zero, and overflow)"
            )

    def _require_unchanged_inputs(self, function: str) -> None:
        for name, original, value in zip(
            self.names, self._original_inputs, self.inputs, strict=True
        ):
            if not same(original, value):
                raise NotCheckable(f"{function} changes its input {name} in place: work on a copy")

    def _require_equal_results(
        self, function: str, first: Sequence[Any], again: Sequence[Any], repeated: str, why: str
    ) -> None:
        """Refuse results that differ by more than sums in another order would."""
        for before, after in zip(map(host, first), map(host, again), strict=True):
            if before is None and after is None:
                continue
            if before is None or after is None or before.shape != after.shape:
                pair = (before, after)
                shapes = " and ".join("None" if a is None else str(a.shape) for a in pair)
                raise NotCheckable(
                    f"{function} returns different results for {repeated}, of shapes {shapes}: "
                    f"{why}"
                )
            if before.dtype.kind not in "fiub" or np.array_equal(before, after, equal_nan=True):
                continue
            difference = float(np.max(abs(before - after), initial=0.0))
            largest = float(np.max(abs(before), initial=0.0))
            rounding = rounding_of(self.count, norm(self.douts) * norm(self.outs))
            if not difference <= rounding + REPEAT_REL_TOL * largest:
                raise NotCheckable(
                    f"{function} returns different results for {repeated}, with differences up to "
                    f"{difference:.1e}: {why}"
                )

    def direction(self, k: int, rng: np.random.Generator) -> Array:
        """Return a random direction for input k: of three, the one most parallel to its gradient.

        Along a direction nearly orthogonal to the gradient, a slightly wrong factor would not show.
        Each entry is scaled by max(|entry of the input|, 1), so that the relative change by a step
        is the same for inputs of 1e12 as for inputs of 1.
        """
        value, gradient = host(self.inputs[k]), host(self.gradients[k])
        scale = np.maximum(abs(value), 1)
        candidates = [
            np.asarray(rng.standard_normal(value.shape) * scale) for _ in range(DIRECTIONS_DRAWN)
        ]
        return max(candidates, key=lambda u: abs(float(np.vdot(gradient, u))) / norm((u,)))

    def entries(self, k: int) -> Iterator[tuple[tuple[int, ...], Array, float]]:
        """Yield each index of input k, a direction along that entry, and the direction's length."""
        value = host(self.inputs[k])
        for index in np.ndindex(*value.shape):
            u = np.zeros(value.shape)
            u[index] = length = max(abs(float(value[index])), 1.0)
            yield index, u, length

    def line(
        self,
        directions: dict[int, Array],
        inputs: Sequence[Any] | None = None,
        *,
        complex_step: bool = False,
        perturb: bool = False,
    ) -> Line:
        """Return forward restricted to the line inputs[k] + t * directions[k], a function of t.

        Parameters
        ----------
        directions : dict of int to ndarray
            Directions by the index of the input.
        inputs : sequence, optional
            Where the line starts; by default at the pair's inputs.
        complex_step : bool
            Whether t is complex; then all inputs are made complex.
        perturb : bool
            Whether the real part of t perturbs all inputs at random, relatively by up to t, and
            only its imaginary part moves along the directions.
        """

        def line(t: Any) -> tuple[Outputs, Any]:
            moved = self.perturbed_inputs(float(np.real(t))) if perturb else list(start)
            if complex_step:
                moved = [promoted(value) for value in moved]
            step = 1j * np.imag(t) if perturb and complex_step else 0.0 if perturb else t
            for k, u in directions.items():
                moved[k] = moved[k] + like(step * u, moved[k])
            out, cache = self.forward(*moved)
            outs = outputs_of(out)
            if complex_step and not any(np.iscomplexobj(array) for array in outs):
                raise TypeError(
                    "check: forward's out is real for complex inputs, expected complex in mode "
                    "complex_step: abs, .real or astype drops the imaginary part; use another mode"
                )
            return outs, cache

        start = self.inputs if inputs is None else inputs
        return line

    def perturbed_inputs(self, scale: float) -> list[Any]:
        """Return the inputs with every entry perturbed at random, relatively by up to scale."""
        return [
            perturbed(value, scale, np.random.default_rng(k)) for k, value in enumerate(self.inputs)
        ]

    def gradient_along(self, k: int, u: Array) -> Callable[[float], float]:
        """Return <gradient, u> as a function of a relative perturbation of inputs and cache.

        The random signs and sizes of the perturbation are the same at every scale.
        """

        def value(scale: float) -> float:
            rng = np.random.default_rng(0)
            _, cache = self.forward(*self.perturbed_inputs(scale))
            gradients = self.backward(copied(self.dout), perturbed(cache, scale, rng))
            return float(np.vdot(host(gradients[k]), u))

        return value


def by_name(names: Sequence[str], gradients: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return gradients in the order of the inputs' names, from a dict with keys "dx" or "x".

    Raises
    ------
    ValueError
        If a key of the dict is not the name of an input.
    """
    known = {*names, *(f"d{name}" for name in names)}
    if not gradients.keys() <= known:
        unknown = ", ".join(sorted(map(str, gradients.keys() - known)))
        raise ValueError(
            f"backward returns {unknown}, expected keys of {', '.join(f'd{n}' for n in names)}"
        )
    return tuple(gradients.get(f"d{name}", gradients.get(name)) for name in names)


def _check_output(out: Any) -> None:
    if not hasattr(out, "dtype") and not isinstance(out, int | float):
        raise TypeError(
            f"check: forward's out contains a {type(out).__name__}, expected an array or a tuple "
            "of arrays: return several outputs as a flat tuple"
        )
    dtype = host(out).dtype
    if dtype != np.float64:
        why = {
            "f": "in single precision rounding errors would hide the differences",
            "i": "integers have no derivative",
            "O": "return an array of numbers",
        }.get(dtype.kind, "only real numbers have a gradient here")
        raise TypeError(
            f"check: forward's out has dtype {dtype}, expected float64 like its inputs: {why}"
        )


def _counted(number: int, noun: str) -> str:
    """Return the number and the noun, in the plural unless the number is 1."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
