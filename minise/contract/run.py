"""A case run forward and backward on one back end, with what its rules compare."""

import inspect
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from minise.checks import Array
from minise.contract.case import Case, direction
from minise.gradcheck.slopes.arrays import arrays_in, host, mapped, with_own_containers
from minise.gradcheck.strategies.drawing import LAYOUTS
from minise.ops import reference
from minise.ops.shapes import positional_names


class Broken(AssertionError):
    """A rule that an op breaks; a note names the op and the case."""

    def __init__(self, rule: str, text: str, where: str) -> None:
        super().__init__(f"{rule}: {text}")
        self.rule = rule
        self.add_note(f"in {where}")


class Run(NamedTuple):
    """A case with its arrays, run on one back end."""

    ops: Any
    case: Case
    inputs: list[Any]
    keywords: dict[str, Any]
    out: Any
    cache: Any
    dout: Array  # NumPy's, whatever the arrays of the back end are
    gradients: tuple[Any, ...]
    before: list[tuple[str, Any, Array]]  # name, array and earlier copy of all that was passed

    @property
    def dtype(self) -> Any:
        """The dtype of the inputs that are floats."""
        return next(a.dtype for a in self.inputs if a is not None and a.dtype.kind in "fc")

    @property
    def names(self) -> list[str]:
        """The names of the inputs."""
        return names_of(self.case.op, len(self.inputs))

    @property
    def is_numpy(self) -> bool:
        """Whether the arrays of the back end are NumPy's."""
        return isinstance(self.out, np.ndarray)

    def broken(self, rule: str, text: str) -> Broken:
        """Return the error of a rule that this run breaks."""
        pairs = zip(self.names, self.inputs, strict=True)
        bare = [name for name, array in pairs if array is None]
        return Broken(rule, text, f"{self.case.op}: {in_words(self.case, self.dtype, bare)}")

    def results(self, *, cache: bool = False) -> dict[str, Any]:
        """Return out, the gradients and, if asked for, the arrays of the cache, by name."""
        gradients = zip((f"d{name}" for name in self.names), self.gradients, strict=True)
        held = arrays_in(self.cache) if cache else ()
        return {"out": self.out, **dict(gradients), **dict(held)}


def in_words(case: Case, dtype: Any, bare: Iterable[str]) -> str:
    """Return sizes, settings, the arrays that are left out, and the dtype, as text."""
    lacking = f", without {', '.join(sorted(bare))}" if bare else ""
    return f"sizes {case.sizes}, settings {case.settings}{lacking}, {np.dtype(dtype)}"


def names_of(op: str, count: int) -> list[str]:
    """Return the names of an op's arrays."""
    return positional_names(inspect.signature(getattr(reference, f"{op}_forward")), count)


def run_case(
    ops: Any,
    case: Case,
    inputs: list[Any],
    keywords: dict[str, Any],
    rng: np.random.Generator,
    *,
    integers: bool = False,
    dout: Array | None = None,
) -> Run:
    """Run an op forward and backward; a dout is drawn unless it is passed."""
    arrays = [as_own(ops, a) for a in inputs]
    settings = {name: as_own(ops, value) for name, value in keywords.items()}
    before = _copies([*zip(names_of(case.op, len(arrays)), arrays, strict=True)])
    before += _copies(settings.items())
    out, cache = getattr(ops, f"{case.op}_forward")(*arrays, **settings)
    dout = direction(host(out), rng, integers=integers) if dout is None else dout
    theirs = as_own(ops, dout)
    before += _copies([("dout", theirs), ("out", out), *arrays_in(cache)])
    own = with_own_containers(cache)  # a backward may empty a list of it
    gradients = getattr(ops, f"{case.op}_backward")(theirs, own)
    return Run(ops, case, arrays, settings, out, cache, dout, gradients, before)


def again(
    run: Run,
    *,
    inputs: list[Any] | None = None,
    keywords: dict[str, Any] | None = None,
    dout: Array | None = None,
) -> Run:
    """Run the same case once more, with other arrays or settings where some are passed."""
    return run_case(
        run.ops,
        run.case,
        run.inputs if inputs is None else inputs,
        run.keywords if keywords is None else keywords,
        np.random.default_rng(0),
        dout=run.dout if dout is None else dout,
    )


def backward_of(run: Run, *, cache: Any = None, **settings: Any) -> Any:
    """Run backward alone once more, with another cache or settings where some are passed."""
    own = with_own_containers(run.cache if cache is None else cache)
    return getattr(run.ops, f"{run.case.op}_backward")(as_own(run.ops, run.dout), own, **settings)


def laid_out(layout: str, value: Any) -> Any:
    """Return an array, or the arrays of a container, in one of LAYOUTS, other values as is."""
    return mapped(value, lambda part: LAYOUTS[layout](part) if _is_numpy(part) else part)


def frozen(value: Any) -> Any:
    """Return an array, or a container of arrays, as views that raise if written to."""

    def view_of(part: Any) -> Any:
        if not _is_numpy(part):
            return part
        view = part.view()
        view.flags.writeable = False
        return view

    return mapped(value, view_of)


def _is_numpy(value: Any) -> bool:
    return isinstance(value, np.ndarray)


def on_host(run: Run) -> tuple[list[Any], dict[str, Any]]:
    """Return the inputs and keywords of a run with NumPy's arrays."""
    arrays = {k: host(v) if hasattr(v, "dtype") else v for k, v in run.keywords.items()}
    return [host(a) for a in run.inputs], arrays


def differing(first: Run, second: Run, *, bits: bool = False, cache: bool = False) -> str:
    """Return the name of the first result that differs between two runs, or ""."""
    results, others = first.results(cache=cache), second.results(cache=cache)
    for name in {**results, **others}:
        a, b = host(results.get(name)), host(others.get(name))
        if a is None or b is None:
            equal = a is b
        else:
            equal = a.tobytes() == b.tobytes() if bits else equal_arrays(a, b)
        if not equal:
            return name
    return ""


def equal_arrays(a: Array, b: Array) -> bool:
    """Tell whether two arrays hold equal numbers; NaN is equal to NaN."""
    return np.array_equal(a, b, equal_nan=a.dtype.kind in "fc")


def as_own(ops: Any, value: Any) -> Any:
    """Return a NumPy array as an array of the back end, any other value as it is."""
    if not isinstance(value, np.ndarray) or not hasattr(ops, "asarray"):
        return value
    return ops.asarray(value)


def _copies(arrays: Iterable[tuple[str, Any]]) -> list[tuple[str, Any, Array]]:
    return [(name, a, np.array(host(a))) for name, a in arrays if hasattr(a, "dtype")]
