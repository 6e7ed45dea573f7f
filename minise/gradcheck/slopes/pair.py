"""A forward and a backward at some inputs: their gradients, and whether they can be checked."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

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
from minise.ops.checks import Array

REPEAT_REL_TOL = 2.0**-26  # of two runs: half of all digits, more than another order of sums
DRAWS = 3  # of a direction


class NotCheckable(ValueError):
    """Why a pair cannot be checked: what backward returns, or what is changed in place."""


class Pair:
    """Forward and backward at the given inputs, with a random dout.

    Attributes
    ----------
    gradients : tuple
        What backward gave, one for each input.
    plain_forward : callable
        Forward as it was given.
    out, cache : object
        What forward gave.
    douts : tuple of ndarray
        One for each output.
    count : int
        How many numbers go in and out: no sum in forward is taken to be longer.
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
        self._copies = [copied(value) for value in inputs]
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
            If forward returns something else.
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
            If there are more or fewer.
        """
        gradients = self._backward(dout, cache)
        if gradients is None:
            raise NotCheckable("backward returned None: is there a return?")
        if isinstance(gradients, dict):
            try:
                return by_name(self.names, gradients)
            except ValueError as error:
                raise NotCheckable(str(error)) from None
        several = isinstance(gradients, tuple | list)
        as_tuple = tuple(gradients) if several else (gradients,)
        if len(as_tuple) != len(self.inputs):
            raise NotCheckable(
                f"{_counted(len(as_tuple), 'gradient')} for {len(self.inputs)} inputs"
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
        """Ask backward for the gradients, three times, to see whether the pair can be checked.

        The first two calls get the same cache (in containers of their own, which backward may
        empty), the third that of a second forward.

        Raises
        ------
        NotCheckable
            If out is not finite, if a function changes its arguments, or does not give the same
            again.
        """
        self._refuse_other_than_finite()
        self._refuse_changed_inputs("forward")
        held = [(path, array, copied(array)) for path, array in arrays_in(self.cache)]
        dout = copied(self.dout)
        self.gradients = self.backward(dout, with_own_containers(self.cache))
        if not same(dout, self.dout):
            raise NotCheckable(
                "backward changes dout in place: another branch may need it; work on a copy"
            )
        self._refuse_changed_inputs("backward")
        for path, array, copy in held:
            if not same(copy, array):
                raise NotCheckable(
                    f"backward changes {path} in place: called again with the same cache it would "
                    "give another gradient; work on a copy"
                )
        self.gradients = copied(self.gradients)
        try:
            again = self.backward(copied(self.dout), with_own_containers(self.cache))
        except Exception as error:
            kind = type(error).__name__
            raise NotCheckable(
                f"backward fails where it is called again with the same cache ({kind}: {error}): "
                "it empties or changes what the cache holds; hold arrays in tuples, lists or dicts"
            ) from error
        self._refuse_other(
            "backward", self.gradients, again, "the same cache", "it changes the cache, or a state"
        )
        out, cache = self.forward(*self.inputs)
        draws = "it draws random numbers or keeps a state; pass what it draws as an input"
        self._refuse_other("forward", self.outs, outputs_of(out), "the same inputs", draws)
        again = self.backward(copied(self.dout), cache)
        self._refuse_other("backward", self.gradients, again, "the same inputs", draws)

    def _refuse_other_than_finite(self) -> None:
        bad = sum(int((~np.isfinite(output)).sum()) for output in self.outs)
        if bad:
            size = sum(output.size for output in self.outs)
            raise NotCheckable(
                f"forward's out has NaN or infinity in {bad} of {_counted(size, 'number')}: check "
                "where forward is finite (no log of a negative number, no division by zero, no "
                "overflow)"
            )

    def _refuse_changed_inputs(self, who: str) -> None:
        for name, copy, value in zip(self.names, self._copies, self.inputs, strict=True):
            if not same(copy, value):
                raise NotCheckable(f"{who} changes its input {name} in place: work on a copy")

    def _refuse_other(
        self, who: str, first: Sequence[Any], again: Sequence[Any], repeated: str, why: str
    ) -> None:
        """Refuse results that differ by more than another order of sums would."""
        for before, after in zip(map(host, first), map(host, again), strict=True):
            if before is None and after is None:
                continue
            if before is None or after is None or before.shape != after.shape:
                pair = (before, after)
                shapes = " and ".join("None" if a is None else str(a.shape) for a in pair)
                raise NotCheckable(f"{who} gives other results for {repeated}, of {shapes}: {why}")
            if before.dtype.kind not in "fiub" or np.array_equal(before, after, equal_nan=True):
                continue
            difference = float(np.max(abs(before - after), initial=0.0))
            largest = float(np.max(abs(before), initial=0.0))
            rounding = rounding_of(self.count, norm(self.douts) * norm(self.outs))
            if not difference <= rounding + REPEAT_REL_TOL * largest:
                raise NotCheckable(
                    f"{who} gives other results for {repeated}, with differences up to "
                    f"{difference:.1e}: {why}"
                )

    def direction(self, k: int, rng: np.random.Generator) -> Array:
        """Return a random direction for input k: of a few, the one that its gradient sees best.

        Along one that is nearly orthogonal to it, a factor that is nearly right would not show.
        Entries are as large as the input's, and at least about one, so that a step is felt at
        inputs of 1e12 as at inputs of 1.
        """
        value, gradient = host(self.inputs[k]), host(self.gradients[k])
        scale = np.maximum(abs(value), 1)
        candidates = [np.asarray(rng.standard_normal(value.shape) * scale) for _ in range(DRAWS)]
        return max(candidates, key=lambda u: abs(float(np.vdot(gradient, u))) / norm((u,)))

    def entries(self, k: int) -> Iterator[tuple[tuple[int, ...], Array, float]]:
        """Yield every place of input k, the direction along it, and that direction's length."""
        value = host(self.inputs[k])
        for index in np.ndindex(*value.shape):
            u = np.zeros(value.shape)
            u[index] = size = max(abs(float(value[index])), 1.0)
            yield index, u, size

    def line(
        self,
        directions: dict[int, Array],
        inputs: Sequence[Any] | None = None,
        *,
        complex_step: bool = False,
        perturb: bool = False,
    ) -> Line:
        """Return forward as a function of t, where some inputs are moved by t along directions.

        Parameters
        ----------
        directions : dict of int to ndarray
            By the number of the input.
        inputs : sequence, optional
            Other inputs than the pair's.
        complex_step : bool
            Whether t is complex; then all inputs are.
        perturb : bool
            Whether all inputs are perturbed at random, by up to a share t, and the direction takes
            only the imaginary part of t.
        """

        def line(t: Any) -> tuple[Outputs, Any]:
            moved = self.perturbed_inputs(float(np.real(t))) if perturb else list(base)
            if complex_step:
                moved = [promoted(value) for value in moved]
            way = 1j * np.imag(t) if perturb and complex_step else 0.0 if perturb else t
            for k, u in directions.items():
                moved[k] = moved[k] + like(way * u, moved[k])
            out, cache = self.forward(*moved)
            outs = outputs_of(out)
            if complex_step and not any(np.iscomplexobj(array) for array in outs):
                raise TypeError(
                    "check: forward's out is real for complex inputs, expected complex in mode "
                    "complex_step: abs, .real or astype drops the imaginary part; use another mode"
                )
            return outs, cache

        base = self.inputs if inputs is None else inputs
        return line

    def perturbed_inputs(self, share: float) -> list[Any]:
        """Return the inputs, all made larger or smaller at random by up to a share."""
        return [
            perturbed(value, share, np.random.default_rng(k)) for k, value in enumerate(self.inputs)
        ]

    def gradient_along(self, k: int, u: Array) -> Callable[[float], float]:
        """Return <gradient, u> as a function of the share by which all that is read is perturbed.

        Which of the numbers grow and which shrink is random, and the same for every share.
        """

        def value(share: float) -> float:
            rng = np.random.default_rng(0)
            _, cache = self.forward(*self.perturbed_inputs(share))
            gradients = self.backward(copied(self.dout), perturbed(cache, share, rng))
            return float(np.vdot(host(gradients[k]), u))

        return value


def by_name(names: Sequence[str], gradients: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return gradients in the order of the inputs' names, from a dict of "dx" or "x" to array.

    Raises
    ------
    ValueError
        If the dict has a key that is no input's.
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
            f"check: forward's out has a {type(out).__name__} in it, expected an array or a tuple "
            "of arrays: return several outputs side by side"
        )
    dtype = host(out).dtype
    if dtype != np.float64:
        why = {
            "f": "single precision inside leaves differences no digits",
            "i": "integers have no derivative",
            "O": "return an array of numbers",
        }.get(dtype.kind, "it has to be real numbers")
        raise TypeError(
            f"check: forward's out has dtype {dtype}, expected float64 as its inputs: {why}"
        )


def _counted(number: int, thing: str) -> str:
    """Return "1 thing" or "2 things"."""
    return f"{number} {thing}{'' if number == 1 else 's'}"
