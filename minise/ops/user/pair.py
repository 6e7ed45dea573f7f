"""Adapt a user's op to the contract where only the form differs.

A gradient that is not in a tuple, a float64 result of float32 inputs, a cache of any class, a batch
norm that keeps no running statistics: `minise check` notes each of these differences. Results that
cannot be used raise OpsError, with a message of one line with the user's file and line number.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minise.ops import reference
from minise.ops.shapes import check_gradient
from minise.ops.user.errors import OpsError, call_user, describe, location_of, one_line
from minise.ops.user.fit import Fit, SignatureMismatch, accepted_settings

STATISTICS = ("training", "running_mean", "running_var")
NORM_SETTINGS = (*STATISTICS, "momentum", "eps")
BACKWARD_SETTINGS = ("plus", "needs_dx")  # of conv2d_backward; optional in a user's op
Hook = Callable[[str, Callable[..., Any]], Callable[..., Any]]  # name, function -> function to call


class UserCache(NamedTuple):
    """A user's cache, with the arguments and the out of forward."""

    cache: Any
    arrays: tuple[Any, ...]
    settings: dict[str, Any]
    out: Any

    def __getattr__(self, name: str) -> Any:
        """Return running statistics for layers, computed here if the user's cache lacks them."""
        if name not in STATISTICS:
            raise AttributeError(f"a user's cache has no {name}")
        if hasattr(self.cache, name) or "training" not in self.settings:
            return getattr(self.cache, name)
        if name == "training":
            return self.settings["training"]
        settings = {key: self.settings[key] for key in NORM_SETTINGS if key in self.settings}
        _, cache = reference.batch_norm2d_forward(*self.arrays[:3], **settings)
        return getattr(cache, name)


def cache_of(cache: Any) -> Any:
    """Return the cache that the user's forward returned; return any other cache unchanged."""
    return cache.cache if isinstance(cache, UserCache) else cache


