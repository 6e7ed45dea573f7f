"""One op of the user's, fitted to the contract where only the form differs.

A gradient that is not in a tuple, a float64 result of float32 inputs, a cache of any class, a batch
norm that keeps no running statistics: each difference is noted, for `minise check`. What cannot be
used is an OpsError, one line with the user's file and line.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minise.ops import reference
from minise.ops.shapes import check_gradient
from minise.ops.user.errors import OpsError, described, place_of, plain, run
from minise.ops.user.fit import Fit, Unfit, settings_taken

STATISTICS = ("training", "running_mean", "running_var")
OF_NORM = (*STATISTICS, "momentum", "eps")
OF_BACKWARD = ("plus", "needs_dx")  # settings of conv2d_backward, which a user's may lack
Hook = Callable[[str, Callable[..., Any]], Callable[..., Any]]  # name, function -> what is called


class Kept(NamedTuple):
    """A user's cache, with what forward was called with."""

    cache: Any
    arrays: tuple[Any, ...]
    settings: dict[str, Any]
    out: Any

    def __getattr__(self, name: str) -> Any:
        """Return the running statistics that layers read, also where the cache lacks them."""
        if name not in STATISTICS:
            raise AttributeError(f"a user's cache has no {name}")
        if hasattr(self.cache, name) or "training" not in self.settings:
            return getattr(self.cache, name)
        if name == "training":
            return self.settings["training"]
        settings = {key: self.settings[key] for key in OF_NORM if key in self.settings}
        _, cache = reference.batch_norm2d_forward(*self.arrays[:3], **settings)
        return getattr(cache, name)


def cache_of(cache: Any) -> Any:
    """Return what a user's forward returned as its cache; another cache is returned as it is."""
    return cache.cache if isinstance(cache, Kept) else cache


