"""Run a case forward and backward on one back end, and store what the rules compare."""

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
    """An op breaks a rule of the contract; a note names the op and the case."""

    def __init__(self, rule: str, text: str, case: str) -> None:
        super().__init__(f"{rule}: {text}")
        self.rule = rule
        self.add_note(f"in {case}")


class Run(NamedTuple):
    """The arrays, settings and results of a case on one back end."""

    ops: Any
    case: Case
    inputs: list[Any]
    keywords: dict[str, Any]
    out: Any
    cache: Any
    dout: Array  # a NumPy array, in every back end
    gradients: tuple[Any, ...]
    snapshots: list[tuple[str, Any, Array]]  # name, array, and its copy before the op received it

    @property
    def dtype(self) -> Any:
        """The dtype of the floating-point inputs."""
        return next(a.dtype for a in self.inputs if a is not None and a.dtype.kind in "fc")

    @property
    def names(self) -> list[str]:
        """The names of the inputs."""
        return names_of(self.case.op, len(self.inputs))

    @property
    def is_numpy(self) -> bool:
        """True if the arrays of the back end are NumPy arrays."""
        return isinstance(self.out, np.ndarray)

    def broken(self, rule: str, text: str) -> Broken:
        """Return the exception for a rule that this run breaks, to raise."""
        pairs = zip(self.names, self.inputs, strict=True)
        omitted = [name for name, array in pairs if array is None]
        description = describe_case(self.case, self.dtype, omitted)
        return Broken(rule, text, f"{self.case.op}: {description}")

    def results(self, *, cache: bool = False) -> dict[str, Any]:
        """Return out, the gradients and, with cache=True, the arrays of the cache, by name."""
        gradients = zip((f"d{name}" for name in self.names), self.gradients, strict=True)
        cached = arrays_in(self.cache) if cache else ()
        return {"out": self.out, **dict(gradients), **dict(cached)}


def describe_case(case: Case, dtype: Any, omitted: Iterable[str]) -> str:
    """Return sizes, settings, omitted arrays and dtype as text."""
    without = f", without {', '.join(sorted(omitted))}" if omitted else ""
    return f"sizes {case.sizes}, settings {case.settings}{without}, {np.dtype(dtype)}"


def names_of(op: str, count: int) -> list[str]:
    """Return the names of an op's first `count` positional arrays."""
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
    """Run an op forward and backward; draw dout unless it is passed."""
    arrays = [to_back_end(ops, a) for a in inputs]
    settings = {name: to_back_end(ops, value) for name, value in keywords.items()}
    snapshots = _snapshots([*zip(names_of(case.op, len(arrays)), arrays, strict=True)])
    snapshots += _snapshots(settings.items())
    out, cache = getattr(ops, f"{case.op}_forward")(*arrays, **settings)
    dout = direction(host(out), rng, integers=integers) if dout is None else dout
    back_end_dout = to_back_end(ops, dout)
    snapshots += _snapshots([("dout", back_end_dout), ("out", out), *arrays_in(cache)])
    cache_copy = with_own_containers(cache)  # a backward may empty the lists in its cache
    gradients = getattr(ops, f"{case.op}_backward")(back_end_dout, cache_copy)
    return Run(ops, case, arrays, settings, out, cache, dout, gradients, snapshots)


def rerun(
    run: Run,
    *,
    inputs: list[Any] | None = None,
    keywords: dict[str, Any] | None = None,
    dout: Array | None = None,
) -> Run:
    """Run the same case again; inputs, keywords and dout, if passed, replace those of the run."""
    return run_case(
        run.ops,
        run.case,
        run.inputs if inputs is None else inputs,
        run.keywords if keywords is None else keywords,
        np.random.default_rng(0),
        dout=run.dout if dout is None else dout,
    )


def backward_of(run: Run, *, cache: Any = None, **settings: Any) -> Any:
    """Run only backward again, with another cache or extra settings if passed."""
    cache_copy = with_own_containers(run.cache if cache is None else cache)
    backward = getattr(run.ops, f"{run.case.op}_backward")
    return backward(to_back_end(run.ops, run.dout), cache_copy, **settings)


def laid_out(layout: str, value: Any) -> Any:
    """Return an array, or a container of arrays, in one of LAYOUTS; other values unchanged."""
    return mapped(value, lambda part: LAYOUTS[layout](part) if _is_numpy(part) else part)


def frozen(value: Any) -> Any:
    """Return an array, or a container of arrays, as read-only views."""

    def view_of(part: Any) -> Any:
        if not _is_numpy(part):
            return part
        view = part.view()
        view.flags.writeable = False
        return view

    return mapped(value, view_of)


def _is_numpy(value: Any) -> bool:
    return isinstance(value, np.ndarray)


def host_arguments(run: Run) -> tuple[list[Any], dict[str, Any]]:
    """Return the inputs and keywords of a run, with its arrays as NumPy arrays."""
    arrays = {k: host(v) if hasattr(v, "dtype") else v for k, v in run.keywords.items()}
    return [host(a) for a in run.inputs], arrays


def first_difference(first: Run, second: Run, *, bits: bool = False, cache: bool = False) -> str:
    """Return the name of the first result that differs between two runs, or "".

    With bits=True the comparison is bitwise; with cache=True it includes the arrays of the cache.
    """
    first_results, second_results = first.results(cache=cache), second.results(cache=cache)
    for name in {**first_results, **second_results}:
        a, b = host(first_results.get(name)), host(second_results.get(name))
        if a is None or b is None:
            equal = a is b
        else:
            equal = a.tobytes() == b.tobytes() if bits else equal_arrays(a, b)
        if not equal:
            return name
    return ""


def equal_arrays(a: Array, b: Array) -> bool:
    """Return True if two arrays are equal; NaN equals NaN."""
    return np.array_equal(a, b, equal_nan=a.dtype.kind in "fc")


def to_back_end(ops: Any, value: Any) -> Any:
    """Convert a NumPy array to an array of the back end; return any other value unchanged."""
    if not isinstance(value, np.ndarray) or not hasattr(ops, "asarray"):
        return value
    return ops.asarray(value)


def _snapshots(arrays: Iterable[tuple[str, Any]]) -> list[tuple[str, Any, Array]]:
    return [(name, a, np.array(host(a))) for name, a in arrays if hasattr(a, "dtype")]