class Pair:
    """Forward and backward of an op, at least one of them the user's.

    Parameters
    ----------
    op : str
        The name of the op, such as "relu".
    own : dict of str to callable
        The functions of the contract that the user's module has.
    file : Path
        The user's file.
    hook : callable
        Called with the name and the function of forward or backward; returns the function to call
        instead.

    Attributes
    ----------
    notes : dict of str to None
        Deviations in form from the contract, in the order in which calls find them.
    """

    def __init__(self, op: str, own: dict[str, Any], file: Path, hook: Hook) -> None:
        self.op, self.own, self.file, self.hook = op, own, file, hook
        self.notes: dict[str, None] = {}
        self.forward = own.get(f"{op}_forward", getattr(reference, f"{op}_forward"))
        self.backward = own.get(f"{op}_backward", getattr(reference, f"{op}_backward"))
        self.fit = Fit(op, self.forward)
        self.accepted = accepted_settings(self.backward, BACKWARD_SETTINGS)
        self.expected_outs: dict[Any, Any] = {}
        for note in self.fit.notes:
            self.note(note)
        for half in ("forward", "backward"):
            if f"{op}_{half}" not in own:
                self.note(f"{op}_{half} is not defined: the reference's is called")

    def functions(self) -> dict[str, Callable[..., Any]]:
        """Return the op's functions, adapted to the contract."""

        def forward(*arrays: Any, **settings: Any) -> Any:
            return self.run_forward(arrays, settings)

        def backward(dout: Any, cache: Any, **settings: Any) -> Any:
            return self.run_backward(dout, cache, settings)

        forward.__wrapped__ = getattr(reference, f"{self.op}_forward")  # type: ignore[attr-defined]
        backward.__wrapped__ = self.backward  # type: ignore[attr-defined]
        functions: dict[str, Any] = {f"{self.op}_forward": forward, f"{self.op}_backward": backward}
        branches = getattr(reference, f"{self.op}_branches", None)
        if branches is not None:
            functions[f"{self.op}_branches"] = self.branches
        return functions

    def run(
        self,
        name: str,
        function: Callable[..., Any],
        arguments: Sequence[Any],
        settings: dict[str, Any],
    ) -> Any:
        """Call the function that the hook returns for forward or backward."""
        return call_user(function, self.file, arguments, settings, self.hook(name, function))

    def note(self, text: str) -> None:
        """Add a note about a deviation in form, unless the same note exists."""
        self.notes.setdefault(text)

    def branches(self, cache: Any) -> Any:
        """Return the branches that forward took, from the user's function or the reference's."""
        own = self.own.get(f"{self.op}_branches")
        if own is not None and not own.__module__.startswith("minise."):
            return call_user(own, self.file, [cache_of(cache)], {})
        branches = getattr(reference, f"{self.op}_branches")
        if not isinstance(cache, UserCache):
            return branches(cache)
        forward = getattr(reference, f"{self.op}_forward")
        with np.errstate(all="ignore"):
            return branches(forward(*cache.arrays, **cache.settings)[1])

    def run_forward(self, arrays: tuple[Any, ...], settings: dict[str, Any]) -> Any:
        """Call the user's forward and return out and a UserCache."""
        name = f"{self.op}_forward"
        try:
            call = self.fit.call(arrays, settings)
        except SignatureMismatch as error:
            raise self.error(self.forward, f"{name} {error}") from None
        returned = self.run(name, self.forward, call.arguments, call.keywords)
        if isinstance(returned, list) and len(returned) == 2:
            self.note(f"{name} returns a list, expected the tuple (out, cache)")
            returned = tuple(returned)
        if not isinstance(returned, tuple) or len(returned) != 2:
            raise self.error(self.forward, f"{name} returns {describe(returned)}, {EXPECTED_PAIR}")
        out, cache = returned
        expected = self.expected_out(arrays, settings)
        out = self.array(self.forward, out, expected, f"{name} returns as out")
        if expected is not None and type(cache) is not expected.cache:
            kind, reference_kind = describe(cache, sized=False), expected.cache.__name__
            self.note(f"the cache is {kind}, the reference's is {reference_kind}")
        return out, UserCache(cache, arrays, settings, out)

    def run_backward(self, dout: Any, cache: Any, settings: dict[str, Any]) -> Any:
        """Call the user's backward and return one gradient per array of the op.

        Settings that the user's backward does not take are not passed; this method then adds plus
        to dx.
        """
        plus = settings.get("plus") if settings.get("needs_dx", True) else None
        if plus is not None and isinstance(cache, UserCache):
            check_gradient(self.op, plus, cache.arrays[0], name="plus", of="x")
        passed = {key: settings[key] for key in settings if key in self.accepted}
        gradients = self.gradients_of(dout, cache, passed)
        if plus is None or "plus" in passed:
            return gradients
        add = self.hook("add_forward", reference.add_forward)
        dx, *others = gradients
        return add(dx, plus)[0], *others

    def gradients_of(self, dout: Any, cache: Any, settings: dict[str, Any]) -> Any:
        """Call the user's backward and return its gradients in the form of the contract."""
        name = f"{self.op}_backward"
        user_cache = cache_of(cache)
        is_missing = name not in self.own and isinstance(cache, UserCache)
        try:
            returned = self.run(name, self.backward, [dout, user_cache], settings)
        except OpsError as error:
            if not is_missing:
                raise
            kind = type(error.__cause__).__name__
            text = f"{name} is missing, and the reference's cannot use this cache ({kind})"
            raise self.error(self.forward, f"{text}: write {name}") from error
        if not isinstance(cache, UserCache):
            return returned
        arrays, call = cache.arrays, self.fit.call(cache.arrays, cache.settings)
        names = self.names(len(arrays))
        gradients = self.gradients(returned, names, call.passed, arrays)
        if gradients[0] is None and settings.get("needs_dx") is False:
            arrays = None, *arrays[1:]  # no gradient of x is expected
        return tuple(
            self.gradient(gradients[k], names[k], arrays[k], cache.out) for k in range(len(arrays))
        )

    def names(self, count: int) -> list[str]:
        """Return the names of the op's arrays."""
        names = self.fit.arrays
        return names if len(names) >= count else [f"xs[{k}]" for k in range(count)]

    def gradients(
        self, returned: Any, names: Sequence[str], passed: Sequence[bool], arrays: Sequence[Any]
    ) -> list[Any]:
        """Return the results of a backward as a list with one gradient or None per array.

        backward may omit arguments without a gradient: arrays that forward does not take, None,
        labels and masks.
        """
        name = f"{self.op}_backward"
        own = [array for array, taken in zip(names, passed, strict=False) if taken]
        if returned is None and len(own) > 0:
            raise self.error(self.backward, f"{name} returns None: is there a return?")
        if isinstance(returned, dict):
            self.note(f"{name} returns a dict, expected a tuple")
            keys = {f"d{array}": array for array in own}
            values = {keys.get(key, key): value for key, value in returned.items()}
            if not values.keys() <= {*own}:
                received = ", ".join(one_line(str(key)) for key in sorted(returned, key=str))
                text = f"{name} returns {received}, expected {', '.join(keys)}"
                raise self.error(self.backward, text)
            return [values.get(array) for array in names]
        if not isinstance(returned, tuple):
            self.note(f"{name} returns {describe(returned, sized=False)}, expected a tuple")
        gradients = list(returned) if isinstance(returned, tuple | list) else [returned]
        is_float = [a is not None and a.dtype.kind in "fc" for a in arrays]
        taken = [*passed, *[False] * (len(names) - len(passed))]
        present = [take and a is not None for take, a in zip(taken, arrays, strict=True)]
        differentiable = [take and real for take, real in zip(taken, is_float, strict=True)]
        for has_gradient in ([True] * len(names), taken, present, differentiable):
            if len(gradients) == sum(has_gradient):
                if not all(has_gradient):
                    self.note(
                        f"{name} returns {_counted(len(gradients))}, the reference {len(names)}"
                    )
                rest = iter(gradients)
                return [next(rest) if has else None for has in has_gradient]
        expected = ", ".join(f"d{a}" for a, has in zip(names, differentiable, strict=True) if has)
        counts = f"{_counted(len(gradients))}, expected {_counted(sum(differentiable))}"
        text = f"{name} returns {counts}"
        raise self.error(self.backward, f"{text}: {expected}")

    def gradient(self, gradient: Any, name: str, array: Any, out: Any) -> Any:
        """Return the gradient of an array, converted to its shape and dtype."""
        if array is None or array.dtype.kind not in "fc":
            return None
        label = f"{self.op}_backward returns as d{name}"
        if gradient is None:
            expected = f"an array of shape {array.shape}"
            raise self.error(self.backward, f"{label} None, expected {expected}")
        return self.array(self.backward, gradient, _Expected(array.shape, array.dtype, None), label)

    def array(
        self, function: Callable[..., Any], value: Any, expected: "_Expected | None", label: str
    ) -> Any:
        """Return a result as an array of the expected shape and dtype."""
        if isinstance(value, int | float) and not isinstance(value, np.generic):
            value = np.asarray(value, np.float64 if expected is None else expected.dtype)
        if not isinstance(value, np.ndarray | np.generic) or value.dtype.kind not in "fciub":
            raise self.error(function, f"{label} {describe(value)}, expected an array")
        is_other = isinstance(value, np.ndarray) and type(value) is not np.ndarray
        if is_other and not getattr(value, "means_ndarray", False):  # as arrays that record a tape
            self.note(f"{label} {describe(value)}, expected numpy.ndarray")
            value = np.asarray(value)  # np.matrix and masked arrays have other semantics
        if expected is None:
            return value
        if value.shape != expected.shape:
            shapes = f"an array of shape {value.shape}, expected {expected.shape}"
            raise self.error(function, f"{label} {shapes}")
        if value.dtype == expected.dtype:
            return value
        if value.dtype.kind == "f" and value.dtype.itemsize < expected.dtype.itemsize:
            text = f"{label} {value.dtype}, expected {expected.dtype} as its inputs"
            raise self.error(function, f"{text}: precision is lost")
        self.note(f"{label} {value.dtype} for {expected.dtype} inputs")
        return value.astype(expected.dtype)

    def expected_out(self, arrays: tuple[Any, ...], settings: dict[str, Any]) -> "_Expected | None":
        """Return shape, dtype and cache class of the reference's result; cached."""
        key = (
            tuple(None if a is None else (a.shape, a.dtype.str) for a in arrays),
            repr([v for v in settings.items() if not isinstance(v[1], np.ndarray)]),
        )
        if key not in self.expected_outs:
            try:
                with np.errstate(all="ignore"):
                    forward = getattr(reference, f"{self.op}_forward")
                    out, cache = forward(*arrays, **settings)
                self.expected_outs[key] = _Expected(out.shape, out.dtype, type(cache))
            except (TypeError, ValueError):  # invalid arguments
                self.expected_outs[key] = None
        return self.expected_outs[key]

    def error(self, function: Callable[..., Any], text: str) -> OpsError:
        """Return an OpsError with the file and line of a function's definition."""
        return OpsError(f"{location_of(function, self.file)}: {text}")


class _Expected(NamedTuple):
    """Shape and dtype of an expected result; for out, the class of the cache too."""

    shape: tuple[int, ...]
    dtype: Any
    cache: Any


EXPECTED_PAIR = "expected the tuple (out, cache)"


def _counted(count: int) -> str:
    return f"{count} gradient{'' if count == 1 else 's'}"