class Pair:
    """The two halves of one op, at least one of them the user's.

    Parameters
    ----------
    op : str
        Which.
    own : dict of str to callable
        The functions of the contract that the user's module has.
    file : Path
        Where it stands.
    hook : callable
        Is given the name and the function of a half, and returns what to call instead.

    Attributes
    ----------
    notes : dict of str to None
        What differs in form, in order; filled by calls.
    """

    def __init__(self, op: str, own: dict[str, Any], file: Path, hook: Hook) -> None:
        self.op, self.own, self.file, self.hook = op, own, file, hook
        self.notes: dict[str, None] = {}
        self.forward = own.get(f"{op}_forward", getattr(reference, f"{op}_forward"))
        self.backward = own.get(f"{op}_backward", getattr(reference, f"{op}_backward"))
        self.fit = Fit(op, self.forward)
        self.taken = settings_taken(self.backward, OF_BACKWARD)
        self.expected: dict[Any, Any] = {}
        for note in self.fit.notes:
            self.note(note)
        for half in ("forward", "backward"):
            if f"{op}_{half}" not in own:
                self.note(f"{op}_{half} is not defined: the reference's is called")

    def functions(self) -> dict[str, Callable[..., Any]]:
        """Return the op's functions, fitted to the contract."""

        def forward(*arrays: Any, **settings: Any) -> Any:
            return self.run_forward(arrays, settings)

        def backward(dout: Any, cache: Any, **settings: Any) -> Any:
            return self.run_backward(dout, cache, settings)

        forward.__wrapped__ = getattr(reference, f"{self.op}_forward")  # type: ignore[attr-defined]
        backward.__wrapped__ = self.backward  # type: ignore[attr-defined]
        found: dict[str, Any] = {f"{self.op}_forward": forward, f"{self.op}_backward": backward}
        branches = getattr(reference, f"{self.op}_branches", None)
        if branches is not None:
            found[f"{self.op}_branches"] = self.branches
        return found

    def run(
        self,
        name: str,
        function: Callable[..., Any],
        arguments: Sequence[Any],
        settings: dict[str, Any],
    ) -> Any:
        """Call one half of the op through the hook."""
        return run(function, self.file, arguments, settings, self.hook(name, function))

    def note(self, text: str) -> None:
        """Note a difference in form, once."""
        self.notes.setdefault(text)

    def branches(self, cache: Any) -> Any:
        """Return the sides of the op's kinks: the user's own, or the reference's at his inputs."""
        own = self.own.get(f"{self.op}_branches")
        if own is not None and not own.__module__.startswith("minise."):
            return run(own, self.file, [cache_of(cache)], {})
        branches = getattr(reference, f"{self.op}_branches")
        if not isinstance(cache, Kept):
            return branches(cache)
        forward = getattr(reference, f"{self.op}_forward")
        with np.errstate(all="ignore"):
            return branches(forward(*cache.arrays, **cache.settings)[1])

    def run_forward(self, arrays: tuple[Any, ...], settings: dict[str, Any]) -> Any:
        """Return out and the cache with what it was made of."""
        name = f"{self.op}_forward"
        try:
            call = self.fit.call(arrays, settings)
        except Unfit as error:
            raise self.error(self.forward, f"{name} {error}") from None
        returned = self.run(name, self.forward, call.arguments, call.keywords)
        if isinstance(returned, list) and len(returned) == 2:
            self.note(f"{name} returns a list, expected the tuple (out, cache)")
            returned = tuple(returned)
        if not isinstance(returned, tuple) or len(returned) != 2:
            raise self.error(self.forward, f"{name} returns {described(returned)}, {PAIR}")
        out, cache = returned
        wanted = self.wanted(arrays, settings)
        out = self.array(self.forward, out, wanted, f"{name} returns as out")
        if wanted is not None and type(cache) is not wanted.cache:
            kind, own = described(cache, sized=False), wanted.cache.__name__
            self.note(f"the cache is {kind}, the reference's is {own}")
        return out, Kept(cache, arrays, settings, out)

    def run_backward(self, dout: Any, cache: Any, settings: dict[str, Any]) -> Any:
        """Return one gradient for each of the op's arrays.

        A setting that the user's backward does not take is left out, and what plus would have
        added is added to dx here.
        """
        plus = settings.get("plus") if settings.get("needs_dx", True) else None
        if plus is not None and isinstance(cache, Kept):
            check_gradient(self.op, plus, cache.arrays[0], name="plus", of="x")
        passed = {key: settings[key] for key in settings if key in self.taken}
        gradients = self.gradients_of(dout, cache, passed)
        if plus is None or "plus" in passed:
            return gradients
        add = self.hook("add_forward", reference.add_forward)
        dx, *others = gradients
        return add(dx, plus)[0], *others

    def gradients_of(self, dout: Any, cache: Any, settings: dict[str, Any]) -> Any:
        """Return what backward returns, in the form that the contract has for it."""
        name = f"{self.op}_backward"
        inner = cache_of(cache)
        missing = name not in self.own and isinstance(cache, Kept)
        try:
            returned = self.run(name, self.backward, [dout, inner], settings)
        except OpsError as error:
            if not missing:
                raise
            kind = type(error.__cause__).__name__
            text = f"{name} is missing, and the reference's cannot use this cache ({kind})"
            raise self.error(self.forward, f"{text}: write {name}") from error
        if not isinstance(cache, Kept):
            return returned
        arrays, call = cache.arrays, self.fit.call(cache.arrays, cache.settings)
        names = self.names(len(arrays))
        found = self.gradients(returned, names, call.passed, arrays)
        if found[0] is None and settings.get("needs_dx") is False:
            arrays = None, *arrays[1:]  # no gradient is expected of x
        return tuple(
            self.gradient(found[k], names[k], arrays[k], cache.out) for k in range(len(arrays))
        )

    def names(self, count: int) -> list[str]:
        """Return the names of the op's arrays."""
        one = self.fit.arrays
        return one if len(one) >= count else [f"xs[{k}]" for k in range(count)]

    def gradients(
        self, returned: Any, names: Sequence[str], passed: Sequence[bool], arrays: Sequence[Any]
    ) -> list[Any]:
        """Return what a backward returned as one gradient, or None, for each array.

        It may leave out what has none: arrays that forward does not take, None, labels and masks.
        """
        name = f"{self.op}_backward"
        own = [one for one, taken in zip(names, passed, strict=False) if taken]
        if returned is None and len(own) > 0:
            raise self.error(self.backward, f"{name} returns None: is there a return?")
        if isinstance(returned, dict):
            self.note(f"{name} returns a dict, expected a tuple")
            keys = {f"d{one}": one for one in own}
            values = {keys.get(key, key): value for key, value in returned.items()}
            if not values.keys() <= {*own}:
                odd = ", ".join(plain(str(key)) for key in sorted(returned, key=str))
                raise self.error(self.backward, f"{name} returns {odd}, expected {', '.join(keys)}")
            return [values.get(one) for one in names]
        if not isinstance(returned, tuple):
            self.note(f"{name} returns {described(returned, sized=False)}, expected a tuple")
        found = list(returned) if isinstance(returned, tuple | list) else [returned]
        numbers = [a is not None and a.dtype.kind in "fc" for a in arrays]
        taken = [*passed, *[False] * (len(names) - len(passed))]
        some = [one and array is not None for one, array in zip(taken, arrays, strict=True)]
        both = [one and number for one, number in zip(taken, numbers, strict=True)]
        for chosen in ([True] * len(names), taken, some, both):
            if len(found) == sum(chosen):
                if not all(chosen):
                    self.note(
                        f"{name} returns {_counted(len(found))}, the reference's {len(names)}"
                    )
                rest = iter(found)
                return [next(rest) if one else None for one in chosen]
        expected = ", ".join(f"d{one}" for one, has in zip(names, both, strict=True) if has)
        text = f"{name} returns {_counted(len(found))}, expected {_counted(sum(both))}"
        raise self.error(self.backward, f"{text}: {expected}")

    def gradient(self, gradient: Any, name: str, array: Any, out: Any) -> Any:
        """Return the gradient of one array in its shape and dtype."""
        if array is None or array.dtype.kind not in "fc":
            return None
        what = f"{self.op}_backward returns as d{name}"
        if gradient is None:
            shape = f"an array of shape {array.shape}"
            raise self.error(self.backward, f"{what} None, expected {shape}")
        return self.array(self.backward, gradient, _Wanted(array.shape, array.dtype, None), what)

    def array(
        self, function: Callable[..., Any], value: Any, wanted: "_Wanted | None", what: str
    ) -> Any:
        """Return a result as an array of the shape and dtype that are wanted."""
        if isinstance(value, int | float) and not isinstance(value, np.generic):
            value = np.asarray(value, np.float64 if wanted is None else wanted.dtype)
        if not isinstance(value, np.ndarray | np.generic) or value.dtype.kind not in "fciub":
            raise self.error(function, f"{what} {described(value)}, expected an array")
        if isinstance(value, np.ndarray) and type(value) is not np.ndarray:
            self.note(f"{what} {described(value)}, expected numpy.ndarray")
            value = np.asarray(value)  # a matrix or a masked array computes by rules of its own
        if wanted is None:
            return value
        if value.shape != wanted.shape:
            shapes = f"an array of shape {value.shape}, expected {wanted.shape}"
            raise self.error(function, f"{what} {shapes}")
        if value.dtype == wanted.dtype:
            return value
        if value.dtype.kind == "f" and value.dtype.itemsize < wanted.dtype.itemsize:
            text = f"{what} {value.dtype}, expected {wanted.dtype} as its inputs"
            raise self.error(function, f"{text}: digits are lost")
        self.note(f"{what} {value.dtype} for {wanted.dtype} inputs")
        return np.asarray(value, wanted.dtype)

    def wanted(self, arrays: tuple[Any, ...], settings: dict[str, Any]) -> "_Wanted | None":
        """Return shape and dtype of the reference's out, which is run once for each such call."""
        key = (
            tuple(None if a is None else (a.shape, a.dtype.str) for a in arrays),
            repr([v for v in settings.items() if not isinstance(v[1], np.ndarray)]),
        )
        if key not in self.expected:
            try:
                with np.errstate(all="ignore"):
                    forward = getattr(reference, f"{self.op}_forward")
                    out, cache = forward(*arrays, **settings)
                self.expected[key] = _Wanted(out.shape, out.dtype, type(cache))
            except (TypeError, ValueError):  # the net's mistake, or the caller's
                self.expected[key] = None
        return self.expected[key]

    def error(self, function: Callable[..., Any], text: str) -> OpsError:
        """Return an error at the line where a function is defined."""
        return OpsError(f"{place_of(function, self.file)}: {text}")


class _Wanted(NamedTuple):
    shape: tuple[int, ...]
    dtype: Any
    cache: Any


PAIR = "expected the tuple (out, cache)"


def _counted(count: int) -> str:
    return f"{count} gradient{'' if count == 1 else 's'}"
